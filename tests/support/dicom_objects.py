"""Small part-10 files for tests."""

import uuid
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import UID

EXPLICIT = "1.2.840.10008.1.2.1"
CT = "1.2.840.10008.5.1.4.1.1.2"
MR = "1.2.840.10008.5.1.4.1.1.4"


def make_objects(
    folder: Path, count: int, *, sop_class: str = CT, size: int = 2000, name: str = "object"
) -> list[Path]:
    """Valid files with pixel data of ``size`` bytes; the same arguments give the same UIDs."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for number in range(count):
        ds = Dataset()
        ds.file_meta = FileMetaDataset()
        ds.file_meta.TransferSyntaxUID = UID(EXPLICIT)
        ds.SOPClassUID = sop_class
        ds.SOPInstanceUID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'{folder}/{name}/{number}').int}"
        ds.StudyInstanceUID = "2.25.1"
        ds.SeriesInstanceUID = "2.25.2"
        ds.PixelData = bytes([number % 251]) * size
        ds["PixelData"].VR = "OB"
        path = folder / f"{name}{number:05d}.dcm"
        ds.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths
