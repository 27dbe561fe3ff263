"""What the receiver's tests share: a configuration, and peers that are not ours."""

import os
import subprocess
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid
from pynetdicom import AE
from pynetdicom.association import Association
from temporalio.api.enums.v1 import EventType
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.service import RPCError, RPCStatusCode

from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Source
from clara_dicom_adapter.configuration.settings import ScpSettings, StorageSettings
from clara_dicom_adapter.dicom.tls_server import TlsServer
from clara_dicom_adapter.errors import StorageFull, TemporalUnavailable
from clara_dicom_adapter.receiver.acceptance import AssociationRequest, RejectReason
from clara_dicom_adapter.receiver.known import KnownCopy
from clara_dicom_adapter.receiver.listener import Listener
from clara_dicom_adapter.receiver.listeners import Keeper, listen_as_configured
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.receiver.reports import Report
from clara_dicom_adapter.receiver.scp import StorageScp
from clara_dicom_adapter.receiver.service import ReceiverService
from clara_dicom_adapter.receiver.space import SpaceGate
from clara_dicom_adapter.spool import Arrivals, AssociationFolder, Spool, SpoolRole
from clara_dicom_adapter.workflows.models import AssociationOutcome, HandOver, PinnedAeTitle

SECRET = "5e" * 32


class InThisProcess:
    """A listener without a process of its own, so that tests reach into it."""

    def __init__(self, settings: ScpSettings, arrivals: Arrivals, can_store: Callable[[], bool] = lambda: True) -> None:
        self._settings = settings
        self._arrivals = arrivals
        self._can_store = can_store
        self._places = Places.make()
        self._known: KnownCopy | None = None
        self._tls: TlsServer | None = None
        self._tls_port = 0
        self._listener: Listener | None = None

    @property
    def scp(self) -> StorageScp:
        assert self._listener is not None
        return self._listener.scp

    @property
    def port(self) -> int:
        return self.scp.port

    @property
    def tls_port(self) -> int:
        return self._tls_port

    @property
    def configured(self) -> int:
        return 1

    @property
    def pids(self) -> list[int]:
        return [os.getpid()]

    @property
    def listening(self) -> int:
        return int(self._listener is not None and self.scp.listening)

    def start(self, keeper: Keeper, known: KnownCopy | None) -> None:
        def tell(report: Report) -> bool:
            keeper.hear(0, report)
            return True

        self._listener = Listener(
            self._settings,
            self._arrivals,
            places=self._places,
            number=0,
            can_store=self._can_store,
            tell=tell,
        )
        if known is not None:
            self._listener.know(known)
        self._listener.use(self._tls)
        plain, secure = listen_as_configured(self._settings)
        self._tls_port = secure[0].getsockname()[1] if secure else 0
        self._listener.start(plain, secure)

    def use(self, tls: TlsServer) -> None:
        self._tls = tls
        if self._listener is not None:
            self._listener.use(tls)

    def know(self, known: KnownCopy) -> None:
        if self._listener is not None:
            self._listener.know(known)

    def stop(self, grace_seconds: float) -> None:
        if self._listener is not None:
            self._listener.stop(grace_seconds)


LOOPBACK = "127.0.0.1"
CT_IMAGE = UID("1.2.840.10008.5.1.4.1.1.2")
MR_IMAGE = UID("1.2.840.10008.5.1.4.1.1.4")
VERIFICATION = UID("1.2.840.10008.1.1")


class Configured:
    """A configuration in memory."""

    def __init__(self, timeout: float = 0.0, ignored: Sequence[str] = (), group_by: str = "0020,000D") -> None:
        self.entity = ClaraAeTitle(name="CLARA", ae_title="CLARA", ignored_sop_classes=tuple(ignored))
        self.ae = PinnedAeTitle(
            ae_title="CLARA", name="CLARA", processor="p", timeout_seconds=timeout, group_by=group_by
        )

    def revision(self) -> int:
        return 1

    def ae_titles(self) -> list[tuple[ClaraAeTitle, PinnedAeTitle]]:
        return [(self.entity, self.ae)]

    def sources(self) -> list[Source]:
        return [Source(ae_title=title, host_ip=LOOPBACK) for title in ("CT1", "STORESCU", "ECHOSCU")]


class Recorded:
    """Records in memory."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, str, str]] = []

    @contextmanager
    def together(self) -> Iterator["Recorded"]:
        yield self

    def accepted(self, association: LiveAssociation) -> None:
        self.lines.append((association.association_id, "accepted", association.calling_ae_title))

    def rejected(self, association_id: str, request: AssociationRequest, reason: RejectReason, at: datetime) -> None:
        self.lines.append((association_id, "rejected", reason.word))

    def ended(self, association: LiveAssociation, outcome: AssociationOutcome, at: datetime) -> None:
        self.lines.append((association.association_id, "ended", f"{outcome.value} {association.instances}"))


def instance(size: int = 64, *, study: str = "1.2.3.4", sop_class: str = CT_IMAGE, uid: str = "") -> Dataset:
    """A small instance with a file meta, as pynetdicom wants to send it."""
    ds = Dataset()
    ds.SOPClassUID = sop_class
    ds.SOPInstanceUID = uid or generate_uid()
    ds.StudyInstanceUID = study
    ds.SeriesInstanceUID = "1.2.3.4.5"
    ds.PatientName = "Secret^Patient"
    ds.PatientID = ""
    ds.add_new(0x7FE00010, "OW", b"\1" * (size + size % 2))
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return ds


def associate(
    port: int, *, host: str = LOOPBACK, calling: str = "CT1", called: str = "CLARA", pdu_length: int = 16382
) -> Association:
    ae = AE(ae_title=calling)
    for sop_class in (CT_IMAGE, MR_IMAGE):
        ae.add_requested_context(sop_class, ExplicitVRLittleEndian)
    ae.add_requested_context(VERIFICATION)
    return ae.associate(host, port, ae_title=called, max_pdu=pdu_length)


def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TCP_NODELAY": "1"}  # dcmtk otherwise waits 40 ms in each exchange
    arguments = [str(part) for part in command]
    return subprocess.run(arguments, env=environment, capture_output=True, text=True, timeout=60, check=False)


class Temporal:
    """A server that can be made unreachable for the one who is under test."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.gone = False
        self.attempts = 0

    async def connect(self) -> Client:
        self.attempts += 1
        if self.gone:
            raise TemporalUnavailable("nobody there")
        return self.client

    async def letters(self, workflow_id: str) -> list[HandOver]:
        """All signals that a workflow's newest run has had; no worker is needed to see them."""
        try:
            history = await self.client.get_workflow_handle(workflow_id).fetch_history()
        except RPCError as error:
            if error.status is RPCStatusCode.NOT_FOUND:
                return []
            raise
        signaled = [e for e in history.events if e.event_type == EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED]
        return [
            (
                await pydantic_data_converter.decode(
                    event.workflow_execution_signaled_event_attributes.input.payloads, [HandOver]
                )
            )[0]
            for event in signaled
        ]


async def nobody() -> Client:
    raise TemporalUnavailable("not in this test")


class Receiver:
    """A receiver service on a spool of its own."""

    def __init__(self, root: Path, configured: Configured, settings: ScpSettings) -> None:
        self.full = threading.Event()
        """Set: there is no space."""
        self.spool = Spool.open(root, SpoolRole.RECEIVER, durable=False)
        self.recorded = Recorded()

        def space() -> None:
            if self.full.is_set():
                raise StorageFull(str(root), 0, 1)

        self.can_store = SpaceGate(space)
        self.listener = InThisProcess(settings, Arrivals(self.spool.root, durable=False), self.can_store)
        self.service = ReceiverService(
            self.listener,
            StorageSettings(prepared_space_mb=0),
            self.spool,
            configuration=configured,
            associations=self.recorded,
            site_secret=lambda: SECRET,
            connect=nobody,
            tls=settings.tls,
            space=space,
        )

    @property
    def port(self) -> int:
        return self.service.port

    def folder(self) -> AssociationFolder:
        """The one association in the spool, once it has ended."""
        self.wait_until_closed()
        (folder,) = self.spool.associations()
        return folder

    def wait_until_closed(self) -> None:
        assert self.service._live.wait_until_none(10)

    def recorded_lines(self) -> list[str]:
        self.service.stop(5)
        return [f"{kind} {detail}" for _, kind, detail in self.recorded.lines]


@contextmanager
def receiving(root: Path, configured: Configured | None = None, **settings: object) -> Iterator[Receiver]:
    given = {"port": 0, "host": LOOPBACK, **settings}
    receiver = Receiver(root, configured or Configured(), ScpSettings.model_validate(given))
    receiver.service.start()
    try:
        yield receiver
    finally:
        receiver.service.stop(0)
        receiver.spool.close()
