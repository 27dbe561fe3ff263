"""An accepted connection: pynetdicom's association with our verdict, our contexts, our store session and our limits."""

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol, cast

import structlog
from pynetdicom import AE, build_context, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation

from clara_dicom_adapter.configuration.settings import VerificationSettings
from clara_dicom_adapter.receiver import contexts
from clara_dicom_adapter.receiver.acceptance import AssociationRequest, Reject, RejectReason, canonical_address
from clara_dicom_adapter.receiver.connection import prepare
from clara_dicom_adapter.receiver.dimse import StoreSink
from clara_dicom_adapter.receiver.secure import SecureConnection, Securing
from clara_dicom_adapter.receiver.upper_layer import Limits, QuietAssociation
from clara_dicom_adapter.receiver.wire_log import WireLog
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")


class Session(StoreSink, Protocol):
    """One accepted association, as far as storing is concerned."""

    def end(self, outcome: AssociationOutcome) -> None:
        """The association is over; a second call does nothing."""
        ...


class Gatekeeper(Protocol):
    """Who decides on associations and opens sessions."""

    def decide(self, request: AssociationRequest) -> Session | Reject:
        """Decide, log and record; an accepted association counts from here on until its session ends."""
        ...


@dataclass(frozen=True)
class Serving:
    """How the connections to an address are served.

    Attributes:
        verification: Whether and in which transfer syntaxes C-ECHO is.
        connections: Those that are served; associations add and remove themselves.
        wire_log: What is logged of an association with a peer.
        securing: Makes TLS of connections; none: they are plain.
    """

    ae: AE
    address: AddressInformation
    gatekeeper: Gatekeeper
    limits: Limits
    verification: VerificationSettings
    connections: "set[ReceiverAssociation]"
    wire_log: Callable[[str], WireLog | None] = lambda _peer: None
    securing: Securing | None = None


class ReceiverAssociation(QuietAssociation):
    """One connection, from accept to close."""

    def __init__(self, serving: Serving, connection: socket.socket, peer: tuple[Any, ...]) -> None:
        prepare(connection, serving.limits)
        if serving.securing is not None:
            connection = serving.securing.secure(connection, canonical_address(peer[0]))
        super().__init__(serving.ae, connection, serving.limits)
        self._serving = serving
        self._session: Session | None = None
        self.over = threading.Event()
        """Set when nothing is done for it any more."""
        self.connection = connection
        self.acceptor.maximum_length = serving.ae.maximum_pdu_size
        self.acceptor.ae_title = serving.ae.ae_title
        self.acceptor.address_info = serving.address
        self.acceptor.implementation_class_uid = serving.ae.implementation_class_uid
        self.acceptor.implementation_version_name = serving.ae.implementation_version_name
        self.acceptor.supported_contexts = []
        self.requestor.address_info = AddressInformation(canonical_address(peer[0]), peer[1])
        self.bind(evt.EVT_REQUESTED, self._on_requested)
        self.bind(evt.EVT_ESTABLISHED, self._on_established)
        self.bind(evt.EVT_RELEASED, self._on_released)

    def run_reactor(self) -> None:
        """Serve the association, and end its session exactly once however that went."""
        try:
            super().run_reactor()
        except Exception:
            log.exception("association_failed", peer=self.requestor.address)
        finally:
            self._finish()

    def cut(self, outcome: AssociationOutcome) -> None:
        """Abort from outside, without waiting."""
        self.upper_layer.note(outcome)
        if isinstance(self.connection, SecureConnection):
            self.connection.leaving = True
        self.abort(block=False)

    def break_off(self) -> None:
        """Close the connection under a peer that keeps us waiting."""
        try:
            self.connection.shutdown(socket.SHUT_RDWR)
        except OSError:
            return  # closed already

    def _on_requested(self, _event: evt.Event) -> None:
        request = cast(A_ASSOCIATE, self.requestor.primitive)
        proposed = [_proposed(context) for context in request.presentation_context_definition_list]
        try:
            decision = self._serving.gatekeeper.decide(
                AssociationRequest(
                    calling_ae_title=self.upper_layer.calling_ae_title,
                    called_ae_title=self.upper_layer.called_ae_title,
                    peer=self.requestor.address,
                    services=contexts.services_of(proposed),
                )
            )
        except Exception:
            log.exception("verdict_failed", peer=self.requestor.address)
            decision = Reject(RejectReason.NOT_READY)
        if isinstance(decision, Reject):
            self.acse.send_reject(*decision.reason.codes)
            self.kill()
            return
        self._session = decision
        verification = self._serving.verification
        answers = contexts.answer(
            proposed,
            verification_enabled=verification.enabled,
            verification_syntaxes=verification.transfer_syntaxes,
        )
        self._support(request, answers)

    def _support(self, request: A_ASSOCIATE, answers: list[contexts.ContextAnswer]) -> None:
        # pynetdicom negotiates per abstract syntax, with the acceptor's order of transfer syntaxes. Ours is per context
        # and in the requestor's order: so each accepted context is left with the one syntax that was chosen for it.
        accepted = {answer.context_id: answer for answer in answers if answer.result is contexts.ContextResult.ACCEPTED}
        supported: dict[str, set[str]] = {}
        for context in request.presentation_context_definition_list:
            answer = accepted.get(cast(int, context.context_id))
            if answer is not None:
                context.transfer_syntax = [answer.transfer_syntax]
                supported.setdefault(answer.abstract_syntax, set()).add(answer.transfer_syntax)
        self.acceptor.supported_contexts = [
            build_context(abstract_syntax, sorted(syntaxes)) for abstract_syntax, syntaxes in supported.items()
        ]

    def _on_established(self, _event: evt.Event) -> None:
        if self._session is not None:
            self.upper_layer.store_to(self._session, self._serving.wire_log(self.requestor.address))

    def _on_released(self, _event: evt.Event) -> None:
        # all that was sent before A-RELEASE-RQ is stored and answered; waiting for the close would only delay hand-over
        if self._session is not None:
            self._session.end(AssociationOutcome.RELEASED)

    def _finish(self) -> None:
        self.upper_layer.kill_dul()
        self.upper_layer.close()
        self.break_off()
        if self._session is not None:
            self._session.end(self.upper_layer.ended_with or AssociationOutcome.ABORTED)
        self.connection.close()
        self._serving.connections.discard(self)
        self.over.set()


def _proposed(context: PresentationContext) -> contexts.ProposedContext:
    return contexts.ProposedContext(
        context_id=cast(int, context.context_id),
        abstract_syntax=str(context.abstract_syntax or ""),
        transfer_syntaxes=tuple(str(syntax) for syntax in context.transfer_syntax),
    )
