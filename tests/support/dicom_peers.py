"""Storage SCPs that tests send to: dcmtk's, pynetdicom's, and one of a few lines that misbehaves on request."""

import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from pynetdicom import AE, evt
from pynetdicom.events import Event

from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import Peer


def tool(name: str, package: str = "dcmtk") -> str:
    """Path of a program of a Debian package; in CI its absence is a failure."""
    ours = Path(sys.prefix) / "bin"  # pynetdicom installs programs of the same names
    path = os.pathsep.join(folder for folder in os.get_exec_path() if Path(folder) != ours)
    found = shutil.which(name, path=path)
    if found is None:
        message = f"{name} is missing; install Debian package {package}"
        if os.environ.get("CI") == "true":
            pytest.fail(message)
        pytest.skip(message)
    return found


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def storescp(folder: Path, *options: str) -> Iterator[Peer]:
    """dcmtk's storescp, writing to ``folder``."""
    folder.mkdir(exist_ok=True)
    port = free_port()
    command = [tool("storescp"), "-od", str(folder), *options, str(port)]
    environment = {**os.environ, "TCP_NODELAY": "1"}
    with (folder.parent / f"{folder.name}.log").open("wb") as output:
        process = subprocess.Popen(command, env=environment, stdout=output, stderr=output)
    try:
        deadline = time.monotonic() + 60
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
                break
            assert process.poll() is None, "storescp ended"
            assert time.monotonic() < deadline, "storescp does not listen"
        yield Peer("STORESCP", "127.0.0.1", port)
    finally:
        process.terminate()
        process.wait(10)


@dataclass
class Received:
    """What a pynetdicom SCP got: dataset bytes by SOP Instance UID, and how often each came."""

    datasets: dict[str, bytes] = field(default_factory=dict)
    order: list[str] = field(default_factory=list)
    associations: int = 0


@contextmanager
def pynetdicom_scp(
    files: Sequence[Path],
    *,
    answer: Callable[[Event, int], int] = lambda _event, _number: 0x0000,
    refuse: Sequence[str] = (),
    port: int = 0,
    associations: int = 10,
) -> Iterator[tuple[Peer, Received]]:
    """pynetdicom's SCP for what ``files`` hold.

    Args:
        answer: Gives the status for the n-th C-STORE-RQ, counted from 1.
        refuse: SOP classes without a presentation context.
        associations: How many it takes at once; one more is rejected as transient.
    """
    received = Received()
    lock = threading.Lock()
    ae = AE("SCP")
    ae.maximum_pdu_size = 32768
    ae.maximum_associations = associations
    for file in files:
        meta = read_meta(file)
        if meta.sop_class_uid not in refuse:
            ae.add_supported_context(meta.sop_class_uid, meta.transfer_syntax_uid)
    ae.add_supported_context("1.2.840.10008.1.1")  # an AE without any context is refused by pynetdicom

    def store(event: Event) -> int:
        request: Any = event.request
        with lock:
            received.order.append(str(request.AffectedSOPInstanceUID))
            number = len(received.order)
        status = answer(event, number)
        if status in {0x0000, 0xB000}:
            received.datasets[str(request.AffectedSOPInstanceUID)] = request.DataSet.getvalue()
        return status

    def accepted(_event: Event) -> None:
        received.associations += 1

    handlers: list[Any] = [(evt.EVT_C_STORE, store), (evt.EVT_ACCEPTED, accepted)]
    server = ae.start_server(("127.0.0.1", port), block=False, evt_handlers=handlers)
    assert server is not None
    assert server.socket is not None
    try:
        yield Peer("SCP", "127.0.0.1", int(server.socket.getsockname()[1])), received
    finally:
        server.shutdown()


class ScriptedScp:
    """A Storage SCP that accepts every context and then does what ``behave`` says; C-STORE-RQs are only counted.

    It answers as early as a peer can: as soon as the last fragment has been read, in the same thread.
    """

    def __init__(self, behave: Callable[["ScriptedScp", int], bytes | None], *, pdu_length: int = 16384) -> None:
        self._behave = behave
        self._pdu_length = pdu_length
        self.instances: list[str] = []
        self.datasets: list[bytes] = []
        self.associations = 0
        self.aborts = 0
        self.longest_data_pdu = 0
        self.proposed: list[int] = []
        self.stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> "ScriptedScp":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.refuse_further()
        self._thread.join(10)

    def refuse_further(self) -> None:
        """Nobody listens any more; what goes on is not ended."""
        self.stopped.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    @property
    def peer(self) -> Peer:
        return Peer("SCRIPTED", "127.0.0.1", int(self._listener.getsockname()[1]))

    def _serve(self) -> None:
        while not self.stopped.is_set():
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            with connection, suppress(OSError, EOFError):
                connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                self._association(connection.makefile("rb"), connection)

    def _association(self, stream: Any, connection: socket.socket) -> None:
        command = dataset = b""
        while True:
            header = stream.read(6)
            if len(header) < 6:
                return
            kind, length = struct.unpack(">BxI", header)
            body = stream.read(length)
            if kind == 0x01:
                self.associations += 1
                connection.sendall(self._accept(body))
            elif kind == 0x05:
                connection.sendall(struct.pack(">BxI4x", 0x06, 4))
            elif kind == 0x07:
                self.aborts += 1
                return
            elif kind == 0x04:
                self.longest_data_pdu = max(self.longest_data_pdu, length)
                _, context, control = struct.unpack(">IBB", body[:6])
                if control & 1:
                    command += body[6:]
                else:
                    dataset += body[6:]
                if control == 2:
                    self.datasets.append(dataset)
                    elements = _elements(command)
                    message_id = elements[0x0110]
                    self.instances.append(elements[0x1000].rstrip(b"\0").decode())
                    answer = self._behave(self, len(self.instances))
                    if answer is None:
                        return
                    if answer:
                        connection.sendall(response(context, message_id, answer))
                    command = dataset = b""

    def _accept(self, body: bytes) -> bytes:
        """An A-ASSOCIATE-AC with every context of the request (PS3.8 section 9.3.3)."""
        items = body[68:]
        out = bytes((0x10, 0)) + struct.pack(">H", 21) + b"1.2.840.10008.3.1.1.1"
        at = count = 0
        while at < len(items):
            kind, length = struct.unpack_from(">BxH", items, at)
            item = items[at + 4 : at + 4 + length]
            if kind == 0x20:
                count += 1
                abstract = struct.unpack_from(">H", item, 6)[0]
                syntax = item[8 + abstract :]
                out += struct.pack(">BxHBxBx", 0x21, 4 + len(syntax), item[0], 0) + syntax
            at += 4 + length
        self.proposed.append(count)
        user = struct.pack(">BxHI", 0x51, 4, self._pdu_length) + struct.pack(">BxH", 0x52, 3) + b"1.2"
        out += struct.pack(">BxH", 0x50, len(user)) + user
        return struct.pack(">BxI", 0x02, 68 + len(out)) + body[:68] + out


def _elements(command: bytes) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    while command:
        _, element, length = struct.unpack_from("<HHI", command)
        found[element] = command[8 : 8 + length]
        command = command[8 + length :]
    return found


def response(context: int, message_id: bytes, status: bytes) -> bytes:
    """A C-STORE-RSP in one P-DATA-TF."""
    elements = b"".join(
        struct.pack("<HHI", 0, element, len(value)) + value
        for element, value in ((0x0100, b"\x01\x80"), (0x0120, message_id), (0x0800, b"\x01\x01"), (0x0900, status))
    )
    command = struct.pack("<HHII", 0, 0, 4, len(elements)) + elements
    return struct.pack(">BxIIBB", 0x04, len(command) + 6, len(command) + 2, context, 3) + command


SUCCESS = b"\0\0"
