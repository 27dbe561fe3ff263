"""Instances as a person looks for them: in files under their names, or sealed in a prepared file or a segment.

An instance gets its name a moment after it was answered, or, if its listener died in between, as soon as the receiver
has noticed. Whoever looks at a spool whose receiver does not run must see it all the same. Nothing is locked or
changed.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from clara_dicom_adapter.spool.association import files_in
from clara_dicom_adapter.spool.models import ASSOCIATIONS, instance_name
from clara_dicom_adapter.spool.prepared import PREPARED
from clara_dicom_adapter.spool.replay import copies_without_file, read_copy
from clara_dicom_adapter.spool.seal import PREAMBLE_BYTES, Seal
from clara_dicom_adapter.spool.segment import Copy


@dataclass(frozen=True)
class InstanceFile:
    """Where an instance lies.

    Attributes:
        named: Under its name, now or later.
        sealed_in: The prepared file, or the segment, that it was in when it was looked for.
        sealed_bytes: Its length there; the file is longer.
        copy: Where in the segment.
    """

    sequence: int
    received_ns: int
    named: Path
    sealed_in: Path | None = None
    sealed_bytes: int = 0
    copy: Copy | None = None

    @property
    def path(self) -> Path:
        """Where it is now."""
        if self.sealed_in is None or self.named.exists() or not self.sealed_in.exists():
            return self.named
        return self.sealed_in

    @property
    def source(self) -> Path | bytes:
        """What it can be read from; raises FileNotFoundError when it is gone from a segment."""
        path = self.path
        return read_copy(path, self.copy) if self.copy is not None and path == self.sealed_in else path

    def open(self) -> BinaryIO:
        """It, at its beginning; raises FileNotFoundError when it is gone."""
        source = self.source
        return BytesIO(source) if isinstance(source, bytes) else source.open("rb")

    @property
    def bytes(self) -> int:
        """Its length; raises FileNotFoundError when it is gone."""
        return self.sealed_bytes if self.sealed_in is not None else self.named.stat().st_size


class Unnamed:
    """What was sealed in the prepared files and segments of a spool at one moment.

    Look here first, and into the folders of associations afterwards: what has been named in between is found there.
    """

    def __init__(self, root: Path) -> None:
        self._by_association: dict[str, dict[int, InstanceFile]] = {}
        sealed = [(path, seal, None) for path, seal in _sealed(root / PREPARED)]
        copied = [(path, copy.seal, copy) for path, copy in copies_without_file(root)]
        for path, seal, copy in (*sealed, *copied):
            named = root / ASSOCIATIONS / seal.association_id / instance_name(seal.sequence, seal.received_ns)
            found = InstanceFile(seal.sequence, seal.received_ns, named, path, seal.size, copy)
            self._by_association.setdefault(seal.association_id, {})[seal.sequence] = found

    def without_association(self) -> Iterator[Path]:
        """Files of associations that are not there; nobody knows whose these instances are."""
        files = (file for of_one in self._by_association.values() for file in of_one.values())
        yield from dict.fromkeys(file.path for file in files if not file.named.parent.exists())

    def with_named(self, folder: Path) -> Mapping[int, InstanceFile]:
        """Every instance of the association in a folder, by sequence; FileNotFoundError when it is gone."""
        named = {
            sequence: InstanceFile(sequence, received_ns, folder / name)
            for sequence, (received_ns, name) in files_in(folder).items()
        }
        return dict(sorted({**self._by_association.get(folder.name, {}), **named}.items()))


def _sealed(folder: Path) -> Iterator[tuple[Path, Seal]]:
    """Complete ones only: what disagrees with its seal is being written, or the receiver is about to set it aside."""
    for path in sorted(folder.iterdir()) if folder.is_dir() else ():
        try:
            with path.open("rb", buffering=0) as stream:
                seal = Seal.read(stream.read(PREAMBLE_BYTES))
                if seal is not None and seal.agrees_with(stream):
                    yield path, seal
        except FileNotFoundError:
            continue  # named, or taken away, meanwhile
