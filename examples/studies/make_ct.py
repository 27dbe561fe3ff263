"""Make a CT study of a phantom: a torso with lungs, heart, spine, ribs and breastbone that no person ever had.

    python examples/studies/make_ct.py FOLDER [--slices 120] [--size 512] [--seed 1]

Same arguments, same study: UIDs, pixels and bytes. Another seed is another patient and study.
"""

import argparse
import math
import uuid
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian

HEIGHT = 300.0
"""Of the scanned part in mm, however many slices it is cut into."""
FIELD = 400.0
"""Side of a slice in mm."""
INTERCEPT = -1024

Plane = NDArray[np.float32]
_NAMESPACE = uuid.UUID("0c6f2a55-3c7b-5f0e-8d9e-6a4b1f1d7e10")


class Phantom:
    """Hounsfield units of one horizontal slice after another; x grows to the left, y to the back, z to the head."""

    def __init__(self, size: int, seed: int) -> None:
        self._random = np.random.default_rng(seed)
        self._scale = np.float32(1 + 0.06 * self._random.uniform(-1, 1))  # no two patients are of one size
        axis = (np.arange(size, dtype=np.float32) - (size - 1) / 2) * np.float32(FIELD / size)
        self._x, self._y = np.meshgrid(axis / self._scale, axis / self._scale)
        self._chest = self._ellipse(0, 0, 145, 98)
        self._sink = (1 - self._y / np.hypot(self._x, self._y + 1e-3)) / 2  # 0 at the back, 1 in front

    def slice(self, z: float) -> Plane:
        """At height z in mm, 0 at the feet's end."""
        hu = np.full_like(self._x, -1000)
        hu[self._ellipse(0, 0, 172, 120) < 1] = -95  # fat
        hu[self._ellipse(0, 0, 160, 110) < 1] = 45  # muscle
        self._organs(hu, z)
        self._ribs(hu, z)
        self._spine(hu, z)
        smooth: NDArray[np.floating] = hu
        for axis in (0, 1):  # edges take part of both sides, as a scanner's do
            smooth = (np.roll(smooth, 1, axis) + 2 * smooth + np.roll(smooth, -1, axis)) / 4
        return (smooth + self._noise(hu.shape)).astype(np.float32)

    def _organs(self, hu: Plane, z: float) -> None:
        for side in (-1, 1):
            reach = 1 - ((z - 190) / 125) ** 2
            if reach > 0:
                width = math.sqrt(reach)
                hu[self._ellipse(side * 72, 2, 52 * width, 78 * width) < 1] = -840
        if abs(z - 130) < 55:  # heart, more to the left
            width = math.sqrt(1 - ((z - 130) / 55) ** 2)
            hu[self._ellipse(22, -32, 58 * width, 48 * width) < 1] = 55
        if z < 90:
            hu[self._ellipse(-70, -10, 72, 62) < 1] = 62  # liver
        hu[self._ellipse(16, 38, 12, 12) < 1] = 150  # aorta, with contrast medium
        if z > 175:
            hu[self._ellipse(0, 12, 9, 8) < 1] = -980  # windpipe

    def _ribs(self, hu: Plane, z: float) -> None:
        shell = np.abs(np.sqrt(self._chest) - 1) * 120
        for number in range(11):
            off = np.abs(z - (62 + 27 * number - 55 * self._sink))
            bone = (shell / 5.5) ** 2 + (off / 6.5) ** 2
            front = self._sink > 0.93  # cartilage, and the breastbone's place
            hu[(bone < 1) & ~front] = 420
            hu[(bone < 1) & (bone > 0.45) & ~front] = 820
        if 95 < z < 245:
            plate = np.maximum(np.abs(self._x) / 20, np.abs(self._y + 96) / 6.5)
            hu[plate < 1] = 640
            hu[plate < 0.6] = 340

    def _spine(self, hu: Plane, z: float) -> None:
        height = (z + 8) % 31  # a vertebra of 24 mm, a disc of 7
        if height < 24:
            waist = 1 - 0.1 * math.sin(math.pi * height / 24)
            body = self._ellipse(0, 62, 24 * waist, 18 * waist)
            hu[body < 1] = 780
            hu[body < 0.78] = 320
        else:
            hu[self._ellipse(0, 62, 23, 17) < 1] = 95
        arch = self._ellipse(0, 84, 17, 13)
        hu[arch < 1] = 600
        if height < 10:
            hu[np.maximum(np.abs(self._x) / 34, np.abs(self._y - 86) / 5) < 1] = 520  # transverse processes
        if height < 15:
            hu[np.maximum(np.abs(self._x) / 4, np.abs(self._y - 100) / 12) < 1] = 560  # spinous process
        hu[self._ellipse(0, 84, 9, 8) < 1] = 35  # canal

    def _noise(self, shape: tuple[int, ...]) -> Plane:
        grain: Plane = self._random.standard_normal(shape, dtype=np.float32)
        for axis in (0, 1):
            grain = grain + np.roll(grain, 1, axis)
        return grain * np.float32(6)

    def _ellipse(self, x: float, y: float, wide: float, deep: float) -> Plane:
        distance = ((self._x - x) / max(wide, 1e-3)) ** 2 + ((self._y - y) / max(deep, 1e-3)) ** 2
        plane: Plane = distance.astype(np.float32, copy=False)
        return plane


def make_study(folder: Path, slices: int = 120, size: int = 512, seed: int = 1) -> list[Path]:
    """Write the study, one file per slice from head to feet; the files."""
    folder.mkdir(parents=True, exist_ok=True)
    phantom = Phantom(size, seed)
    gap = HEIGHT / slices
    files = []
    for number in range(1, slices + 1):
        z = HEIGHT - (number - 0.5) * gap
        stored = np.clip(np.rint(phantom.slice(z)) - INTERCEPT, 0, 4095).astype("<u2")
        image = _image((slices, size, seed), number, z, gap)
        image.PixelData = stored.tobytes()
        files.append(folder / f"ct-{seed}-{number:04}.dcm")
        image.save_as(files[-1], enforce_file_format=True)
    return files


def _image(study: tuple[int, int, int], number: int, z: float, gap: float) -> Dataset:
    """A CT Image (PS3.3 A.3) without its pixels."""
    _, size, seed = study
    spacing = FIELD / size
    image = Dataset()
    image.SOPClassUID = CTImageStorage
    image.SOPInstanceUID = _uid(*study, number)
    image.StudyInstanceUID, image.SeriesInstanceUID = _uid(*study, "study"), _uid(*study, "series")
    image.FrameOfReferenceUID = _uid(*study, "frame of reference")
    image.PatientName, image.PatientID = f"Phantom^Number {seed}", f"PHANTOM-{seed}"
    image.PatientBirthDate, image.PatientSex = "", "O"
    image.StudyDate = image.SeriesDate = image.AcquisitionDate = image.ContentDate = "20240229"
    image.StudyTime, image.SeriesTime = "080000", "080500"
    image.AcquisitionTime = image.ContentTime = "080510"
    image.AccessionNumber, image.StudyID, image.ReferringPhysicianName = f"PH{seed:06}", str(seed), ""
    image.StudyDescription = "Phantom, chest"
    image.Modality, image.SeriesNumber, image.AcquisitionNumber, image.InstanceNumber = "CT", 2, 1, number
    image.SeriesDescription = f"Chest, {gap:g} mm"
    image.Manufacturer, image.ManufacturerModelName = "Clara DICOM Adapter", "phantom"
    image.BodyPartExamined, image.PatientPosition = "CHEST", "HFS"
    image.ImageType = ["ORIGINAL", "PRIMARY", "AXIAL"]
    image.PositionReferenceIndicator = ""
    image.ImagePositionPatient = [_mm((spacing - FIELD) / 2), _mm((spacing - FIELD) / 2), _mm(z)]
    image.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
    image.SliceLocation, image.SliceThickness, image.PixelSpacing = _mm(z), _mm(gap), [_mm(spacing), _mm(spacing)]
    image.KVP, image.ConvolutionKernel, image.BurnedInAnnotation = 120, "NONE", "NO"
    image.SamplesPerPixel, image.PhotometricInterpretation = 1, "MONOCHROME2"
    image.Rows = image.Columns = size
    image.BitsAllocated, image.BitsStored, image.HighBit, image.PixelRepresentation = 16, 12, 11, 0
    image.RescaleIntercept, image.RescaleSlope, image.RescaleType = INTERCEPT, 1, "HU"
    image.WindowCenter, image.WindowWidth = 40, 400
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _uid(*parts: object) -> UID:
    return UID(f"2.25.{uuid.uuid5(_NAMESPACE, '/'.join(map(str, parts))).int}")


def _mm(value: float) -> str:
    return f"{value:.6f}".rstrip("0").rstrip(".")  # within the 16 characters of a DS


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Make a CT study of a phantom.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--slices", type=int, default=120)
    parser.add_argument("--size", type=int, default=512, help="rows and columns")
    parser.add_argument("--seed", type=int, default=1, help="another seed is another patient and study")
    options = parser.parse_args()
    files = make_study(options.folder, options.slices, options.size, options.seed)
    print(f"{len(files)} images in {options.folder}")


if __name__ == "__main__":
    main()
