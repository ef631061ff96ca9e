"""What every test may rely on, however the suite was started."""

import signal

# A shell that starts a job in the background makes it ignore Ctrl-C, and its children too; tests about Ctrl-C need it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
