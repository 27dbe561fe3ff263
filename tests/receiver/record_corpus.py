"""Records what real senders say to the receiver, for the fuzzer: run with ``PYTHONPATH=tests``.

Each file of ``corpus`` is one association as bytes, from the A-ASSOCIATE-RQ to the close. The objects are made up.
"""

import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from pydicom import dcmread
from pynetdicom import AE
from support.dcmtk import PROPOSE
from support.dicom_objects import CT, EXPLICIT, IMPLICIT, JPEG, make_encoded
from support.dicom_peers import tool
from support.orthanc import orthanc
from support.receiving import LOOPBACK, associate, receiving

from clara_dicom_adapter.dicom.sender import Peer, SendSettings, TimeLimits, send

CORPUS = Path(__file__).parent / "corpus"
SIZES = (4, 700, 6000)


@contextmanager
def recording(name: str, receiver: int) -> Iterator[int]:
    """The port of a proxy that keeps what one connection sends."""
    with socket.create_server((LOOPBACK, 0)) as listening:
        thread = threading.Thread(target=_record, args=(listening, receiver, CORPUS / f"{name}.bin"))
        thread.start()
        yield int(listening.getsockname()[1])
        thread.join()


def _record(listening: socket.socket, receiver: int, to: Path) -> None:
    sender, _ = listening.accept()
    with sender, socket.create_connection((LOOPBACK, receiver)) as ours, to.open("wb") as file:
        back = threading.Thread(target=_forward, args=(ours, sender))
        back.start()
        with suppress(ConnectionResetError):
            while data := sender.recv(65536):
                file.write(data)
                ours.sendall(data)
        with suppress(OSError):
            ours.shutdown(socket.SHUT_WR)
        back.join()


def _forward(source: socket.socket, target: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)


def _run(*command: str | Path, check: bool = True) -> None:
    subprocess.run(list(map(str, command)), check=check, capture_output=True, timeout=60)


def _with_dcmtk(receiver: int, folder: Path) -> None:
    titles = ("-aet", "CT1", "-aec", "CLARA", LOOPBACK)
    with recording("dcmtk-echoscu", receiver) as port:
        _run(tool("echoscu"), *titles, str(port))
    for syntax, word in ((EXPLICIT, "explicit"), (IMPLICIT, "implicit"), (JPEG, "jpeg")):
        files = make_encoded(folder / word, SIZES, (syntax,))
        with recording(f"dcmtk-storescu-{word}", receiver) as port:
            _run(tool("storescu"), "-R", PROPOSE[syntax], "--max-send-pdu", "4096", *titles, str(port), *files)


def _with_gdcm(receiver: int, files: list[Path]) -> None:
    with recording("gdcm", receiver) as port:
        gdcmscu = tool("gdcmscu", "libgdcm-tools")
        titles = ("--aetitle", "CT1", "--call", "CLARA")
        _run(gdcmscu, "--store", *titles, LOOPBACK, str(port), *files, check=False)  # 3.0.21 dies after it has released


def _with_orthanc(receiver: int, files: list[Path], folder: Path) -> None:
    with recording("orthanc", receiver) as port, orthanc(folder) as archive:
        archive.send(files, Peer("CLARA", LOOPBACK, port))


def _with_ours(receiver: int, files: list[Path]) -> None:
    with recording("ours", receiver) as port:
        settings = SendSettings("CT1", TimeLimits(connect=5, association=10, response=20), retries=0)
        send(files, Peer("CLARA", LOOPBACK, port), settings, lambda _result: None)


def _with_pynetdicom(receiver: int, files: list[Path]) -> None:
    with recording("pynetdicom-echo-and-store", receiver) as port:
        association = associate(port)
        association.send_c_echo()
        for file in files:
            association.send_c_store(dcmread(file))
        association.release()
    with recording("pynetdicom-aborts", receiver) as port:
        ae = AE("CT1")
        ae.add_requested_context(CT, [EXPLICIT, IMPLICIT])
        association = ae.associate(LOOPBACK, port, ae_title="CLARA", max_pdu=512)
        association.send_c_store(dcmread(files[1]))
        association.abort()


def main() -> None:
    CORPUS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        with receiving(root / "spool", reject_unknown_sources=False) as receiver:
            files = make_encoded(root / "files", SIZES, (EXPLICIT,))
            _with_dcmtk(receiver.port, root / "dcmtk")
            _with_gdcm(receiver.port, files)
            _with_orthanc(receiver.port, files, root / "orthanc")
            _with_ours(receiver.port, files)
            _with_pynetdicom(receiver.port, files)


if __name__ == "__main__":
    main()
