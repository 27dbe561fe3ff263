"""Keeps files prepared for the listeners, in the background."""

import os
import threading
from typing import Final

import structlog

from clara_dicom_adapter.spool import Preparer

log = structlog.get_logger("clara_dicom_adapter.receiver")

_PAUSE_SECONDS: Final = 0.5
_PAUSE_AFTER_ERROR_SECONDS: Final = 30.0
_NICENESS: Final = 10
_STOP_SECONDS: Final = 5.0


class Preparing:
    """A thread that has a :class:`~clara_dicom_adapter.spool.Preparer` make what is missing."""

    def __init__(self, preparer: Preparer) -> None:
        self._preparer = preparer
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="preparing", daemon=True)

    def start(self) -> None:
        """Begin; nobody may receive yet."""
        try:
            self._preparer.start()
        except OSError as error:
            log.warning("files_not_prepared", reason=str(error))
            return
        self._thread.start()

    def stop(self) -> None:
        """End."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(_STOP_SECONDS)

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICENESS)  # on Linux, of this thread alone
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                pause = 0.0 if self._preparer.step() else _PAUSE_SECONDS
            except OSError as error:  # without prepared files everything works, only slower
                log.warning("files_not_prepared", reason=str(error))
                pause = _PAUSE_AFTER_ERROR_SECONDS
