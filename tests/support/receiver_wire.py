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
_IMPLICIT = "1.2.840.10008.1.2"


def association_request(calling: bytes, called: bytes = b"CLARA") -> bytes:
    """An A-ASSOCIATE-RQ that proposes CT Image Storage as context 1, with any bytes as AE titles."""
    primitive = A_ASSOCIATE()
    primitive.application_context_name = "1.2.840.10008.3.1.1.1"
    primitive.calling_ae_title = "X"
    primitive.called_ae_title = "Y"
    context = build_context(CT, _IMPLICIT)
    context.context_id = 1
    primitive.presentation_context_definition_list = [context]
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


def established(port: int, calling: bytes = b"CT1", called: bytes = b"CLARA") -> socket.socket:
    """A connection whose association has been accepted."""
    peer = socket.create_connection(("127.0.0.1", port), 10)
    peer.sendall(association_request(calling, called))
    header = peer.recv(6, socket.MSG_WAITALL)
    assert header[0] == 2, "the association was not accepted"
    peer.recv(struct.unpack(">I", header[2:])[0], socket.MSG_WAITALL)
    return peer


def store_message(sop_instance: str, size: int = 2, *, pdu_length: int = 4096) -> bytes:
    """A whole C-STORE-RQ with ``size`` bytes of data set, as its PDUs."""

    def element(number: int, value: bytes) -> bytes:
        value += b"\0" * (len(value) % 2)
        return struct.pack("<HHI", 0, number, len(value)) + value

    command = element(0x0002, CT.encode()) + element(0x0100, b"\1\0") + element(0x0110, b"\1\0")
    command += element(0x0800, b"\0\0") + element(0x1000, sop_instance.encode())
    pdus = _pdu(3, command)
    data, piece = bytes(size), pdu_length - 6
    for at in range(0, size, piece):
        pdus += _pdu(2 if at + piece >= size else 0, data[at : at + piece])
    return pdus


def _pdu(control: int, value: bytes) -> bytes:
    return struct.pack(">BxIIBB", 4, len(value) + 6, len(value) + 2, 1, control) + value
