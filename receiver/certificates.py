"""Keeps the certificate that senders are shown up to date, and says when it cannot be.

The files are looked at every second. What has changed is taken when it is right as a whole, so that neither half of a
pair nor a mistake gets into force: what was shown so far is shown until then. What is wrong is looked at again although
no file has changed, for time alone may mend it.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import structlog

from clara_dicom_adapter.configuration.certificates import Certificates, Problem, load
from clara_dicom_adapter.configuration.settings import ScpTlsSettings
from clara_dicom_adapter.dicom.tls_server import TlsServer

log = structlog.get_logger("clara_dicom_adapter.receiver")

LOOK_SECONDS: Final = 1.0
"""Pause between two looks; what has changed must look the same twice, because it may still be being written."""

_State = tuple[tuple[int, int, int] | None, ...]


class CertificateKeeper:
    """Looks after the files of settings that have TLS on."""

    def __init__(self, settings: ScpTlsSettings, changed: Callable[[TlsServer], None]) -> None:
        """Args:
        changed: Told what is in force; not before there is something that can be used.
        """
        self._settings = settings
        self._changed = changed
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="certificates", daemon=True)
        self._seen: _State = ()
        self._loaded: _State = ()
        self._in_force: Certificates | None = None
        self._problems: tuple[Problem, ...] = ()
        self._failed_with = ""

    def start(self) -> None:
        """Take what is there, even if it has expired, and look after it from now on."""
        self._loaded = self._seen = self._state()
        found = load(self._settings)
        self._problems = found.problems
        if found.tls is not None:
            self._take(found, found.tls)
        if found.problems:
            log.error("certificate_wrong", reason=_words(found.problems))
        self._thread.start()

    def stop(self) -> None:
        """Look no more."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def expires_at(self) -> float:
        """When the certificate in force ends, in seconds since the epoch; 0 when there is none."""
        return self._in_force.expiries[0].at.timestamp() if self._in_force else 0.0

    @property
    def warnings(self) -> list[str]:
        """What somebody should look after: files that were not taken, and what ends soon."""
        if self._in_force is None:
            return [f"no sender is served over TLS: {_words(self._problems)}"]
        wrong = {problem.key for problem in self._problems}
        expiring = [problem for problem in self._in_force.expiring() if problem.key not in wrong]
        return [_words([problem]) for problem in (*self._problems, *expiring)]

    def look(self, *, at_once: bool = False) -> None:
        """Look at the files.

        Args:
            at_once: Take what is there, whether it has changed or not.
        """
        with self._lock:
            state = self._state()
            is_settled, self._seen = state == self._seen, state
            if at_once or (is_settled and (state != self._loaded or self._problems)):
                self._renew()
                self._loaded = state

    def _watch(self) -> None:
        while not self._stopping.wait(LOOK_SECONDS):
            try:
                self.look()
            except Exception as error:  # the next look comes all the same
                if self._failed_with != repr(error):
                    log.exception("certificate_look_failed", path=str(self._settings.certificate_file))
                self._failed_with = repr(error)
            else:
                self._failed_with = ""

    def _renew(self) -> None:
        found = load(self._settings)
        known, self._problems = self._problems, found.problems
        if found.problems or found.tls is None:
            if found.problems != known:
                log.error("certificate_not_renewed", reason=_words(found.problems))
        elif self._in_force is None or found.tls != self._in_force.tls:
            self._take(found, found.tls)

    def _take(self, found: Certificates, tls: TlsServer) -> None:
        self._changed(tls)
        self._in_force = found
        log.info("certificate_taken", path=str(self._settings.certificate_file))

    def _state(self) -> _State:
        settings = self._settings
        return tuple(map(_state, (settings.certificate_file, settings.key_file, settings.ca_file)))


def _state(file: Path | None) -> tuple[int, int, int] | None:
    try:
        status = file.stat() if file else None
    except OSError:
        return None
    # the time of change, not of the contents: rights count too
    return (status.st_ino, status.st_ctime_ns, status.st_size) if status else None


def _words(problems: Sequence[Problem]) -> str:
    return "; ".join(f"dicom>scp>tls>{problem.key}: {problem.words}" for problem in problems)
