"""A Storage SCU that does not limit the receiver: one association, or one connection of raw frames.

    python sender.py PORT FOLDER [--share 0/4] [--raw] [--each]

Every instance is one block of memory made before the clock starts, sent with one call, and the next one waits for the
response. It says ``ready`` on standard output, starts at a line on standard input, and says its figures as a line of
JSON; at the next line it releases. In between the receiver can be looked at with its associations still open.
Nothing but the standard library is imported, so that many of them start quickly.
"""

import argparse
import json
import socket
import struct
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CALLED, CALLING = "BENCH", "FAST"
LONGEST_PDU: Final = 131072
"""Offered and used at most, bytes after the PDU header; what dcmtk takes at most, too."""

_SECONDS: Final = 60
"""For each send and each response."""
_APPLICATION_CONTEXT: Final = "1.2.840.10008.3.1.1.1"  # PS3.7 annex A.2.1
_IMPLEMENTATION: Final = "2.25.313209114270226211246953414216417411"
_PDU: Final = struct.Struct(">BxI")
_DATA: Final = struct.Struct(">BxIIBB")
_ELEMENT: Final = struct.Struct("<HHI")
_RAW: Final = struct.Struct(">Q")
_ACCEPTED, _P_DATA, _RELEASE_RQ, _RELEASE_RP = 0x02, 0x04, 0x05, 0x06
_COMMAND, _LAST = 0x01, 0x02  # message control header, PS3.8 annex E.2
_META: Final = struct.Struct("<HH2sH")


@dataclass(frozen=True)
class Instance:
    """A part-10 file as the wire wants it."""

    sop_class_uid: str
    sop_instance_uid: str
    transfer_syntax_uid: str
    dataset: bytes


def read_instance(path: Path) -> Instance:
    """Read a file that the benchmark wrote itself: group 0002 begins with its right length."""
    content = path.read_bytes()
    at, values = 132 + 12, dict[int, str]()
    end = at + int.from_bytes(content[140:144], "little")
    while at < end:
        _, element, vr, length = _META.unpack_from(content, at)
        at += 8
        if vr == b"OB":
            length = int.from_bytes(content[at : at + 4], "little")
            at += 4
        values[element] = content[at : at + length].decode("latin-1").rstrip("\0 ")
        at += length
    return Instance(values[0x0002], values[0x0003], values[0x0010], content[end:])


class Association:
    """An association for instances of one SOP class in one transfer syntax; raises OSError when it is refused."""

    def __init__(self, port: int, sop_class_uid: str, transfer_syntax_uid: str) -> None:
        self.connection = _connect(port)
        self.connection.sendall(_request(sop_class_uid, transfer_syntax_uid))
        kind, answer = self._receive()
        if kind != _ACCEPTED:
            raise ConnectionRefusedError(f"the association was answered with PDU type {kind:02X}")
        self.longest_pdu = _longest_pdu(answer)

    def store(self, message_id: int, message: bytes | bytearray) -> None:
        """Send a C-STORE-RQ and wait for 0000; raises OSError for any other answer."""
        self.connection.sendall(message)
        command, last = b"", False
        while not last:
            kind, pdu = self._receive()
            if kind != _P_DATA:
                raise ConnectionAbortedError(f"the instance was answered with PDU type {kind:02X}")
            at = 0
            while at < len(pdu):
                length, _, control = struct.unpack_from(">IBB", pdu, at)
                command += pdu[at + 6 : at + 4 + length]
                last = bool(control & _LAST)
                at += 4 + length
        status, responded_to = _response(command)
        if (status, responded_to) != (0, message_id):
            raise ConnectionAbortedError(f"message {message_id} was answered {status:04X} to {responded_to}")

    def release(self) -> None:
        """End in order."""
        self.connection.sendall(_PDU.pack(_RELEASE_RQ, 4) + bytes(4))
        kind, _ = self._receive()
        if kind != _RELEASE_RP:
            raise ConnectionAbortedError(f"the release was answered with PDU type {kind:02X}")
        self.connection.close()

    def _receive(self) -> tuple[int, bytes]:
        kind, length = _PDU.unpack(_exactly(self.connection, _PDU.size))
        return kind, _exactly(self.connection, length)


def store_message(instance: Instance, message_id: int, longest_pdu: int) -> bytearray:
    """A whole C-STORE-RQ (PS3.7 section 9.3.1.1): a PDU with the command, then the dataset in PDUs of full length."""
    command = b"".join(
        (
            _element(0x0002, _uid(instance.sop_class_uid)),
            _element(0x0100, b"\1\0"),
            _element(0x0110, struct.pack("<H", message_id)),
            _element(0x0700, b"\0\0"),
            _element(0x0800, b"\1\0"),
            _element(0x1000, _uid(instance.sop_instance_uid)),
        )
    )
    command = _element(0x0000, struct.pack("<I", len(command))) + command
    piece = longest_pdu - 6
    message = bytearray(_data_pdu(_COMMAND | _LAST, command))
    view = memoryview(instance.dataset)
    for at in range(0, len(view), piece):
        message += _data_pdu(_LAST if at + piece >= len(view) else 0, view[at : at + piece])
    return message


def raw_message(path: Path) -> bytes:
    """A file as the raw receiver takes it: its length, its bytes."""
    content = path.read_bytes()
    return _RAW.pack(len(content)) + content


def _data_pdu(control: int, value: bytes | memoryview) -> bytes:
    return _DATA.pack(_P_DATA, len(value) + 6, len(value) + 2, 1, control) + value


def _element(element: int, value: bytes) -> bytes:
    return _ELEMENT.pack(0, element, len(value)) + value


def _uid(uid: str) -> bytes:
    return uid.encode() + b"\0" * (len(uid) % 2)


def _request(sop_class_uid: str, transfer_syntax_uid: str) -> bytes:
    """An A-ASSOCIATE-RQ with one presentation context, number 1 (PS3.8 section 9.3.2)."""
    context = b"\1\0\0\0" + _item(0x30, sop_class_uid.encode()) + _item(0x40, transfer_syntax_uid.encode())
    user = _item(0x51, struct.pack(">I", LONGEST_PDU)) + _item(0x52, _IMPLEMENTATION.encode())
    items = _item(0x10, _APPLICATION_CONTEXT.encode()) + _item(0x20, context) + _item(0x50, user)
    fixed = struct.pack(">H2x16s16s32x", 1, CALLED.ljust(16).encode(), CALLING.ljust(16).encode())
    return _PDU.pack(0x01, len(fixed) + len(items)) + fixed + items


def _item(kind: int, value: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(value)) + value


def _longest_pdu(answer: bytes) -> int:
    """What the acceptor takes, of an A-ASSOCIATE-AC; raises ConnectionRefusedError when it refused the context."""
    at, longest = 68, 0
    while at < len(answer):
        kind, length = struct.unpack_from(">BxH", answer, at)
        if kind == 0x21 and answer[at + 6] != 0:
            raise ConnectionRefusedError(f"the presentation context was refused: {answer[at + 6]}")
        if kind == 0x51:
            longest = struct.unpack_from(">I", answer, at + 4)[0]
        at += 4 if kind == 0x50 else 4 + length  # 0x50 is user information, whose items are inside
    return min(longest or LONGEST_PDU, LONGEST_PDU)


def _response(command: bytes) -> tuple[int, int]:
    """Status and Message ID Being Responded To of a C-STORE-RSP."""
    at, found = 0, dict[int, int]()
    while at + 8 <= len(command):
        _, element, length = _ELEMENT.unpack_from(command, at)
        if length == 2:
            found[element] = int.from_bytes(command[at + 8 : at + 10], "little")
        at += 8 + length
    return found[0x0900], found[0x0120]


def _connect(port: int) -> socket.socket:
    """A connection whose time limit is the kernel's: with Python's own, a large send wakes up for each piece."""
    connection = socket.create_connection(("127.0.0.1", port))
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for option in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        connection.setsockopt(socket.SOL_SOCKET, option, struct.pack("@ll", _SECONDS, 0))
    return connection


def _exactly(connection: socket.socket, length: int) -> bytes:
    received = connection.recv(length) if length else b""
    while len(received) < length:
        piece = connection.recv(length - len(received))
        if not piece:
            raise ConnectionResetError("the receiver closed the connection")
        received += piece
    return received


# ---- the process ----


def _say(what: str) -> None:
    print(what, flush=True)


def _wait() -> None:
    if not sys.stdin.readline():
        raise SystemExit("the benchmark is gone")


def _timed(send: Callable[[int, bytes | bytearray], None], messages: Sequence[bytes | bytearray]) -> None:
    """Send all when told to, with their numbers from 1; say how long each took; wait to be told to end."""
    _say("ready")
    _wait()
    seconds = []
    begun = before = time.monotonic()
    for number, message in enumerate(messages, 1):
        send(number, message)
        now = time.monotonic()
        seconds.append(now - before)
        before = now
    _say(json.dumps({"begun": begun, "ended": before, "responses": seconds}))
    _wait()


def send_in_one(port: int, paths: Sequence[Path]) -> None:
    """All in one association."""
    instances = [read_instance(path) for path in paths]
    association = Association(port, instances[0].sop_class_uid, instances[0].transfer_syntax_uid)
    longest = association.longest_pdu
    _timed(
        association.store, [store_message(instance, number, longest) for number, instance in enumerate(instances, 1)]
    )
    association.release()


def send_each(port: int, paths: Sequence[Path]) -> None:
    """Each in an association of its own, one after the other; the first, before the clock, is empty."""
    instances = [read_instance(path) for path in paths]
    context = instances[0].sop_class_uid, instances[0].transfer_syntax_uid
    first = Association(port, *context)
    first.release()

    def send(_number: int, message: bytes | bytearray) -> None:
        association = Association(port, *context)
        association.store(1, message)
        association.release()

    _timed(send, [store_message(instance, 1, first.longest_pdu) for instance in instances])


def send_raw(port: int, paths: Sequence[Path]) -> None:
    """To the raw receiver, which answers each frame with one byte."""
    with _connect(port) as connection:

        def send(_number: int, message: bytes | bytearray) -> None:
            connection.sendall(message)
            _exactly(connection, 1)

        _timed(send, [raw_message(path) for path in paths])


def send_raw_each(port: int, paths: Sequence[Path]) -> None:
    """To the raw receiver, each in a connection of its own."""

    def send(_number: int, message: bytes | bytearray) -> None:
        with _connect(port) as connection:
            connection.sendall(message)
            _exactly(connection, 1)

    _timed(send, [raw_message(path) for path in paths])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("port", type=int)
    parser.add_argument("folder", type=Path, help="part-10 files of one SOP class and one transfer syntax")
    parser.add_argument("--share", default="0/1", help="which of how many equal shares of the files")
    parser.add_argument("--raw", action="store_true", help="frames for the raw receiver")
    parser.add_argument("--each", action="store_true", help="an association for each instance")
    given = parser.parse_args()
    share, shares = map(int, given.share.split("/"))
    paths = sorted(given.folder.iterdir())[share::shares]
    raw, dicom = (send_raw_each, send_each) if given.each else (send_raw, send_in_one)
    (raw if given.raw else dicom)(given.port, paths)


if __name__ == "__main__":
    main()
