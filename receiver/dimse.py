"""Where pynetdicom's P-DATA meets our store session: C-STORE streams by, everything else goes the stock way.

How it works: pynetdicom hands each P-DATA primitive to the association's DIMSE provider, in the thread that reads the
socket. Ours takes the fragments of a C-STORE straight to the :class:`StoreSink` and answers from the same thread, so
that an instance is never gathered in memory and never waits for another thread. While the sink flushes an instance
to the disk nothing is read from this peer; TCP holds it back.
"""

from typing import Protocol, cast

import structlog
from pynetdicom.association import Association
from pynetdicom.dimse import DIMSEServiceProvider
from pynetdicom.pdu_primitives import P_DATA

from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.contexts import VERIFICATION

log = structlog.get_logger("clara_dicom_adapter.receiver")


class StoreSink(Protocol):
    """What takes the instances of one association; knows nothing of pynetdicom."""

    def begin(self, request: commands.StoreRequest, abstract_syntax: str, transfer_syntax: str) -> None:
        """A C-STORE-RQ has come; its data set follows."""
        ...

    def write(self, fragment: bytes | memoryview) -> None:
        """One fragment of the data set, as it came."""
        ...

    def complete(self) -> tuple[int, str]:
        """The data set is complete: keep it and return status and comment of the C-STORE-RSP."""
        ...


class _ProtocolBroken(Exception):
    """What came cannot follow what came before; the association is aborted."""


class StoreDimse(DIMSEServiceProvider):
    """DIMSE provider of an association that stores."""

    def __init__(self, assoc: Association) -> None:
        super().__init__(assoc)
        self.sink: StoreSink | None = None
        """Set when the association is accepted."""
        self.log_commands = False
        self._command = bytearray()
        self._store: tuple[int, commands.StoreRequest] | None = None

    def receive_primitive(self, primitive: P_DATA) -> None:
        """Take the PDVs of one P-DATA."""
        try:
            for context_id, data in primitive.presentation_data_value_list:
                if not data:
                    raise _ProtocolBroken("a PDV without a control header")
                self._take(context_id, data[0], memoryview(data)[1:])
        except (_ProtocolBroken, commands.CommandInvalid) as broken:
            log.warning("protocol_broken", reason=str(broken), peer=self.assoc.requestor.address)
            self.dul.event_queue.put("Evt19")  # PS3.8 table 9-10: unrecognised or invalid PDU, so we abort

    def _take(self, context_id: int, control: int, fragment: memoryview) -> None:
        last = bool(control & commands.LAST)
        if control & commands.COMMAND:
            if self._store is not None:
                raise _ProtocolBroken("a command within a data set")
            self._command += fragment
            if len(self._command) > commands.MAXIMUM_COMMAND_LENGTH:
                raise _ProtocolBroken("a command set without end")
            if last:
                encoded, self._command = bytes(self._command), bytearray()
                self._obey(context_id, encoded)
            return
        if self._store is None or self.sink is None or self._store[0] != context_id:
            raise _ProtocolBroken("a data set that nothing announced")
        self.sink.write(fragment)
        if last:
            self._finish()

    def _obey(self, context_id: int, encoded: bytes) -> None:
        command = commands.read(encoded)
        if self.log_commands:
            log.info("dimse_command", command=f"{command.field:04X}", size=len(encoded))
        context = self.assoc._accepted_cx.get(context_id)
        if context is None or self.sink is None:
            raise _ProtocolBroken("a presentation context that was not accepted")
        if command.field == commands.C_ECHO_RQ and not command.has_data_set and context.abstract_syntax == VERIFICATION:
            whole = P_DATA()
            whole.presentation_data_value_list.append(
                (context_id, bytes((commands.COMMAND | commands.LAST,)) + encoded)
            )
            super().receive_primitive(whole)
            return
        if command.field != commands.C_STORE_RQ:
            # also keeps a data set that nobody wants from being gathered in memory
            raise _ProtocolBroken(f"command {command.field:04X} is no service of ours")
        request = commands.store_request(command)
        self._store = (context_id, request)
        self.sink.begin(request, str(context.abstract_syntax), str(context.transfer_syntax[0]))
        if not request.has_data_set:
            self._finish()

    def _finish(self) -> None:
        context_id, request = cast("tuple[int, commands.StoreRequest]", self._store)
        status, comment = cast(StoreSink, self.sink).complete()
        self._store = None
        response = commands.store_response(request, status, comment)
        for fragment in commands.fragments(response, self.maximum_pdu_size):
            answer = P_DATA()
            answer.presentation_data_value_list.append((context_id, fragment))
            self.dul.send_pdu(answer)
