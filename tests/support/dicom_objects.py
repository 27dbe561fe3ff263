"""Small part-10 files for tests."""

import uuid
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.sequence import Sequence
from pydicom.uid import UID

EXPLICIT = "1.2.840.10008.1.2.1"
IMPLICIT = "1.2.840.10008.1.2"
JPEG = "1.2.840.10008.1.2.4.70"
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


def make_encoded(
    folder: Path, sizes: tuple[int, ...] = (4, 700, 600_000), syntaxes: tuple[str, ...] = ()
) -> list[Path]:
    """Valid files in several transfer syntaxes and sizes, with a sequence, private and empty elements; no person."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for syntax in syntaxes or (EXPLICIT, IMPLICIT, JPEG):
        for size in sizes:
            ds = Dataset()
            ds.file_meta = FileMetaDataset()
            ds.file_meta.TransferSyntaxUID = UID(syntax)
            ds.SOPClassUID = CT
            ds.SOPInstanceUID = f"2.25.{uuid.uuid5(uuid.NAMESPACE_URL, f'{syntax}/{size}').int}"
            ds.StudyDate = ""
            ds.Modality = "CT"
            ds.PatientName = ""
            ds.PatientID = "SYNTHETIC"
            ds.StudyInstanceUID = "2.25.1"
            ds.SeriesInstanceUID = "2.25.2"
            item = Dataset()
            item.ReferencedSOPClassUID = CT
            item.ReferencedSOPInstanceUID = "2.25.3"
            ds.ReferencedImageSequence = Sequence([item])
            ds.private_block(0x0029, "SYNTHETIC", create=True).add_new(0x01, "OB", bytes(range(32)))
            ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, "MONOCHROME2"
            ds.Columns = min(size, 100)
            ds.Rows = size // ds.Columns
            ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 8, 8, 7, 0
            pixels = bytes(at % 251 for at in range(size))
            if syntax == JPEG:  # no image, but fragments as an image has them
                ds.PixelData = encapsulate([pixels[: size // 2], pixels[size // 2 :]])
            else:
                ds.PixelData = pixels
            ds["PixelData"].VR = "OW" if syntax == IMPLICIT else "OB"
            path = folder / f"{syntax}-{size}.dcm"
            ds.save_as(path, enforce_file_format=True)
            paths.append(path)
    return paths
