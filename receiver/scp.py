"""The Storage and Verification SCP of one process: decides on associations, opens sessions, and stops in order."""

import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime

import structlog
from pynetdicom import AE
from pynetdicom.transport import AddressInformation

from clara_dicom_adapter.configuration.settings import ScpSettings
from clara_dicom_adapter.dicom import uids
from clara_dicom_adapter.dicom.tls_server import TlsServer
from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.receiver.acceptance import (
    AssociationRequest,
    KnownAeTitle,
    KnownApplicationEntities,
    Load,
    Policy,
    Reject,
    RejectReason,
    verdict,
)
from clara_dicom_adapter.receiver.accepting import ReceiverServer
from clara_dicom_adapter.receiver.association import ReceiverAssociation, Serving
from clara_dicom_adapter.receiver.c_store import StoreSession
from clara_dicom_adapter.receiver.live import LiveAssociation, LiveAssociations
from clara_dicom_adapter.receiver.naming import Naming
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.receiver.reports import Accepted, Ended, Rejected, Report, TlsFailed
from clara_dicom_adapter.receiver.secure import Securing
from clara_dicom_adapter.receiver.upper_layer import Limits
from clara_dicom_adapter.receiver.wire_log import WireLog
from clara_dicom_adapter.spool import Arrivals, AssociationFacts, AssociationFolder, new_association_id
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

_ANY_AE_TITLE = "CLARA"
"""pynetdicom wants a name; every configured AE title is answered to."""
_CONNECTIONS_BEYOND = 64
"""Connections that may wait for their association request on top of the associations allowed."""
_ABORT_SECONDS = 2.0


@dataclass(frozen=True)
class ScpParts:
    """What the SCP works with.

    Attributes:
        number: Of the listener that this is.
        tell: Takes reports; must return at once.
    """

    arrivals: Arrivals
    places: Places
    number: int
    known: Callable[[], KnownApplicationEntities | None]
    can_store: Callable[[], bool]
    tell: Callable[[Report], object]


class StorageScp:
    """Receives into the spool, and reports."""

    def __init__(self, settings: ScpSettings, parts: ScpParts) -> None:
        self._settings = settings
        self._parts = parts
        self._policy = Policy(
            reject_unknown_sources=settings.reject_unknown_sources,
            verification_enabled=settings.verification.enabled,
            maximum_associations=settings.maximum_number_of_associations,
            maximum_of_caller=(
                settings.maximum_number_of_associations_per_source or settings.maximum_number_of_associations
            ),
        )
        self.live = LiveAssociations()
        self._naming = Naming(parts.arrivals.settle)
        self._securing = Securing(
            settings.association_idle_timeout_seconds, lambda failure: parts.tell(TlsFailed(failure.value))
        )
        self._owed: list[tuple[AssociationFolder, AssociationOutcome]] = []
        self._stopping = False
        self._connections: set[ReceiverAssociation] = set()
        self._servers: list[ReceiverServer] = []

    def use(self, tls: TlsServer | None) -> None:
        """Speak TLS with this certificate from the next association on."""
        self._securing.use(tls)

    def start(self, listening: Sequence[socket.socket], secure: Sequence[socket.socket] = ()) -> None:
        """Serve connections to sockets that listen already, and that other processes may serve too.

        Args:
            secure: Those on which TLS is spoken.
        """
        settings = self._settings
        ae = AE(ae_title=_ANY_AE_TITLE)
        ae.implementation_class_uid = uids.IMPLEMENTATION_CLASS_UID
        ae.implementation_version_name = uids.IMPLEMENTATION_VERSION_NAME
        ae.maximum_pdu_size = settings.maximum_pdu_length
        ae.maximum_associations = 1 << 30  # ours is enforced by the verdict, with its reason logged and recorded
        limits = Limits(
            request_seconds=settings.association_request_timeout_seconds,
            idle_seconds=settings.association_idle_timeout_seconds,
            write_seconds=settings.write_timeout_seconds,
            pdu_length=settings.maximum_pdu_length,
        )
        for each in (*listening, *secure):
            serving = Serving(
                ae,
                AddressInformation.from_tuple(each.getsockname()[:2]),
                gatekeeper=self,
                limits=limits,
                verification=settings.verification,
                connections=self._connections,
                wire_log=lambda peer: WireLog.wanted(settings, peer=peer),
                securing=self._securing if each in secure else None,
            )
            most = settings.maximum_number_of_associations + _CONNECTIONS_BEYOND
            server = ReceiverServer(serving, each, maximum_connections=most)
            self._servers.append(server)
            server.have_one_wait()

    @property
    def port(self) -> int:
        """The port that is listened on; known after :meth:`start`."""
        if not self._servers:
            raise RuntimeError("the SCP has not been started")
        return self._servers[0].port

    @property
    def listening(self) -> bool:
        """Whether connections are accepted, on every address."""
        return bool(self._servers) and all(server.open for server in self._servers) and not self._stopping

    def stop(self, grace_seconds: float) -> None:
        """Take no new association, give those in progress a time to finish, then abort them as our fault."""
        if not self._servers or self._stopping:
            return
        self._stopping = True
        for server in self._servers:
            server.shutdown()
        if not self.live.wait_until_none(grace_seconds):
            log.warning("aborting_associations", count=len(self.live))
        for connection in list(self._connections):
            connection.cut(AssociationOutcome.ADAPTER_STOPPED)
        self.live.wait_until_none(_ABORT_SECONDS)
        for connection in list(self._connections):
            connection.break_off()
        deadline = time.monotonic() + _ABORT_SECONDS
        for connection in list(self._connections):
            connection.over.wait(max(deadline - time.monotonic(), 0))

    def decide(self, request: AssociationRequest) -> StoreSession | Reject:
        """Decide on an association, log and record the decision once, and open its session."""
        live = LiveAssociation(
            association_id=new_association_id(),
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            peer=request.peer,
        )
        decision = self._verdict(request)
        if isinstance(decision, Reject):
            self._rejected(live.association_id, request, decision.reason)
            return decision
        self._accepted(live)
        return self._session(live, decision)

    def _verdict(self, request: AssociationRequest) -> KnownAeTitle | Reject:
        known = self._parts.known()
        if known is None or self._stopping:
            return Reject(RejectReason.NOT_READY)
        taken = self._parts.places.taken(request.calling_ae_title)
        load = Load(taken.altogether, self._parts.can_store(), of_caller=taken.by_caller)
        decision = verdict(request, known, self._policy, load)
        if isinstance(decision, Reject):
            return decision
        most = self._policy.maximum_associations, self._policy.maximum_of_caller
        if not self._parts.places.take(self._parts.number, request.calling_ae_title, *most):
            return Reject(RejectReason.TOO_MANY_ASSOCIATIONS)  # another process was faster
        return decision.ae

    def _accepted(self, live: LiveAssociation) -> None:
        self._parts.tell(Accepted(live.copy()))  # first: progress tells of what is registered, and must come after this
        self.live.put(live)
        log.info(
            "association_accepted",
            association_id=live.association_id,
            calling_ae_title=live.calling_ae_title,
            called_ae_title=live.called_ae_title,
            peer=live.peer,
        )

    def _rejected(self, association_id: str, request: AssociationRequest, reason: RejectReason) -> None:
        result, source, diagnostic = reason.codes
        log.warning(
            "association_rejected",
            association_id=association_id,
            calling_ae_title=request.calling_ae_title,
            called_ae_title=request.called_ae_title,
            peer=request.peer,
            reason=reason.word,
            reject_result=result,
            reject_source=source,
            reject_reason=diagnostic,
        )
        self._parts.tell(Rejected(association_id, request, reason.name, datetime.now(UTC)))

    def _session(self, live: LiveAssociation, ae: KnownAeTitle) -> StoreSession:
        facts = AssociationFacts(
            association_id=live.association_id,
            calling_ae_title=live.calling_ae_title,
            called_ae_title=live.called_ae_title,
            peer=live.peer,
            started_at=live.started_at,
            ae=ae.pinned,
        )

        def open_folder() -> AssociationFolder:
            # not before the first instance: an association that only verifies leaves nothing in the spool
            return self._parts.arrivals.begin_association(facts)

        return StoreSession(
            live,
            ae,
            open_folder=open_folder,
            can_store=self._parts.can_store,
            naming=self._naming,
            closed=self._closed,
        )

    def _closed(self, live: LiveAssociation, outcome: AssociationOutcome, owed: AssociationFolder | None) -> None:
        if owed is not None:
            self._owed.append((owed, outcome))
        self.live.remove(live.association_id)
        self._parts.places.give_back(self._parts.number, live.calling_ae_title)
        self._parts.tell(Ended(live.copy(), outcome, datetime.now(UTC)))

    def try_again(self) -> None:
        """Do what could not be done: write the outcomes of associations that have ended, and wait for connections."""
        for server in self._servers:
            server.have_one_wait()
        for entry in list(self._owed):
            folder, outcome = entry
            with suppress(OSError, AdapterError):  # told when it failed first; tried again
                folder.end(outcome)
                self._owed.remove(entry)
