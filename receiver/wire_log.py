"""Logs what one association says, for ``logDimseDatasets`` and ``logDataPDUs``; none of it is done without them."""

from typing import Any, Final

import structlog

from clara_dicom_adapter.configuration.settings import ScpSettings
from clara_dicom_adapter.dicom import dataset_words
from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.dimse import StoreSink
from clara_dicom_adapter.receiver.pdata import P_DATA_TF, PDU_HEADER, PDV_HEADER

log = structlog.get_logger("clara_dicom_adapter.receiver")

_NAMES: Final = {
    0x0001: "C-STORE-RQ",
    0x8001: "C-STORE-RSP",
    0x0030: "C-ECHO-RQ",
    0x8030: "C-ECHO-RSP",
    0x0FFF: "C-CANCEL-RQ",
}


class WireLog:
    """What is logged of one association."""

    def __init__(self, settings: ScpSettings, **bound: Any) -> None:
        """Args:
        bound: What every line says, such as the peer.
        """
        self._datasets = settings.log_dimse_datasets
        self._pdus = settings.log_data_pdus
        self._patient_attributes = settings.log_patient_attributes
        self._log = log.bind(**bound)
        self._command = bytearray()

    @classmethod
    def wanted(cls, settings: ScpSettings, **bound: Any) -> "WireLog | None":
        """One, if anything is to be logged."""
        return cls(settings, **bound) if settings.log_dimse_datasets or settings.log_data_pdus else None

    def of_sink(self, sink: StoreSink) -> StoreSink:
        """The sink, with what goes into it logged."""
        return _LoggedSink(sink, self) if self._datasets else sink

    def received_pdu(self, length: int) -> None:
        """A P-DATA-TF PDU begins, this long behind its header."""
        self._pdu("received", length)

    def received_command(self, context_id: int, encoded: bytes) -> None:
        """A command set has come."""
        self.command("received", context_id, encoded)

    def sent(self, data: bytes) -> None:
        """Whole PDUs were sent; of the answers among them every one is a command set."""
        at = 0
        while at + PDU_HEADER.size <= len(data):
            kind, length = PDU_HEADER.unpack_from(data, at)
            begin, at = at + PDU_HEADER.size, at + PDU_HEADER.size + length
            if kind == P_DATA_TF:
                self._pdu("sent", length)
                self._sent_values(data[begin:at])

    def command(self, direction: str, context_id: int, encoded: bytes) -> None:
        """A command set, by its elements."""
        if not self._datasets:
            return
        try:
            field = commands.read(encoded).field
        except commands.CommandInvalid:
            field = 0
        self._log.info(
            "dimse_command",
            direction=direction,
            context_id=context_id,
            command=_NAMES.get(field, f"{field:04X}"),
            elements=dataset_words.describe(
                encoded, dataset_words.IMPLICIT_VR_LITTLE_ENDIAN, size=len(encoded), patient_attributes=False
            ),
        )

    def dataset(self, transfer_syntax_uid: str, head: bytes, size: int) -> None:
        """A dataset has come."""
        self._log.info(
            "dimse_dataset",
            direction="received",
            bytes=size,
            transfer_syntax_uid=transfer_syntax_uid,
            elements=dataset_words.describe(
                head, transfer_syntax_uid, size=size, patient_attributes=self._patient_attributes
            ),
        )

    def _pdu(self, direction: str, length: int) -> None:
        if self._pdus:
            self._log.info("data_pdu", direction=direction, size=length)

    def _sent_values(self, values: bytes) -> None:
        at = 0
        while at + PDV_HEADER.size <= len(values):
            length, context_id, control = PDV_HEADER.unpack_from(values, at)
            self._command += values[at + PDV_HEADER.size : at + 4 + length]
            at += 4 + length
            if control & commands.LAST:
                self.command("sent", context_id, bytes(self._command))
                self._command.clear()


class _LoggedSink:
    """Keeps the head of each dataset until it is complete."""

    def __init__(self, sink: StoreSink, wire_log: WireLog) -> None:
        self._sink = sink
        self._wire_log = wire_log
        self._syntax = ""
        self._head = bytearray()
        self._size = 0

    def begin(self, request: commands.StoreRequest, abstract_syntax: str, transfer_syntax: str) -> None:
        self._syntax, self._size = transfer_syntax, 0
        self._head.clear()
        self._sink.begin(request, abstract_syntax, transfer_syntax)

    def write(self, fragments: list[memoryview]) -> None:
        for fragment in fragments:
            self._size += len(fragment)
            self._head += fragment[: max(dataset_words.HEAD_BYTES - len(self._head), 0)]
        self._sink.write(fragments)

    def complete(self) -> tuple[int, str]:
        answer = self._sink.complete()
        self._wire_log.dataset(self._syntax, bytes(self._head), self._size)
        return answer

    def answered(self) -> None:
        self._sink.answered()
