"""Orthanc as a PACS: a process with a folder of its own, looked into over its REST API."""

import json
import os
import socket
import subprocess
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx
import pytest

from clara_dicom_adapter.dicom.sender import Peer
from support.dicom_peers import free_port, tool
from support.site import wait_until


class Orthanc:
    """One that runs."""

    ae_title = "ORTHANC"

    def __init__(self) -> None:
        self.dicom_port = free_port()
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{free_port()}", trust_env=False, timeout=30)

    @property
    def http_port(self) -> int:
        port = self._http.base_url.port
        assert port
        return port

    def instances(self) -> dict[str, str]:
        """Orthanc's id of each SOP instance it has."""
        found = self._http.get("/instances?expand").raise_for_status().json()
        return {each["MainDicomTags"]["SOPInstanceUID"]: each["ID"] for each in found}

    def send(self, files: Iterable[Path], peer: Peer) -> int:
        """Give it files, and have it send them in one association; the number of instances that it says it has sent."""
        for file in files:
            self._http.post("/instances", content=file.read_bytes()).raise_for_status()
        modality = {"AET": peer.ae_title, "Host": peer.host, "Port": peer.port}
        self._http.put("/modalities/peer", json=modality).raise_for_status()
        sent = self._http.post("/modalities/peer/store", json=sorted(self.instances().values())).raise_for_status()
        return int(sent.json()["InstancesCount"])

    def save(self, folder: Path) -> list[Path]:
        """Everything it has, as the files that it has stored."""
        folder.mkdir()
        files = []
        for sop_instance_uid, key in self.instances().items():
            files.append(folder / f"{sop_instance_uid}.dcm")
            files[-1].write_bytes(self._http.get(f"/instances/{key}/file").raise_for_status().content)
        return files

    def listens(self) -> bool:
        with suppress(OSError, httpx.HTTPError), socket.create_connection(("127.0.0.1", self.dicom_port), 1):
            return self._http.get("/system").is_success
        return False


@contextmanager
def orthanc(folder: Path, **settings_of_its_own: object) -> Iterator[Orthanc]:
    """Run Orthanc until the end of the block, with further settings if need be."""
    folder.mkdir()
    one = Orthanc()
    settings = folder / "orthanc.json"
    settings.write_text(
        json.dumps(
            {
                "StorageDirectory": str(folder / "storage"),
                "IndexDirectory": str(folder / "storage"),
                "HttpPort": one.http_port,
                "RemoteAccessAllowed": False,
                "AuthenticationEnabled": False,
                "DicomAet": one.ae_title,
                "DicomPort": one.dicom_port,
                "DicomCheckCalledAet": True,
                "DicomAlwaysAllowStore": True,
                "UnknownSopClassAccepted": True,
                "Plugins": [],
                **settings_of_its_own,
            }
        )
    )
    with (folder / "orthanc.log").open("wb") as output:
        process = subprocess.Popen([tool("Orthanc", "orthanc"), str(settings)], stdout=output, stderr=output)
    try:

        def ready() -> bool:
            assert process.poll() is None, (folder / "orthanc.log").read_text()
            return one.listens()

        wait_until("Orthanc listens", ready, 60)
        yield one
    finally:
        process.terminate()
        process.wait(20)


def dicomweb() -> str:
    """Orthanc's DICOMweb plugin; in CI its absence is a failure."""
    for path in Path("/usr/share/orthanc/plugins"), Path("/usr/lib/orthanc/plugins"):
        if (plugin := path / "libOrthancDicomWeb.so").exists():
            return str(plugin)
    message = "Orthanc's DICOMweb plugin is missing; install Debian package orthanc-dicomweb"
    if os.environ.get("CI") == "true":
        pytest.fail(message)
    pytest.skip(message)
