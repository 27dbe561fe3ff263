"""Runs a supervisor over fake parts: ``supervise.py DATA_FOLDER NAME=BEHAVIOUR...``."""

import sys
from pathlib import Path

from clara_dicom_adapter.cli.part_process import PartSpec, Patience
from clara_dicom_adapter.cli.supervisor import Supervisor
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import SpoolInUse

FAKE = Path(__file__).with_name("fake_part.py")


def main() -> int:
    data = DataFolder(Path(sys.argv[1]))
    parts: list[PartSpec] = []
    for argument in sys.argv[2:]:
        name, behaviour = argument.split("=")
        command = (sys.executable, str(FAKE), name, str(data.root / "journal"), behaviour)
        after = (parts[-1].name,) if parts else ()
        parts.append(PartSpec(name, command, after=after, stop_seconds=1.0 if behaviour == "stubborn" else 10.0))
    try:
        return Supervisor(data, parts, patience=Patience(first_pause=0.02, longest_pause=0.1)).run()
    except SpoolInUse as refused:
        sys.stderr.write(f"{refused}\n")
        return 3


sys.exit(main())
