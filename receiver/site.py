"""The site's secret: one for all nodes, from the records, with a copy in the spool's folder for when they are away."""

import threading
from collections.abc import Callable
from pathlib import Path

import structlog

from clara_dicom_adapter.errors import TransientError
from clara_dicom_adapter.spool.durable import write_file

log = structlog.get_logger("clara_dicom_adapter.receiver")


class SiteKeyUnavailable(TransientError):
    """The records cannot be reached and there is no copy of the site's secret: nothing can be addressed yet."""

    def __init__(self) -> None:
        super().__init__("the site's secret is in the records, and they cannot be reached")


class SiteKey:
    """The secret as bytes; asked for once."""

    def __init__(self, copy: Path, ask: Callable[[], str]) -> None:
        """Args:
        ask: Gives the secret in hex from the records, making one when there is none.
        """
        self._copy = copy
        self._ask = ask
        self._lock = threading.Lock()
        self._key: bytes | None = None

    def __call__(self) -> bytes:
        """The secret; raises SiteKeyUnavailable."""
        with self._lock:
            if self._key is None:
                self._key = self._find()
            return self._key

    def _find(self) -> bytes:
        kept = self._kept()
        try:
            key = bytes.fromhex(self._ask())
        except Exception as error:  # whatever a database driver raises
            if kept is None:
                raise SiteKeyUnavailable from error
            log.warning("site_key_from_copy", error=type(error).__name__)
            return kept
        if key != kept:
            write_file(self._copy, key.hex().encode(), durable=True, mode=0o600)
        return key

    def _kept(self) -> bytes | None:
        try:
            return bytes.fromhex(self._copy.read_text(encoding="ascii"))
        except (OSError, ValueError):
            return None
