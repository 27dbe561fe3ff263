"""Small objects to send, and one that is large, made on the fly."""

import os
import uuid
from collections.abc import Mapping
from math import isqrt
from pathlib import Path

from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.tag import Tag
from pydicom.uid import UID, ExplicitVRLittleEndian, generate_uid

from clara_dicom_adapter.dicom.negotiation import Context
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.requestor import StoredObject

CT = UID("1.2.840.10008.5.1.4.1.1.2")
MULTIFRAME = UID("1.2.840.10008.5.1.4.1.1.7.2")
"""Multi-frame Grayscale Byte Secondary Capture Image Storage."""
_CHUNK = bytes(range(256)) * 4096
_CT_HEAD: Mapping[str, object] = {
    "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
    "InstanceCreationDate": "20240101",
    "InstanceCreationTime": "120000",
    "StudyDate": "20240101",
    "SeriesDate": "20240101",
    "AcquisitionDate": "20240101",
    "ContentDate": "20240101",
    "StudyTime": "120000",
    "SeriesTime": "120000",
    "AcquisitionTime": "120000",
    "ContentTime": "120000",
    "AccessionNumber": "4711",
    "Modality": "CT",
    "Manufacturer": "BENCH",
    "InstitutionName": "BENCH",
    "StationName": "BENCH",
    "StudyDescription": "Thorax",
    "SeriesDescription": "Thorax 1.0",
    "ManufacturerModelName": "BENCH",
    "PatientName": "BENCH",
    "PatientBirthDate": "19700101",
    "PatientSex": "O",
    "PatientAge": "054Y",
    "BodyPartExamined": "CHEST",
    "SliceThickness": 1,
    "KVP": 120,
    "DataCollectionDiameter": 500,
    "SoftwareVersions": "1",
    "ProtocolName": "Thorax",
    "ReconstructionDiameter": 500,
    "GantryDetectorTilt": 0,
    "TableHeight": 150,
    "ExposureTime": 500,
    "XRayTubeCurrent": 200,
    "ConvolutionKernel": "B30f",
    "PatientPosition": "HFS",
    "StudyID": "1",
    "SeriesNumber": 1,
    "AcquisitionNumber": 1,
    "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
    "FrameOfReferenceUID": "2.25.1",
    "PositionReferenceIndicator": "",
    "SamplesPerPixel": 1,
    "PhotometricInterpretation": "MONOCHROME2",
    "PixelSpacing": [0.97, 0.97],
    "BitsAllocated": 16,
    "BitsStored": 16,
    "HighBit": 15,
    "PixelRepresentation": 0,
    "WindowCenter": 40,
    "WindowWidth": 400,
    "RescaleIntercept": -1024,
    "RescaleSlope": 1,
}


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


def write_images(folder: Path, count: int, pixel_bytes: int) -> list[Path]:
    """Files of one study with the head of a real CT image, and pixels that are in each file others."""
    folder.mkdir(parents=True, exist_ok=True)
    image = _dataset(CT, _uid(), _uid())
    for keyword, value in _CT_HEAD.items():
        setattr(image, keyword, value)
    code = Dataset()
    code.CodeValue, code.CodingSchemeDesignator, code.CodeMeaning = "P5-0808E", "SRT", "Thorax"
    image.ProcedureCodeSequence = [code]
    side = isqrt(pixel_bytes // 2)
    image.Rows, image.Columns = side, side
    noise = os.urandom(pixel_bytes + count)
    paths = []
    for number in range(count):
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = _uid()
        image.InstanceNumber = number + 1
        image.ImagePositionPatient = [-250, -250, number]
        image.PixelData = noise[number : number + pixel_bytes]
        image["PixelData"].VR = "OW"
        path = folder / f"{number:06d}.dcm"
        image.save_as(path, enforce_file_format=True)
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
