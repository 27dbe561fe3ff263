"""The PACS at the far end of the demo: Orthanc if it is installed, else a Storage SCP that writes files.

Run as ``python -m clara_dicom_adapter.cli.demo.pacs FOLDER --while-locked FILE`` it serves until it is told to stop, or
until nobody holds the lock on FILE any more: so the PACS of ``clara demo --keep`` ends with the adapter.
"""

import argparse
import fcntl
import json
import shutil
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import httpx
from pydantic import BaseModel

from clara_dicom_adapter.errors import TransientError
from clara_dicom_adapter.temporal.children import kill_group, spawn
from clara_dicom_adapter.temporal.ports import ReservedPort

AE_TITLE: Final = "PACS"
HOST: Final = "127.0.0.1"
START_SECONDS: Final = 30.0


class Pacs(BaseModel):
    """Where the PACS is, and how to ask it what it has.

    Attributes:
        http_port: Orthanc's REST API; none: ``received`` holds the files.
    """

    product: str
    dicom_port: int
    http_port: int | None
    received: Path

    @property
    def url(self) -> str:
        """Where a person looks into it; empty when there is nothing to look at."""
        return f"http://{HOST}:{self.http_port}/app/explorer.html" if self.http_port else ""

    def instances(self) -> set[str]:
        """SOP Instance UIDs of everything it has."""
        return set(self._ids())

    def _ids(self) -> dict[str, str]:
        """Orthanc's id, or the file's name, by SOP Instance UID."""
        if self.http_port is None:
            return {path.stem: path.name for path in self.received.glob("*.dcm")}
        found = self._get("/instances?expand").json()
        return {each["MainDicomTags"]["SOPInstanceUID"]: each["ID"] for each in found}

    def _get(self, path: str) -> httpx.Response:
        try:
            answer = httpx.get(f"http://{HOST}:{self.http_port}{path}", trust_env=False, timeout=60)
            return answer.raise_for_status()
        except httpx.HTTPError as error:
            raise TransientError(f"the PACS does not answer: {type(error).__name__}") from error

    def fetch(self, wanted: Iterable[str], folder: Path) -> list[Path]:
        """Copies of some instances, as files in a folder."""
        folder.mkdir(parents=True, exist_ok=True)
        ids = self._ids()
        files = []
        for number, uid in enumerate(wanted, start=1):
            files.append(folder / f"{number:03}.dcm")
            if self.http_port is None:
                shutil.copyfile(self.received / ids[uid], files[-1])
                continue
            files[-1].write_bytes(self._get(f"/instances/{ids[uid]}/file").content)
        return files

    def wait(self) -> None:
        """Until it takes connections; raises TransientError."""
        deadline = time.monotonic() + START_SECONDS
        for port in filter(None, (self.dicom_port, self.http_port)):
            while True:
                try:
                    socket.create_connection((HOST, port), 1).close()
                    break
                except OSError as error:
                    if time.monotonic() >= deadline:
                        raise TransientError(f"the PACS does not listen on port {port}") from error
                time.sleep(0.05)


def prepare(folder: Path) -> Pacs:
    """Choose the PACS and its ports."""
    folder.mkdir(parents=True, exist_ok=True)
    orthanc = shutil.which("Orthanc")
    ports = [ReservedPort(HOST), ReservedPort(HOST)]
    pacs = Pacs(
        product="Orthanc" if orthanc else "Storage SCP",
        dicom_port=ports[0].port,
        http_port=ports[1].port if orthanc else None,
        received=folder / "received",
    )
    (folder / "pacs.json").write_text(pacs.model_dump_json(), encoding="utf-8")
    for port in ports:
        port.close()
    return pacs


def _orthanc_settings(pacs: Pacs, folder: Path) -> dict[str, Any]:
    return {
        "Name": "Clara demo",
        "StorageDirectory": str(folder / "orthanc"),
        "IndexDirectory": str(folder / "orthanc"),
        "HttpServerEnabled": True,
        "HttpPort": pacs.http_port,
        "RemoteAccessAllowed": False,  # loopback only, therefore without a password
        "AuthenticationEnabled": False,
        "DicomServerEnabled": True,
        "DicomAet": AE_TITLE,
        "DicomPort": pacs.dicom_port,
        "DicomCheckCalledAet": True,
        "DicomAlwaysAllowStore": True,
        "SynchronousCMove": True,
        "Plugins": [],
    }


def _serve(folder: Path, lock: Path, stopping: threading.Event) -> None:
    pacs = Pacs.model_validate_json((folder / "pacs.json").read_text(encoding="utf-8"))
    threading.Thread(target=_wait_for_lock, args=(lock, stopping), daemon=True).start()
    if pacs.http_port is not None:
        settings = folder / "orthanc.json"
        settings.write_text(json.dumps(_orthanc_settings(pacs, folder), indent=2), encoding="utf-8")
        with (folder / "orthanc.log").open("wb") as output:
            child = spawn(["Orthanc", str(settings)], stdout=output.fileno(), stderr=output.fileno())
        try:
            while not stopping.wait(0.5):
                if child.poll() is not None:
                    raise TransientError(f"Orthanc ended with status {child.returncode}; see {folder}/orthanc.log")
            child.terminate()
            child.wait(10)
        finally:
            kill_group(child)
        return
    from clara_dicom_adapter.cli.demo.storage_scp import serving

    with serving(AE_TITLE, HOST, pacs.dicom_port, pacs.received):
        stopping.wait()


def _wait_for_lock(lock: Path, stopping: threading.Event) -> None:
    """Wait until the adapter, which is known to have started, lets go of its lock."""
    with lock.open("r") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
    stopping.set()


def main() -> None:
    """Serve."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--while-locked", type=Path, required=True)
    given = parser.parse_args()
    stopping = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopping.set())
    try:
        _serve(given.folder, given.while_locked, stopping)
    except TransientError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
