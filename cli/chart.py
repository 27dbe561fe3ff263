"""The Helm chart that comes with the package, and copying it without harm to what somebody has edited.

What was written is noted by its hash in ``.pulled.json``; a file that differs from the note was edited since.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import clara_dicom_adapter
from clara_dicom_adapter.errors import AdapterError

_NOTE: Final = ".pulled.json"


@dataclass
class Pulled:
    """What became of the files."""

    written: list[Path] = field(default_factory=list[Path])
    unchanged: list[Path] = field(default_factory=list[Path])
    kept: list[Path] = field(default_factory=list[Path])
    """Edited, and therefore left alone."""


def packaged() -> Path:
    """The chart's folder in the package; raises AdapterError when there is none."""
    folder = Path(clara_dicom_adapter.__file__).parent / "deploy" / "chart"
    if not (folder / "Chart.yaml").is_file():
        raise AdapterError(f"this installation has no chart at {folder}; install the wheel anew")
    return folder


def pull(source: Path, target: Path) -> Pulled:
    """Copy a chart, or bring a copy up to date; nothing is deleted.

    Raises:
        AdapterError: The target cannot be written.
    """
    done = Pulled()
    try:
        target.mkdir(parents=True, exist_ok=True)
        noted = _noted(target)
        for file in sorted(path for path in source.rglob("*") if path.is_file()):
            name = file.relative_to(source).as_posix()
            noted[name] = _copy(file.read_bytes(), target / name, noted.get(name, ""), done)
        (target / _NOTE).write_text(json.dumps(noted, indent=2) + "\n", encoding="utf-8")
    except OSError as error:
        raise AdapterError(f"{error.filename or target} cannot be written: {error.strerror}") from error
    return done


def _copy(content: bytes, file: Path, noted: str, done: Pulled) -> str:
    """Copy one file, and return the hash to be noted."""
    there = file.read_bytes() if file.exists() else None
    if there == content:
        done.unchanged.append(file)
    elif there is not None and _hash(there) != noted:
        done.kept.append(file)
        return noted
    else:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        done.written.append(file)
    return _hash(content)


def _noted(target: Path) -> dict[str, str]:
    try:
        note: Mapping[str, str] = json.loads((target / _NOTE).read_text(encoding="utf-8"))
        return dict(note)
    except (FileNotFoundError, ValueError):
        return {}


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
