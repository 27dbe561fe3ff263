"""A Storage SCP that writes what it gets to files: the demo's PACS where no Orthanc is installed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from pydicom.uid import UID
from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.events import Event

from clara_dicom_adapter.dicom.uids import is_usable

OUT_OF_RESOURCES = 0xA700  # PS3.4 table B.2-1
CANNOT_UNDERSTAND = 0xC000


@contextmanager
def serving(ae_title: str, host: str, port: int, folder: Path) -> Iterator[None]:
    """Serve; each instance becomes ``<SOP Instance UID>.dcm``."""
    folder.mkdir(parents=True, exist_ok=True)
    ae = AE(ae_title)
    ae.supported_contexts = AllStoragePresentationContexts
    handlers: list[Any] = [(evt.EVT_C_STORE, lambda event: _store(event, folder))]
    server = ae.start_server((host, port), block=False, evt_handlers=handlers)
    assert server is not None  # noqa: S101 - only a blocking server returns None
    try:
        yield
    finally:
        server.shutdown()


def _store(event: Event, folder: Path) -> int:
    request: Any = event.request
    uid = UID(str(request.AffectedSOPInstanceUID or ""))
    if not is_usable(uid):  # it becomes a file's name
        return CANNOT_UNDERSTAND
    partial = folder / f"{uid}.part"
    try:
        partial.write_bytes(event.encoded_dataset())
        partial.replace(folder / f"{uid}.dcm")
    except OSError:
        return OUT_OF_RESOURCES
    return 0x0000
