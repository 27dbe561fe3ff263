"""The sets that are sent, and whether what was received is the same."""

import hashlib
import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from objects import write_images, write_large
from pydicom import dcmread

from clara_dicom_adapter.dicom.part10 import read_meta_of
from clara_dicom_adapter.errors import InvalidInstance


@dataclass(frozen=True)
class Kind:
    """A set's shape."""

    instances: int
    quick_instances: int
    size: int
    """Bytes of pixels of each."""
    each: bool = False
    """Whether every instance has an association of its own."""
    only_one: bool = False
    """Whether it is sent by one sender only."""


KINDS: Final[Mapping[str, Kind]] = {
    "ct": Kind(500, 24, 512 * 512 * 2),
    "small": Kind(2000, 80, 64 * 64 * 2),
    "large": Kind(5, 2, 100_000_000, only_one=True),
    "each": Kind(200, 20, 64 * 64 * 2, each=True, only_one=True),
}


@dataclass(frozen=True)
class InstanceSet:
    """A set on disk."""

    name: str
    kind: Kind
    folder: Path
    files: Mapping[str, Path]
    """By SOP instance UID."""
    datasets: Mapping[str, bytes]
    """Digests of the datasets, by SOP instance UID."""
    bytes: int
    """Of all files."""

    @property
    def instances(self) -> int:
        return len(self.datasets)

    def compare(self, received: Iterable[Path]) -> "Comparison":
        """What of the set is among these files."""
        identical, equal = set[str](), set[str]()
        for path in received:
            try:
                uid, digest = dataset_digest(path)
            except InvalidInstance:
                continue  # a receiver's own files lie beside the instances
            if self.datasets.get(uid) == digest:
                identical.add(uid)
            elif uid in self.files and dcmread(path) == dcmread(self.files[uid]):
                equal.add(uid)
        return Comparison(self.instances, len(identical), len(equal - identical))


@dataclass(frozen=True)
class Comparison:
    """What of a set was received."""

    sent: int
    same_bytes: int
    same_elements: int
    """Decoded the same, and written anew: dicom-rs encodes sequences in its own way."""

    @property
    def all_same_bytes(self) -> bool:
        return self.same_bytes == self.sent

    @property
    def words(self) -> str:
        if self.all_same_bytes:
            return "all"
        also = f", {self.same_elements} recoded" if self.same_elements else ""
        return f"{self.same_bytes} of {self.sent}{also}"


def volume(name: str, *, quick: bool) -> int:
    """About how many bytes a set has."""
    kind = KINDS[name]
    return (kind.quick_instances if quick else kind.instances) * (kind.size + 4000)


def make(name: str, root: Path, *, quick: bool) -> InstanceSet:
    """Write a set; with ``quick`` a few instances, and the large ones a tenth as large."""
    kind, folder = KINDS[name], root / name
    count = kind.quick_instances if quick else kind.instances
    if name == "large":
        folder.mkdir(parents=True)
        for number in range(count):
            write_large(folder / f"{number}.dcm", kind.size // 1_000_000 // (10 if quick else 1))
    else:
        write_images(folder, count, kind.size)
    paths = {path: dataset_digest(path) for path in sorted(folder.iterdir())}
    return InstanceSet(
        name=name,
        kind=kind,
        folder=folder,
        files={uid: path for path, (uid, _) in paths.items()},
        datasets=dict(paths.values()),
        bytes=sum(path.stat().st_size for path in paths),
    )


def dataset_digest(path: Path) -> tuple[str, bytes]:
    """SOP instance UID, and the SHA-256 of what is behind the meta information; raises InvalidInstance."""
    with path.open("rb") as stream:
        meta = read_meta_of(stream)
        stream.seek(meta.dataset_offset, os.SEEK_SET)
        return meta.sop_instance_uid, hashlib.file_digest(stream, "sha256").digest()
