"""The receivers that ours is measured beside, each started in a folder of its own."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clara_dicom_adapter.temporal.building import NotBuilt
from receivers.dicom_rs import built
from receivers.process import LeftOut, Receiver, free_port, start

_HERE: Final = Path(__file__).parent
_PDU: Final = "131072"
_DCMTK_ENVIRONMENT: Final = {"TCP_NODELAY": "1"}
"""Without it Debian's dcmtk, which Orthanc uses as well, waits 44 ms between the two segments of each response."""
DCM4CHE: Final = "its distribution is neither in Debian nor in Maven Central; get it from https://www.dcm4che.org"


@dataclass(frozen=True)
class Load:
    """What a receiver is about to be sent, as far as it is started differently for it."""

    associations: int
    each: bool = False


@dataclass(frozen=True)
class Peer:
    """How to start a receiver, and where it leaves what it has received.

    Attributes:
        program: Makes or finds the program; raises LeftOut with what a person can do about it.
        run: Starts it with the program, in an empty folder.
    """

    name: str
    program: Callable[[Path], Path]
    run: Callable[[Path, Path, Load], Receiver]
    received: Callable[[Path], Iterable[Path]] = field(default=lambda folder: folder.rglob("*"))
    raw: bool = False

    def files(self, folder: Path) -> list[Path]:
        """What lies in the folder of a run."""
        return [path for path in self.received(folder) if path.is_file()]


def installed(program: str, package: str) -> Callable[[Path], Path]:
    """Finds a program of a Debian package."""

    def find(_cache: Path) -> Path:
        ours = Path(sys.prefix) / "bin"  # pynetdicom installs programs of dcmtk's names
        path = os.pathsep.join(entry for entry in os.get_exec_path() if Path(entry) != ours)
        found = shutil.which(program, path=f"{path}{os.pathsep}/usr/sbin")
        if found is None:
            raise LeftOut(f"{program} is not there: apt-get install {package}")
        return Path(found)

    return find


# ---- dcmtk ----


def _dcmtk(*options: str) -> Callable[[Path, Path, Load], Receiver]:
    def run(program: Path, folder: Path, load: Load) -> Receiver:
        received, port = folder / "received", free_port()
        received.mkdir()
        processes = ["--fork"] if load.each or load.associations > 1 else ["--single-process"]
        arguments = [*processes, *options, "-pdu", _PDU, "-od", str(received), str(port)]
        return start([program, *arguments], folder, port, environment=_DCMTK_ENVIRONMENT)

    return run


# ---- Orthanc ----


def _orthanc(*, sync: bool) -> Callable[[Path, Path, Load], Receiver]:
    def run(program: Path, folder: Path, _load: Load) -> Receiver:
        port = free_port()
        settings = {
            "StorageDirectory": str(folder / "received"),
            "IndexDirectory": str(folder / "received"),
            "SyncStorageArea": sync,
            "HttpServerEnabled": False,
            "DicomPort": port,
            "DicomCheckCalledAet": False,
            "DicomAlwaysAllowStore": True,
            "DicomThreadsCount": 16,
            "MaximumPduLength": int(_PDU),
            "Plugins": [],
        }
        (folder / "orthanc.json").write_text(json.dumps(settings))
        return start([program, folder / "orthanc.json"], folder, port, environment=_DCMTK_ENVIRONMENT)

    return run


# ---- dicom-rs ----


def cargo_installed(name: str) -> Callable[[Path], Path]:
    """Finds a program of dicom-rs in the cache folder, or has cargo build it there."""

    def find(_cache: Path) -> Path:
        try:
            return built(name)
        except NotBuilt as error:
            raise LeftOut(str(error)) from error

    return find


def _dicom_rs(program: Path, folder: Path, load: Load) -> Receiver:
    received, port = folder / "received", free_port()
    received.mkdir()
    several = ["--non-blocking"] if load.associations > 1 else []
    options = ["--promiscuous", "--max-pdu-length", _PDU, "-o", str(received), "-p", str(port)]
    return start([program, *several, *options], folder, port)


# ---- stock pynetdicom ----


def _python(_cache: Path) -> Path:
    return Path(sys.executable)


def _pynetdicom(program: Path, folder: Path, _load: Load) -> Receiver:
    received, port = folder / "received", free_port()
    received.mkdir()
    # it writes to a temporary file first, which has to be on the same disk for the rename
    script = _HERE / "stock_pynetdicom.py"
    return start([program, script, str(port), received], folder, port, environment={"TMPDIR": str(received)})


# ---- the raw limit ----


def _compiled(cache: Path) -> Path:
    compiler, program = shutil.which("cc"), cache / "raw"
    if program.exists():
        return program
    if compiler is None:
        raise LeftOut("there is no C compiler: apt-get install gcc libc6-dev")
    command = [compiler, "-O2", "-o", str(program), str(_HERE / "raw.c")]
    built = subprocess.run(command, capture_output=True, text=True, check=False)
    if built.returncode:
        raise LeftOut(f"it does not compile: {built.stderr.strip()}")
    return program


def _raw(durability: str) -> Callable[[Path, Path, Load], Receiver]:
    def run(program: Path, folder: Path, _load: Load) -> Receiver:
        received, port = folder / "received", free_port()
        received.mkdir()
        return start([program, str(port), received, durability], folder, port)

    return run


dcmtk_sender: Final = installed("storescu", "dcmtk")
_DCMTK: Final = installed("storescp", "dcmtk")
_ORTHANC: Final = installed("Orthanc", "orthanc")

PEERS: Final[Mapping[str, Peer]] = {
    peer.name: peer
    for peer in (
        Peer("dcmtk", _DCMTK, _dcmtk()),
        Peer("dcmtk_bit", _DCMTK, _dcmtk("+B")),
        Peer("orthanc", _ORTHANC, _orthanc(sync=True)),
        Peer("orthanc_nosync", _ORTHANC, _orthanc(sync=False)),
        Peer("dicom_rs", cargo_installed("dicom-storescp"), _dicom_rs),
        Peer("pynetdicom", _python, _pynetdicom),
        Peer("raw", _compiled, _raw("flush"), raw=True),
        Peer("raw_os", _compiled, _raw("os"), raw=True),
    )
}
