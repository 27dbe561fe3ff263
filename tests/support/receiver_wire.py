"""A sender as bytes: for what no library would send."""

import socket
import struct

from pynetdicom.pdu import A_ASSOCIATE_RQ
from pynetdicom.pdu_primitives import (
    A_ASSOCIATE,
    ImplementationClassUIDNotification,
    MaximumLengthNotification,
)
from pynetdicom.presentation import build_context

CT = "1.2.840.10008.5.1.4.1.1.2"
VERIFICATION = "1.2.840.10008.1.1"
_STUDY_ROOT_FIND = "1.2.840.10008.5.1.4.1.2.2.1"
_IMPLICIT = "1.2.840.10008.1.2"
RELEASE_REQUEST = b"\5\0\0\0\0\4\0\0\0\0"


def association_request(calling: bytes, called: bytes = b"CLARA") -> bytes:
    """An A-ASSOCIATE-RQ for CT Image Storage (contexts 1 and 3), Verification (5) and what is refused: a query (7).

    With any bytes as AE titles.
    """
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "X"
    primitive.called_ae_title = "Y"
    proposed = [build_context(syntax, _IMPLICIT) for syntax in (CT, CT, VERIFICATION, _STUDY_ROOT_FIND)]
    for number, context in enumerate(proposed):
        context.context_id = 2 * number + 1
    primitive.presentation_context_definition_list = proposed
    length, implementation = MaximumLengthNotification(), ImplementationClassUIDNotification()
    length.maximum_length_received = 16384
    implementation.implementation_class_uid = "1.2.3"
    primitive.user_information = [length, implementation]
    pdu = A_ASSOCIATE_RQ()
    pdu.from_primitive(primitive)
    encoded = bytearray(pdu.encode())
    encoded[10:26] = called.ljust(16)
    encoded[26:42] = calling.ljust(16)
    return bytes(encoded)


def established(port: int, calling: bytes = b"CT1", called: bytes = b"CLARA", *, seconds: float = 10) -> socket.socket:
    """A connection whose association has been accepted; whatever it waits for may take so many seconds."""
    peer = socket.create_connection(("127.0.0.1", port), seconds)
    peer.sendall(association_request(calling, called))
    kind, _ = read_pdu(peer)
    if kind == 0:
        raise ConnectionError("the connection has ended")
    assert kind == 2, "the association was not accepted"
    return peer


def store_message(sop_instance: str, size: int = 2, *, pdu_length: int = 4096, context_id: int = 1) -> bytes:
    """A whole C-STORE-RQ with ``size`` bytes of data set, as its PDUs."""
    return message_with(sop_instance, bytes(size), pdu_length=pdu_length, context_id=context_id)


def message_with(sop_instance: str, data: bytes, *, pdu_length: int = 4096, context_id: int = 1) -> bytes:
    """A whole C-STORE-RQ with this data set, as its PDUs."""
    piece = pdu_length - 6
    pdus = (
        p_data(pdv(context_id, 2 if at + piece >= len(data) else 0, data[at : at + piece]))
        for at in range(0, len(data), piece)
    )
    return p_data(pdv(context_id, 3, store_command(sop_instance))) + b"".join(pdus)


def store_command(sop_instance: str, *, data_set: bool = True, message_id: int = 1) -> bytes:
    """The command set of a C-STORE-RQ."""
    return command_set(
        element(0x0002, CT.encode()),
        element(0x0100, b"\1\0"),
        element(0x0110, struct.pack("<H", message_id)),
        element(0x0800, b"\0\0" if data_set else b"\1\1"),
        element(0x1000, sop_instance.encode()),
    )


def command_set(*elements: bytes) -> bytes:
    """Elements of group 0000 behind their group length."""
    body = b"".join(elements)
    return element(0x0000, struct.pack("<I", len(body))) + body


def element(number: int, value: bytes, *, length: int | None = None) -> bytes:
    """One element of a command set, with a length that may lie."""
    value += b"\0" * (len(value) % 2)
    return struct.pack("<HHI", 0, number, len(value) if length is None else length) + value


def pdv(context_id: int, control: int, data: bytes, *, length: int | None = None) -> bytes:
    """One PDV, with a length that may lie."""
    return struct.pack(">IBB", len(data) + 2 if length is None else length, context_id, control) + data


def p_data(*pdvs: bytes, length: int | None = None) -> bytes:
    """One P-DATA-TF PDU, with a length that may lie."""
    body = b"".join(pdvs)
    return struct.pack(">BxI", 4, len(body) if length is None else length) + body


def read_pdu(peer: socket.socket) -> tuple[int, bytes]:
    """Type and body of the next PDU; type 0 when the connection has ended."""
    header = peer.recv(6, socket.MSG_WAITALL)
    if len(header) < 6:
        return 0, header
    return header[0], peer.recv(struct.unpack(">I", header[2:])[0], socket.MSG_WAITALL)


def store_response(peer: socket.socket) -> tuple[str, int]:
    """SOP instance and status of the C-STORE-RSP that comes next."""
    kind, body = read_pdu(peer)
    if kind == 0:
        raise ConnectionError("the connection has ended")
    assert kind == 4, f"PDU {kind}: {body!r}"
    elements: dict[int, bytes] = {}
    at = 6
    while at < len(body):
        _, number, length = struct.unpack_from("<HHI", body, at)
        elements[number] = body[at + 8 : at + 8 + length]
        at += 8 + length
    return elements[0x1000].decode().rstrip("\0"), int.from_bytes(elements[0x0900], "little")
