"""Whether everything in a spool is whole: files, facts and index agree. Every byte is read; nothing is changed."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Final

from clara_dicom_adapter.dicom import part10
from clara_dicom_adapter.errors import InvalidInstance, SpoolUnusable
from clara_dicom_adapter.spool.association import FACTS, AssociationFolder
from clara_dicom_adapter.spool.database import DATABASE
from clara_dicom_adapter.spool.inventory import Entry, Inventory
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, Seal
from clara_dicom_adapter.spool.unnamed import InstanceFile

_ON_ITS_WAY_SECONDS: Final = 60.0
"""The receiver indexes within a second or two; this long, an instance that is not indexed yet is none that is lost."""
_PIECE: Final = 1 << 20
_SET_ASIDE: Final = (
    "was set aside, for it does not agree with its seal: a power cut came before it was answered, or the disk has lost"
    " a part of it; see whether its sender still has it, then delete the file"
)


@dataclass(frozen=True)
class Problem:
    """Something that is not as it should be.

    Attributes:
        path: Below the spool.
    """

    path: str
    problem: str


@dataclass
class Verification:
    """What was looked at, and what is wrong with it.

    Attributes:
        on_their_way: Instances that have just come and are not in the index yet.
    """

    associations: int = 0
    instances: int = 0
    bytes: int = 0
    on_their_way: int = 0
    problems: list[Problem] = field(default_factory=list[Problem])


def verify(inventory: Inventory) -> Verification:
    """Read everything."""
    found = Verification()
    inventory.check_index()
    for path in inventory.paths():
        found.associations += 1
        found.problems += _Association(inventory, path, found).problems()
    for path in inventory.unnamed.without_association():
        lost = "holds an instance, and its association is not there: nobody knows whose it is"
        found.problems.append(Problem(str(path.relative_to(inventory.root)), lost))
    for path in inventory.set_aside():
        found.problems.append(Problem(str(path.relative_to(inventory.root)), _SET_ASIDE))
    if inventory.index_problem:
        found.problems.append(Problem(DATABASE, inventory.index_problem))
    return found


class _Association:
    def __init__(self, inventory: Inventory, path: Path, found: Verification) -> None:
        self._inventory = inventory
        self._path = path
        self._found = found

    def problems(self) -> Iterator[Problem]:
        try:
            folder = AssociationFolder.read(self._path, durable=False)
        except FileNotFoundError:
            if self._path.exists():
                yield self._problem(FACTS, "is missing: nobody knows whose these instances are")
            return
        except (SpoolUnusable, OSError):
            yield self._problem(FACTS, "cannot be read: nobody knows whose these instances are")
            return
        files = self._inventory.files(folder.path)
        entries = self._inventory.entries(self._path.name)  # after the files: what is indexed in between is known
        for sequence, file in files.items():
            problem = self._problem_of(file, entries.get(sequence))
            if problem:
                yield Problem(str(file.path.relative_to(self._inventory.root)), problem)
        for sequence, entry in entries.items():
            if sequence not in files and not entry.released and self._is_lost(sequence):
                yield self._problem(f"{sequence:08d}", "is in the index, and its file is gone")

    def _problem(self, name: str, problem: str) -> Problem:
        return Problem(str((self._path / name).relative_to(self._inventory.root)), problem)

    def _problem_of(self, file: InstanceFile, entry: Entry | None) -> str:
        try:
            with file.open() as stream:
                meta = part10.read_meta_of(stream)
                stream.seek(0)
                size, as_sealed = _read_through(file, stream)
        except FileNotFoundError:
            return "is in the index, and its file is gone" if self._is_lost(file.sequence) else ""
        except InvalidInstance as error:
            return f"is no DICOM part 10 file: {error}"
        except OSError as error:
            return f"cannot be read: {error.strerror}"
        self._found.instances += 1
        self._found.bytes += size
        if not as_sealed:
            return "has changed since it was received: it does not agree with its seal"
        if entry is None:
            return self._unknown(file.received_ns)
        if entry.bytes != size:
            return f"has {size} bytes; the index says {entry.bytes}"
        if entry.sop_instance_uid != meta.sop_instance_uid:
            return "holds another SOP instance than the index says"
        return ""

    def _unknown(self, received_ns: int) -> str:
        if self._inventory.index_problem:
            return ""  # told once, and not for every instance
        if time.time_ns() - received_ns < _ON_ITS_WAY_SECONDS * 1e9:
            self._found.on_their_way += 1
            return ""
        return "is not in the index; the receiver enters it when it starts, and at each look of the reconciler"

    def _is_lost(self, sequence: int) -> bool:
        """Whether a file is gone although nobody released it; it may have come or gone since its folder was read."""
        entry = self._inventory.entries(self._path.name).get(sequence)
        if entry is None or entry.released:
            return False
        return not any(self._path.glob(f"{sequence:08d}-*.dcm"))


def _read_through(file: InstanceFile, stream: BinaryIO) -> tuple[int, bool]:
    """Read a whole instance, so that a fault of the disk shows; its size, and whether it agrees with its seal."""
    preamble = stream.read(PREAMBLE_BYTES)
    seal = Seal.read(preamble)
    if seal is not None:
        return file.bytes, seal.agrees_with(stream) and seal.size == file.bytes
    size = len(preamble)
    while piece := stream.read(_PIECE):
        size += len(piece)
    return size, True
