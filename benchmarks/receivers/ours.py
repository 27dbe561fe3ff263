"""Our receiver as it is installed, without Temporal: ``clara dicom``'s receiver part, on a data folder of its own.

Temporal cannot be reached, so what is stored waits in the spool; indexing and batches are made as always.
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Final

from clara_dicom_adapter import part_status
from clara_dicom_adapter.configuration.settings import DataFolder, StorageSettings
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.spool.prepared import PREPARED
from clara_dicom_adapter.spool.segment import SEGMENTS
from receivers.peers import Load, Peer
from receivers.process import Failed, Receiver, launch
from receivers.sender import CALLED

_START_SECONDS: Final = 60.0
_PREPARED_BYTES: Final = int(0.99e6 * StorageSettings().prepared_space_mb)
_FILES_LATE: Final = Path(__file__).with_name("files_late")
_NOBODY: Final = "127.0.0.1:1"


def _configured(cache: Path) -> Path:
    """A data folder with the AE title; each run begins with a copy."""
    data = cache / "data"
    if not data.exists():
        command = [sys.executable, "-m", "clara_dicom_adapter.cli", "dicom", "create", "aetitle", "-a", CALLED]
        subprocess.run([*command, "pipeline-nothing=nothing", "--data-dir", data], check=True, capture_output=True)
    return data


def _run(durability: str, *first: Path) -> Callable[[Path, Path, Load], Receiver]:
    def run(configured: Path, folder: Path, _load: Load) -> Receiver:
        data = DataFolder(folder / "data")
        shutil.copytree(configured, data.root)
        config = folder / "appsettings.json"
        config.write_text(json.dumps({"DicomAdapter": _settings(durability)}))
        receiver = launch(
            [
                sys.executable,
                "-m",
                "clara_dicom_adapter.cli.parts.receiver_part",
                "--config",
                config,
                "--data-dir",
                data.root,
            ],
            folder,
            environment={"PYTHONPATH": os.pathsep.join(filter(None, (*map(str, first), *sys.path)))},
        )
        try:
            receiver.port = _wait_for(receiver, data)
            _wait_until_prepared(receiver, data)
        except Failed:
            receiver.end()
            raise
        return receiver

    return run


def _settings(durability: str) -> dict[str, object]:
    return {
        "dicom": {
            "scp": {"port": 0, "host": "127.0.0.1", "maximumNumberOfAssociations": 100, "rejectUnknownSources": False}
        },
        "services": {"temporal": {"address": _NOBODY}},
        "storage": {"watermarkPercent": 100, "reserveSpaceGB": 0.1, "durability": durability},
    }


def _wait_for(receiver: Receiver, data: DataFolder) -> int:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        written = part_status.read_one(data.run / "receiver.json")
        if written is not None and written.ready and written.alive:
            return written.ports["dicom"]
        receiver.check()
        if time.monotonic() > deadline:
            raise Failed(f"it is not ready: {receiver.tail()}")
        time.sleep(0.02)


def _wait_until_prepared(receiver: Receiver, data: DataFolder) -> None:
    """A receiver that has run for some seconds has its files prepared, and so must this one."""
    deadline = time.monotonic() + _START_SECONDS
    while _bytes_in(data.payloads / "spool", PREPARED, SEGMENTS) < _PREPARED_BYTES:
        receiver.check()
        if time.monotonic() > deadline:
            raise Failed(f"its files are not prepared: {receiver.tail()}")
        time.sleep(0.1)


def _bytes_in(spool: Path, *folders: str) -> int:
    total = 0
    for path in (path for name in folders for path in (spool / name).iterdir()):
        with suppress(FileNotFoundError):  # renamed meanwhile
            total += path.stat().st_size
    return total


def _received(folder: Path) -> Iterable[Path]:
    """What the spool says it has."""
    with closing(Spool.open(DataFolder(folder / "data").payloads / "spool", SpoolRole.TOOL)) as spool:
        return [instance.path for association in spool.associations() for instance in association.stored()]


OURS: Final = {
    "ours_durable": Peer("ours_durable", _configured, _run("flush"), _received),
    "ours_os": Peer("ours_os", _configured, _run("os"), _received),
    "ours_segments": Peer("ours_segments", _configured, _run("flush", _FILES_LATE), _received),
}
