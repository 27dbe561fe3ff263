"""How the thread of an association is woken by another one."""

import os
import threading


class Bell:
    """Wakes a thread that waits in ``poll`` for :attr:`descriptor`; safe to ring when that thread has ended."""

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._closed = False

    def ring(self) -> None:
        """Wake the thread, now or when it next waits."""
        with self._lock:  # a descriptor that was closed may be somebody else's by now
            if not self._closed:
                os.eventfd_write(self.descriptor, 1)

    def silence(self) -> None:
        """The thread is awake; called by itself, after ``poll`` has said so."""
        os.eventfd_read(self.descriptor)

    def close(self) -> None:
        """Nobody waits any more; safe to repeat."""
        with self._lock:
            if not self._closed:
                self._closed = True
                os.close(self.descriptor)
