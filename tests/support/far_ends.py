"""Who sends to a site and who gets its results, as far as a test wants to hold them in its hands."""

import threading
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pynetdicom import AE, AllStoragePresentationContexts, evt
from pynetdicom.association import Association
from pynetdicom.events import Event

from clara_dicom_adapter.dicom.part10 import read_meta


@dataclass
class Pacs:
    """A Storage SCP at the far end that remembers what it got."""

    received: Counter[str] = field(default_factory=Counter)
    port: int = 0
    answering: threading.Event = field(default_factory=threading.Event)
    """While it is not set, objects are taken and not answered."""
    patience: int | None = None
    """After how many objects in all it stops answering."""

    @contextmanager
    def serving(self) -> Iterator["Pacs"]:
        ae = AE("PACS")
        ae.supported_contexts = AllStoragePresentationContexts
        self.answering.set()
        lock = threading.Lock()

        def store(event: Event) -> int:
            request: Any = event.request
            with lock:
                self.received[str(request.AffectedSOPInstanceUID)] += 1
                if self.patience is not None and self.received.total() > self.patience:
                    self.patience = None
                    self.answering.clear()
            self.answering.wait()
            return 0x0000

        handlers: list[Any] = [(evt.EVT_C_STORE, store)]
        server = ae.start_server(("127.0.0.1", self.port), block=False, evt_handlers=handlers)
        assert server is not None
        assert server.socket is not None
        self.port = int(server.socket.getsockname()[1])
        try:
            yield self
        finally:
            server.shutdown()


class Modality:
    """A sender with an open association."""

    def __init__(
        self, association: Association, acknowledged: Callable[[str], None], unanswered: Callable[[str], None]
    ) -> None:
        self._association = association
        self._acknowledged = acknowledged
        self._unanswered = unanswered

    @property
    def port(self) -> int:
        """Its own."""
        socket: Any = self._association.dul.socket
        return int(socket.socket.getsockname()[1])

    def store(self, *files: Path) -> bool:
        """Send files one after the other; False as soon as one is not acknowledged."""
        for path in files:
            if not self._association.is_established:
                return False
            answer = self._association.send_c_store(path)
            if "Status" not in answer:
                self._unanswered(read_meta(path).sop_instance_uid)
                return False
            if answer.Status != 0x0000:
                return False
            self._acknowledged(read_meta(path).sop_instance_uid)
        return True

    def release(self) -> None:
        self._association.release()
