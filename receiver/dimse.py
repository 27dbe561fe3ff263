"""Which message may follow which, and what is answered: C-STORE to the store session, C-ECHO to whoever serves it.

How it works: the events of the parser (``pdata.py``) come in, the :class:`StoreSink` is called, replies go out through
``send``. Fragments of one buffer go to the sink in one call. While the sink flushes an instance to the disk nothing is
read from this peer; TCP holds it back.

No asynchronous operations window is ever agreed, so a peer has one request open at a time (PS3.7 annex D.3.3.3). One
that sends the next C-STORE-RQ before our reply is served all the same, one after the other and answered in order: the
order of the bytes leaves nothing to guess. Messages that are mixed with one another are not a protocol any more. A
C-CANCEL-RQ belongs to services with several responses (PS3.7 section 9.3), has no response of its own, and nothing of
ours could be cancelled: between messages it is passed over.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.contexts import VERIFICATION
from clara_dicom_adapter.receiver.pdata import AbortReason, Broken, CommandSet, Event, Fragment, OtherPdu


class StoreSink(Protocol):
    """What takes the instances of one association; knows nothing of pynetdicom."""

    def begin(self, request: commands.StoreRequest, abstract_syntax: str, transfer_syntax: str) -> None:
        """A C-STORE-RQ has come; its data set follows."""
        ...

    def write(self, fragments: list[memoryview]) -> None:
        """Some fragments of the data set, as they came; they are not valid any more when this returns."""
        ...

    def complete(self) -> tuple[int, str]:
        """The data set is complete: keep it and return status and comment of the C-STORE-RSP."""
        ...

    def answered(self) -> None:
        """The C-STORE-RSP has been sent: what it need not wait for is done now."""
        ...


class AcceptedContext(NamedTuple):
    """A presentation context that was accepted."""

    abstract_syntax: str
    transfer_syntax: str


@dataclass(frozen=True, slots=True)
class Echo:
    """A C-ECHO-RQ, for whoever serves Verification; nothing more may be read before it has been answered."""

    command: CommandSet


@dataclass(frozen=True, slots=True)
class Senseless:
    """What came cannot be served; the service user, which is us, aborts (PS3.8 table 9-26, source 0)."""

    text: str


Foreign = OtherPdu | Echo | Broken | Senseless
"""What does not concern storing."""


class StoreMessages:
    """The messages of one association."""

    def __init__(
        self,
        contexts: Mapping[int, AcceptedContext],
        sink: StoreSink,
        send: Callable[[bytes], None],
        *,
        maximum_pdu_length: int,
        told: Callable[[int, bytes], None] | None = None,
    ) -> None:
        """Args:
        send: Sends whole PDUs; OSError when the peer does not take them.
        maximum_pdu_length: What the peer takes; 0 is no limit.
        told: Told the context and the bytes of each command set.
        """
        self._contexts = contexts
        self._sink = sink
        self._send = send
        self._maximum_pdu_length = maximum_pdu_length
        self._told = told
        self._store: tuple[int, commands.StoreRequest] | None = None
        self._fragments: list[memoryview] = []

    def serve(self, events: Iterable[Event]) -> Foreign | None:
        """Serve what has come, up to the first thing that does not concern storing.

        Raises:
            OSError: A reply could not be sent; the instance it is about is stored.
        """
        try:
            for event in events:
                if isinstance(event, Fragment):
                    foreign = self._fragment(event)
                elif isinstance(event, CommandSet):
                    foreign = self._command(event)
                else:
                    foreign = event
                if foreign is not None:
                    return foreign
            return None
        finally:
            self._write()

    def _fragment(self, fragment: Fragment) -> Foreign | None:
        store = self._store
        if store is None or store[0] != fragment.context_id:
            return Broken(AbortReason.UNEXPECTED_PDU_PARAMETER, "a data set that nothing announced")
        self._fragments.append(fragment.data)
        if fragment.last:
            self._write()
            self._finish()
        return None

    def _write(self) -> None:
        if self._fragments:
            fragments, self._fragments = self._fragments, []
            self._sink.write(fragments)

    def _command(self, event: CommandSet) -> Foreign | None:
        if self._store is not None:
            return Broken(AbortReason.UNEXPECTED_PDU_PARAMETER, "a command within a data set")
        context = self._contexts.get(event.context_id)
        if context is None:
            return Broken(AbortReason.INVALID_PDU_PARAMETER_VALUE, "a presentation context that was not accepted")
        if self._told is not None:
            self._told(event.context_id, event.encoded)
        try:
            command = commands.read(event.encoded)
            if command.field == commands.C_STORE_RQ:
                self._begin(event.context_id, commands.store_request(command), context)
                return None
            if command.field == commands.C_ECHO_RQ and context.abstract_syntax == VERIFICATION:
                commands.check_echo_request(command, VERIFICATION)
                return Echo(event)
        except commands.CommandInvalid as invalid:
            return Senseless(f"command set: {invalid}")
        if command.field == commands.C_CANCEL_RQ and not command.has_data_set:
            return None
        # also keeps a data set that nobody wants from being gathered in memory
        return Senseless(f"command {command.field:04X} is no service of ours")

    def _begin(self, context_id: int, request: commands.StoreRequest, context: AcceptedContext) -> None:
        self._store = (context_id, request)
        self._sink.begin(request, context.abstract_syntax, context.transfer_syntax)
        if not request.has_data_set:
            self._finish()

    def _finish(self) -> None:
        if self._store is None:
            return
        (context_id, request), self._store = self._store, None
        status, comment = self._sink.complete()
        response = commands.store_response(request, status, comment)
        self._send(commands.p_data(context_id, response, self._maximum_pdu_length))
        self._sink.answered()
