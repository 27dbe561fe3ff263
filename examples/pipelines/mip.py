"""Maximum-intensity projections of the largest CT or MR series, as a new series of Secondary Capture images.

MONAI_INPUTPATH: a folder with DICOM files. MONAI_OUTPUTPATH: where the projections are written, one file each.
"""

import sys
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import numpy as np
from derived import MANUFACTURER, SOFTWARE_VERSION, Call, about, made_at, run, series_number, uid
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.sr.codedict import codes
from pydicom.sr.coding import Code
from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage
from pydicom.valuerep import DSfloat
from stack import Stack, Vector, largest_stack

VIEWS = ("sagittal", "coronal", "axial")
"""What a projection along the patient's x, y and z axis is called."""
TOWARDS = (("R", "L"), ("A", "P"), ("F", "H"))
"""The letters for both ends of those axes (PS3.3 C.7.6.1.1.1)."""
CT_WINDOW = (400.0, 1400.0)
"""Centre and width in HU: bone and contrast medium bright, soft tissue dark."""


@dataclass(frozen=True)
class Projection:
    """One picture: values, and which way its columns and rows run."""

    view: str
    pixels: NDArray[np.float32]
    along_row: Vector
    along_column: Vector
    row_spacing: float
    column_spacing: float


def operate(call: Call) -> None:
    """Read, project, write."""
    stack = largest_stack(call.input)
    projections = project(stack)
    encoding = Encoding.of(projections)
    for number, projection in enumerate(projections, start=1):
        image = secondary_capture(stack, projection, encoding, number, call.job)
        image.save_as(call.output / f"mip-{number}-{projection.view}.dcm", enforce_file_format=True)
    views = ", ".join(projection.view for projection in projections)
    print(f"mip: {views} from {len(stack.slices)} slices; {stack.left_out} images of the series left out")


def project(stack: Stack) -> list[Projection]:
    """Along the normal, and, where the slices lie evenly and upright, along both edges of the slices."""
    normal, down, right = stack.directions
    row_spacing, column_spacing = map(float, stack.head.PixelSpacing)
    if stack.gap is None or not stack.upright:
        pixels = reduce(np.maximum, stack.planes())
        return [_hung(normal, pixels, (right, down), (row_spacing, column_spacing))]
    from_front: list[NDArray[np.float32]] = []
    from_side: list[NDArray[np.float32]] = []
    pixels = np.full((stack.head.Rows, stack.head.Columns), -np.inf, dtype=np.float32)
    for plane in stack.planes():
        np.maximum(pixels, plane, out=pixels)
        from_front.append(plane.max(axis=0))
        from_side.append(plane.max(axis=1))
    return [
        _hung(normal, pixels, (right, down), (row_spacing, column_spacing)),
        _hung(down, np.stack(from_front), (right, normal), (stack.gap, column_spacing)),
        _hung(right, np.stack(from_side), (down, normal), (stack.gap, row_spacing)),
    ]


def _hung(
    ray: Vector, pixels: NDArray[np.float32], along: tuple[Vector, Vector], spacing: tuple[float, float]
) -> Projection:
    """Turned as such views are hung: left of the patient or back to the right, feet or back at the bottom."""
    (along_row, along_column), (rows, columns) = along, spacing
    if _axis(along_row) > _axis(along_column):
        pixels, along_row, along_column, rows, columns = pixels.T, along_column, along_row, columns, rows
    if _backwards(along_row):
        pixels, along_row = pixels[:, ::-1], -along_row
    if _backwards(along_column):
        pixels, along_column = pixels[::-1], -along_column
    return Projection(VIEWS[_axis(ray)], np.ascontiguousarray(pixels), along_row, along_column, rows, columns)


def _axis(direction: Vector) -> int:
    return int(np.abs(direction).argmax())


def _backwards(direction: Vector) -> bool:
    axis = _axis(direction)
    return bool(direction[axis] > 0) if axis == 2 else bool(direction[axis] < 0)


@dataclass(frozen=True)
class Encoding:
    """How values become 16-bit pixels: value = stored * slope + intercept, one rule for the whole series."""

    slope: str
    intercept: str

    @classmethod
    def of(cls, projections: list[Projection]) -> "Encoding":
        """Whole numbers stay exact; anything else is spread over the 16 bits."""
        low = min(float(one.pixels.min()) for one in projections)
        high = max(float(one.pixels.max()) for one in projections)
        whole = all(bool((one.pixels == np.rint(one.pixels)).all()) for one in projections)
        exact = high - low <= 0xFFFF and (whole or high == low)
        return cls(_ds(1.0 if exact else (high - low) / 0xFFFF), _ds(low))

    def stored(self, values: NDArray[np.float32]) -> NDArray[np.uint16]:
        """The pixels to write."""
        scaled = (values.astype(np.float64) - float(self.intercept)) / float(self.slope)
        return np.clip(np.rint(scaled), 0, 0xFFFF).astype("<u2")


def secondary_capture(stack: Stack, projection: Projection, encoding: Encoding, number: int, job: str) -> Dataset:
    """A valid Secondary Capture image (PS3.3 A.8.1) that says what it shows and what it was made from."""
    source = stack.head
    made_from = (job, "mip", source.StudyInstanceUID, *(one.head.SOPInstanceUID for one in stack.slices))
    image = about(source)
    image.SOPClassUID = SecondaryCaptureImageStorage
    image.SOPInstanceUID = uid(*made_from, number)
    image.SeriesInstanceUID = uid(*made_from, "series")
    image.Modality = source.get("Modality") or "OT"
    image.SeriesNumber = series_number(source, 1)
    image.SeriesDescription = "Maximum intensity projections"
    _body_part(image, source)
    image.Manufacturer = MANUFACTURER
    image.ManufacturerModelName = "mip"
    image.SoftwareVersions = SOFTWARE_VERSION
    image.ConversionType = "WSD"
    image.InstanceNumber = number
    image.ContentDate, image.ContentTime = made_at([one.file for one in stack.slices], source)
    image.ImageType = ["DERIVED", "SECONDARY", "PROJECTION IMAGE"]
    image.PatientOrientation = [_letters(projection.along_row), _letters(projection.along_column)]
    image.BurnedInAnnotation = "NO"
    _derivation(image, stack, projection)
    _pixels(image, projection, encoding, source)
    image.file_meta = FileMetaDataset()
    image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return image


def _derivation(image: Dataset, stack: Stack, projection: Projection) -> None:
    image.DerivationDescription = f"Maximum intensity projection, {projection.view}, of {len(stack.slices)} slices"
    image.DerivationCodeSequence = [_coded(codes.DCM.MaximumIntensityProjection)]
    image.SourceImageSequence = []
    for one in stack.slices:
        reference = Dataset()
        reference.ReferencedSOPClassUID = one.head.SOPClassUID
        reference.ReferencedSOPInstanceUID = one.head.SOPInstanceUID
        reference.PurposeOfReferenceCodeSequence = [_coded(codes.DCM.SourceImageForImageProcessingOperation)]
        image.SourceImageSequence.append(reference)
    lossy = next((one.head for one in stack.slices if one.head.get("LossyImageCompression") == "01"), None)
    image.LossyImageCompression = "00" if lossy is None else "01"  # once lossy, always said so (PS3.3 C.7.6.1.1.5)
    for keyword in ("LossyImageCompressionRatio", "LossyImageCompressionMethod"):
        if lossy is not None and keyword in lossy:
            image[keyword] = lossy[keyword]


def _pixels(image: Dataset, projection: Projection, encoding: Encoding, source: Dataset) -> None:
    stored = encoding.stored(projection.pixels)
    image.SamplesPerPixel = 1
    image.PhotometricInterpretation = source.get("PhotometricInterpretation") or "MONOCHROME2"
    image.Rows, image.Columns = stored.shape
    image.BitsAllocated = image.BitsStored = 16
    image.HighBit = 15
    image.PixelRepresentation = 0
    image.PixelSpacing = [_ds(projection.row_spacing), _ds(projection.column_spacing)]
    image.RescaleSlope = encoding.slope
    image.RescaleIntercept = encoding.intercept
    image.RescaleType = "HU" if image.Modality == "CT" else "US"  # US: unspecified (PS3.3 C.11.1.1.2)
    centre, width = CT_WINDOW if image.Modality == "CT" else _window(projection.pixels)
    image.WindowCenter, image.WindowWidth = _ds(centre), _ds(width)
    image.PixelData = stored.tobytes()


def _window(pixels: NDArray[np.float32]) -> tuple[float, float]:
    low, high = (float(one) for one in np.percentile(pixels, (1, 99.5)))
    return (low + high) / 2, max(high - low, 1.0)


def _body_part(image: Dataset, source: Dataset) -> None:
    for keyword in ("BodyPartExamined", "Laterality", "PatientPosition"):
        if source.get(keyword):
            image[keyword] = source[keyword]
    if "BodyPartExamined" not in image and "Laterality" not in image:
        image.Laterality = None  # type 2C: not known whether the part is one of a pair (PS3.3 C.7.3.1)


def _letters(direction: Vector) -> str:
    """Where a row or column runs to, the main axis first (PS3.3 C.7.6.1.1.1)."""
    axes = [axis for axis in np.argsort(-np.abs(direction), kind="stable") if abs(direction[axis]) > 0.05]
    return "".join(TOWARDS[axis][int(direction[axis] > 0)] for axis in axes)


def _coded(code: Code) -> Dataset:
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code.value, code.scheme_designator, code.meaning
    return item


def _ds(value: float) -> str:
    return str(DSfloat(value, auto_format=True))  # at most 16 characters (PS3.5 table 6.2-1)


if __name__ == "__main__":
    sys.exit(run(Path(__file__).stem, operate))
