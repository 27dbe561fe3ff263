"""An accepted connection: pynetdicom's association with our verdict, our contexts, our store session and our limits."""

import errno
import socket
from collections.abc import Callable
from time import sleep
from typing import Any, Final, Protocol, cast

import structlog
from pynetdicom import AE, build_context, evt
from pynetdicom.pdu_primitives import A_ASSOCIATE
from pynetdicom.presentation import PresentationContext
from pynetdicom.transport import AddressInformation, AssociationServer

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

_NOTHING_LEFT: Final = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Why a connection that is there cannot be accepted; it stays there, so that who waits for one does not wait."""
_PAUSE_SECONDS: Final = 0.1


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


class ReceiverAssociation(QuietAssociation):
    """One connection, from accept to close."""

    def __init__(self, server: "ReceiverServer", connection: socket.socket, peer: tuple[Any, ...]) -> None:
        prepare(connection, server.limits)
        if server.securing is not None:
            connection = server.securing.secure(connection, canonical_address(peer[0]))
        super().__init__(server.ae, connection, server.limits)
        self._receiver = server
        self._session: Session | None = None
        self.name = f"AcceptorThread@{peer[0]}:{peer[1]}"  # pynetdicom finds its associations by this prefix
        self.connection = connection
        self.acceptor.maximum_length = server.ae.maximum_pdu_size
        self.acceptor.ae_title = server.ae_title
        self.acceptor.address_info = AddressInformation.from_tuple(server.server_address)
        self.acceptor.implementation_class_uid = server.ae.implementation_class_uid
        self.acceptor.implementation_version_name = server.ae.implementation_version_name
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
            decision = self._receiver.gatekeeper.decide(
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
        self._support(request, contexts.answer(proposed, **self._receiver.verification))

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
            self.upper_layer.store_to(self._session, self._receiver.wire_log(self.requestor.address))

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
        self._receiver.connections.discard(self)


class ReceiverServer(AssociationServer):
    """Listens, and makes a :class:`ReceiverAssociation` of each connection."""

    request_queue_size = 128

    def __init__(
        self,
        ae: AE,
        listening: socket.socket,
        *,
        gatekeeper: Gatekeeper,
        limits: Limits,
        verification: VerificationSettings,
        connections: set[ReceiverAssociation],
        maximum_connections: int,
        wire_log: Callable[[str], WireLog | None] = lambda _peer: None,
        securing: Securing | None = None,
    ) -> None:
        """Args:
        connections: Those of all addresses, which this server adds to.
        maximum_connections: How many there may be of them.
        wire_log: What is logged of an association with a peer.
        securing: Makes TLS of connections; none: they are plain.
        """
        self.gatekeeper = gatekeeper
        self.limits = limits
        self.verification: dict[str, Any] = {
            "verification_enabled": verification.enabled,
            "verification_syntaxes": frozenset(verification.transfer_syntaxes),
        }
        self.maximum_connections = maximum_connections
        self.wire_log = wire_log
        self.securing = securing
        self.connections = connections
        self._listening = listening
        self._short = False
        super().__init__(ae, listening.getsockname()[:2], ae.ae_title, [build_context(contexts.VERIFICATION)])

    def server_bind(self) -> None:
        """Take the socket that listens already."""
        cast(socket.socket, self.socket).close()
        self.socket = self._listening
        self.socket.setblocking(False)  # another process that serves it may be faster to accept

    def server_activate(self) -> None:
        """It listens already."""

    def get_request(self) -> Any:
        """Accept a connection; with nothing left to accept it with, it waits, and is not asked for all the time."""
        try:
            request = super().get_request()
        except OSError as error:
            if error.errno in _NOTHING_LEFT:
                if not self._short:
                    log.error("connections_not_accepted", reason=error.strerror)
                self._short = True
                sleep(_PAUSE_SECONDS)
            raise
        self._short = False
        return request

    def verify_request(self, request: Any, client_address: Any) -> bool:
        """Refuse a connection when even waiting for its association request would cost too much."""
        peer = canonical_address(client_address[0])
        if len(self.connections) < self.maximum_connections:
            return self.securing is None or self.securing.can_secure(peer)
        log.warning("connection_refused", peer=peer, count=len(self.connections))
        return False

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        association = ReceiverAssociation(self, request, client_address)
        self.connections.add(association)
        try:
            association.start()
        except RuntimeError:  # no more threads
            self.connections.discard(association)
            association.upper_layer.close()
            association.connection.close()
            raise

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong with one connection; the others go on."""
        log.exception("connection_failed", peer=canonical_address(client_address[0]))

    def service_actions(self) -> None:
        """Without pynetdicom's regular garbage collection: sockets are closed explicitly here."""

    def shutdown(self) -> None:
        """Stop listening; open associations go on."""
        super(AssociationServer, self).shutdown()
        self.server_close()

    def server_close(self) -> None:
        """Only let go of the socket: to shut it down would end listening for all who share it."""
        cast(socket.socket, self.socket).close()


def _proposed(context: PresentationContext) -> contexts.ProposedContext:
    return contexts.ProposedContext(
        context_id=cast(int, context.context_id),
        abstract_syntax=str(context.abstract_syntax or ""),
        transfer_syntaxes=tuple(str(syntax) for syntax in context.transfer_syntax),
    )
