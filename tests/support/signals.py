"""Signals of processes that tests start."""

import signal


def heed() -> None:
    """As ``preexec_fn``: SIGINT and SIGHUP end it, even when this process was told to ignore them.

    A shell starts a background job that way, and so does nohup.
    """
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
