"""Settings of all tests."""

import signal

# Who starts the tests in the background may have Ctrl-C ignored, which processes hand on to those
# that they start; here it is pressed on purpose.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
