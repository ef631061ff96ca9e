"""What every test may rely on, however the suite was started."""

import signal

from hypothesis import HealthCheck, settings

# A shell makes a job in the background, and its children, ignore Ctrl-C; tests about Ctrl-C need it back.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# How long an example takes on a busy machine says nothing about the program.
settings.register_profile("certctl", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("certctl")
