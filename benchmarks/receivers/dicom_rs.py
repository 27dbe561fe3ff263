"""Programs of dicom-rs, built once by cargo into the user's cache folder; the benchmark and the tests use them."""

import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import Final

from clara_dicom_adapter.temporal import building
from clara_dicom_adapter.temporal.building import NotBuilt

VERSION: Final = "0.10.1"


def built(name: str) -> Path:
    """The program ``name`` of the pinned version; takes minutes the first time, and says so on stderr.

    Raises:
        NotBuilt: Cargo is missing, or it failed.
    """
    root = building.cache_folder(name, VERSION)
    program = root / "bin" / name
    if program.exists():
        return program
    command = ["cargo", "install", name, "--version", VERSION, "--locked", "--root", str(root)]
    if shutil.which("cargo") is None:
        raise NotBuilt(f"{name} needs cargo to be built: get it from https://rustup.rs, then {' '.join(command)}")
    root.mkdir(parents=True, exist_ok=True)
    with building.alone(root, f"{name} {VERSION}", building.to_stderr):
        if not program.exists():
            building.to_stderr(f"building {name} {VERSION} into {root}, once; it takes some minutes")
            with suppress(OSError, subprocess.CalledProcessError):
                subprocess.run(command, check=True, stdout=sys.stderr)
    if not program.exists():
        raise NotBuilt(f"cargo could not build {name}; by hand: {' '.join(command)}")
    return program
