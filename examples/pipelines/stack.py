"""Find the largest CT or MR series below a folder and read it as a stack of parallel slices in the order of space."""

from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path

import numpy as np
from derived import Unusable
from numpy.typing import NDArray
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.uid import CTImageStorage, MRImageStorage

SAME_PLACE = 1e-3
"""Positions along the normal that differ by less (mm) are one position."""
EVEN = 0.05
"""Gaps between slices that differ from their median by less than this fraction count as even."""

Vector = NDArray[np.float64]


@dataclass(frozen=True)
class Slice:
    """One image: its file, and its elements without the pixel data."""

    file: Path
    head: Dataset
    position: float
    """Of the first pixel along the normal, in mm."""

    def values(self) -> NDArray[np.float32]:
        """The pixels in the modality's units (HU in CT), padding replaced by the lowest real value."""
        try:
            dataset = dcmread(self.file)
            stored = dataset.pixel_array
        except (RuntimeError, NotImplementedError, ValueError, AttributeError, OSError, EOFError) as error:
            raise Unusable(_why_not(self.head)) from error
        values = stored.astype(np.float32) * np.float32(dataset.get("RescaleSlope") or 1)
        values += np.float32(dataset.get("RescaleIntercept") or 0)
        padding = _padding(dataset, stored)
        if padding is not None and padding.any() and not padding.all():
            values[padding] = values[~padding].min()
        return values


@dataclass(frozen=True)
class Stack:
    """Parallel slices of one series, of one size and spacing, sorted along the normal."""

    slices: Sequence[Slice]
    left_out: int
    """Images of the series that do not belong to the stack: localizers, other orientations, positions taken twice."""

    @property
    def head(self) -> Dataset:
        """The elements of the first slice."""
        return self.slices[0].head

    @cached_property
    def directions(self) -> tuple[Vector, Vector, Vector]:
        """Where the normal, the row index and the column index grow towards, in patient coordinates."""
        along_row, along_column = _axes(self.head)
        return np.cross(along_row, along_column), along_column, along_row

    @cached_property
    def gap(self) -> float | None:
        """Distance between neighbouring slices in mm, or None when it is not the same everywhere."""
        gaps = [after.position - before.position for before, after in pairwise(self.slices)]
        if not gaps:
            return None
        gap = float(np.median(gaps))
        return gap if max(abs(one - gap) for one in gaps) <= EVEN * gap else None

    @cached_property
    def upright(self) -> bool:
        """Whether each slice lies straight above the one below; not so with a tilted gantry."""
        _, along_column, along_row = self.directions
        first = np.array(self.head.ImagePositionPatient, dtype=float)
        last = np.array(self.slices[-1].head.ImagePositionPatient, dtype=float)
        drift = last - first
        aside = max(abs(float(drift @ along_column)), abs(float(drift @ along_row)))
        return aside < min(map(float, self.head.PixelSpacing))

    def planes(self) -> Iterator[NDArray[np.float32]]:
        """Each slice's values, one after the other, so that memory does not grow with the number of slices."""
        return (one.values() for one in self.slices)


def largest_stack(folder: Path, classes: Collection[str] = (CTImageStorage, MRImageStorage)) -> Stack:
    """The stack with the most slices below `folder`; among equals the one whose series UID comes first."""
    series: dict[str, dict[object, list[Slice]]] = defaultdict(lambda: defaultdict(list))
    for file, head in _images(folder, classes):
        normal = np.cross(*_axes(head))
        one = Slice(file, head, float(normal @ np.array(head.ImagePositionPatient, dtype=float)))
        series[str(head.SeriesInstanceUID)][_kind(head)].append(one)
    if not series:
        names = " or ".join("CT" if one == CTImageStorage else "MR" for one in classes)
        raise Unusable(f"the input holds no single-frame {names} image with position, orientation and spacing")
    stacks = [_stack(kinds) for _, kinds in sorted(series.items())]
    return max(stacks, key=lambda stack: len(stack.slices))


def _stack(kinds: dict[object, list[Slice]]) -> Stack:
    total = sum(map(len, kinds.values()))
    chosen = max(kinds.values(), key=len)
    chosen.sort(key=lambda one: (one.position, int(one.head.get("InstanceNumber") or 0), str(one.head.SOPInstanceUID)))
    slices = [chosen[0]]
    for one in chosen[1:]:
        if one.position - slices[-1].position > SAME_PLACE:
            slices.append(one)
    return Stack(slices, total - len(slices))


def _images(folder: Path, classes: Collection[str]) -> Iterator[tuple[Path, Dataset]]:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            head = dcmread(file, stop_before_pixels=True)
            if head.SOPClassUID in classes and _usable(head):
                yield file, head
        except (InvalidDicomError, AttributeError, ValueError, TypeError, OSError, EOFError):
            continue  # not DICOM, or a head that cannot be made sense of: not ours to judge, the others may do


def _usable(head: Dataset) -> bool:
    return (
        int(head.get("SamplesPerPixel") or 1) == 1
        and int(head.get("NumberOfFrames") or 1) == 1
        and len(head.ImagePositionPatient) == 3
        and len(head.ImageOrientationPatient) == 6
        and min(map(float, head.PixelSpacing)) > 0
        and min(map(len, (head.SOPInstanceUID, head.SeriesInstanceUID, head.StudyInstanceUID))) > 0
        and min(int(head.Rows), int(head.Columns)) > 0
    )


def _axes(head: Dataset) -> tuple[Vector, Vector]:
    """Direction of a row (the column index grows) and of a column, as unit vectors (PS3.3 C.7.6.2.1.1)."""
    both = np.array(head.ImageOrientationPatient, dtype=float).reshape(2, 3)
    lengths = np.linalg.norm(both, axis=1)
    if not np.isfinite(both).all() or min(lengths) == 0:
        raise ValueError("an orientation must be two vectors")
    return both[0] / lengths[0], both[1] / lengths[1]


def _kind(head: Dataset) -> object:
    """What the slices of one stack share."""
    orientation = np.concatenate(_axes(head)).round(3) + 0.0  # no -0.0
    spacing = tuple(round(float(one), 4) for one in head.PixelSpacing)
    frame = str(head.get("FrameOfReferenceUID") or "")
    return str(head.SOPClassUID), frame, int(head.Rows), int(head.Columns), spacing, tuple(orientation.tolist())


def _padding(dataset: Dataset, stored: NDArray[np.generic]) -> NDArray[np.bool_] | None:
    """Where the image has no data (PS3.3 C.7.5.1.1.2), or None when it has some everywhere."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limits = sorted((int(value), int(dataset.get("PixelPaddingRangeLimit", value))))
    pixels = stored.astype(np.int64)
    padding: NDArray[np.bool_] = (pixels >= limits[0]) & (pixels <= limits[1])
    return padding


def _why_not(head: Dataset) -> str:
    syntax = head.file_meta.TransferSyntaxUID
    if syntax.is_compressed:
        return (
            f"an image's pixel data cannot be decoded: {syntax.name}. "
            "Damaged, or a decoder is missing (try: pip install pylibjpeg pylibjpeg-libjpeg pylibjpeg-openjpeg)"
        )
    return "an image's pixel data cannot be read: it is damaged or incomplete"
