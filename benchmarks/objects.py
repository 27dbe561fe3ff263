"""Small objects to send, and one that is large, made on the fly."""

import uuid
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.requestor import Context, StoredObject

CT = UID("1.2.840.10008.5.1.4.1.1.2")
MULTIFRAME = UID("1.2.840.10008.5.1.4.1.1.7.2")
"""Multi-frame Grayscale Byte Secondary Capture Image Storage."""
_CHUNK = bytes(range(256)) * 4096


def write_small(folder: Path, count: int, *, size: int = 2000, study: str = "") -> list[Path]:
    """Files with random UIDs and ``size`` bytes of pixels, all of one study."""
    folder.mkdir(parents=True, exist_ok=True)
    study, series = study or _uid(), _uid()
    template = _dataset(CT, study, series)
    template.PixelData = _CHUNK[:size]
    template["PixelData"].VR = "OB"
    paths = []
    for number in range(count):
        template.SOPInstanceUID = template.file_meta.MediaStorageSOPInstanceUID = _uid()
        template.InstanceNumber = number + 1
        path = folder / f"{number:06d}.dcm"
        template.save_as(path, enforce_file_format=True)
        paths.append(path)
    return paths


def write_large(path: Path, megabytes: int) -> str:
    """A multi-frame object of about that many 10^6 bytes, written piece by piece; returns its SOP instance UID."""
    frames, pixels = megabytes, 1_000_000
    ds = _dataset(MULTIFRAME, _uid(), _uid())
    ds.NumberOfFrames, ds.Rows, ds.Columns = frames, 1000, 1000
    ds.BitsAllocated = ds.BitsStored = 8
    ds.HighBit, ds.SamplesPerPixel, ds.PixelRepresentation = 7, 1, 0
    ds.PhotometricInterpretation = "MONOCHROME2"
    ds.save_as(path, enforce_file_format=True)
    frame = (_CHUNK * (pixels // len(_CHUNK) + 1))[:pixels]
    with path.open("ab") as file:
        # PS3.5 section 7.1.2: tag, VR OB, two reserved bytes, length of 32 bits
        tag = Tag("PixelData")
        file.write(tag.group.to_bytes(2, "little") + tag.element.to_bytes(2, "little") + b"OB\0\0")
        file.write((frames * pixels).to_bytes(4, "little"))
        for _ in range(frames):
            file.write(frame)
    return str(ds.SOPInstanceUID)


def as_stored(path: Path, index: int = 0) -> StoredObject:
    """A file as a :class:`StorageAssociation` wants it."""
    meta = read_meta(path)
    return StoredObject(
        index=index,
        path=path,
        context=Context(meta.sop_class_uid, meta.transfer_syntax_uid),
        sop_instance_uid=meta.sop_instance_uid,
        dataset_offset=meta.dataset_offset,
        dataset_bytes=path.stat().st_size - meta.dataset_offset,
    )


def _dataset(sop_class: UID, study: str, series: str) -> Dataset:
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.SOPClassUID = ds.file_meta.MediaStorageSOPClassUID = sop_class
    ds.SOPInstanceUID = ds.file_meta.MediaStorageSOPInstanceUID = _uid()
    ds.StudyInstanceUID, ds.SeriesInstanceUID = study, series
    ds.PatientID, ds.Modality = "BENCH", "OT"
    return ds


def _uid() -> UID:
    return generate_uid(prefix=None, entropy_srcs=[uuid.uuid4().hex])
