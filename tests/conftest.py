"""What every test may rely on, however the suite was started."""

import signal

# A shell makes a job in the background, and its children, ignore Ctrl-C; tests about Ctrl-C need it back.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
