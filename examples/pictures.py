"""Pictures (PNG) of what went into a pipeline and what came out: a slice, a projection, a segmentation over its slice.

    python examples/pictures.py INPUT RESULT FOLDER

INPUT and RESULT are searched for DICOM files with all their subfolders. No patient attribute gets into a picture or its
name.
"""

import argparse
import warnings
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydicom import Dataset, dcmread
from pydicom.errors import InvalidDicomError
from pydicom.pixels.processing import apply_rescale
from pydicom.uid import SegmentationStorage

SIDE = 512
"""A picture's longer side in pixels; smaller images are drawn larger."""
COLOUR = np.array([255, 170, 40], dtype=np.float32)
OPACITY = 0.55

Grey = NDArray[np.uint8]
Picture = NDArray[np.uint8]


def render(source: Path, results: Path, folder: Path) -> list[Path]:
    """Draw the middle image of every series of `source` and every result; the pictures' files, inputs first."""
    folder.mkdir(parents=True, exist_ok=True)
    inputs = {str(head.SOPInstanceUID): file for file, head in _dicom(source)}
    pictures = [(f"input-{modality}", picture) for modality, picture in _series(source)]
    for file, head in _dicom(results):
        if head.SOPClassUID == SegmentationStorage:
            overlay = segmentation_overlay(dcmread(file), inputs)
            name, drawn = "result-segmentation", overlay
        else:
            name, drawn = f"result-{_modality(head)}", image_picture(dcmread(file))
        if drawn is not None:
            pictures.append((name, drawn))
    files = []
    for number, (name, picture) in enumerate(pictures, start=1):
        files.append(folder / f"{number:02}-{name}.png")
        Image.fromarray(picture).save(files[-1])
    return files


def image_picture(dataset: Dataset) -> Picture | None:
    """An image, its middle frame when it has several, in its window and with square pixels; None when undecodable."""
    try:
        pixels: NDArray[np.generic] = dataset.pixel_array
    except (RuntimeError, NotImplementedError, ValueError, AttributeError):
        return None
    if int(dataset.get("NumberOfFrames") or 1) > 1:
        pixels = pixels[len(pixels) // 2]
    if pixels.ndim == 3:
        return _enlarged(pixels.astype(np.uint8), 1.0)
    values = apply_rescale(pixels, dataset).astype(np.float32)
    grey = windowed(values, *_window(dataset, values))
    if dataset.get("PhotometricInterpretation") == "MONOCHROME1":
        grey = 255 - grey
    return _enlarged(grey, _stretch(dataset))


def windowed(values: NDArray[np.float32], centre: float, width: float) -> Grey:
    """Grey values of the linear window (PS3.3 C.11.2.1.2.1)."""
    scaled = (values - (centre - 0.5)) / max(width - 1, 1e-6) + 0.5
    grey: Grey = (np.clip(scaled, 0, 1) * 255).astype(np.uint8)
    return grey


def segmentation_overlay(segmentation: Dataset, inputs: dict[str, Path]) -> Picture | None:
    """The frame with the most segmented pixels, over the image that it was made from; None when that is not there."""
    frames = segmentation.pixel_array
    frames = frames[np.newaxis] if frames.ndim == 2 else frames
    number = int(frames.reshape(len(frames), -1).sum(axis=1).argmax())
    groups = segmentation.PerFrameFunctionalGroupsSequence[number]
    reference = groups.DerivationImageSequence[0].SourceImageSequence[0]
    file = inputs.get(str(reference.ReferencedSOPInstanceUID))
    if file is None:
        return None
    image = dcmread(file)
    values = apply_rescale(image.pixel_array, image).astype(np.float32)
    grey = windowed(values, *_window(image, values))
    picture = np.repeat(grey[..., np.newaxis], 3, axis=2).astype(np.float32)
    segment = frames[number].astype(bool)
    picture[segment] = (1 - OPACITY) * picture[segment] + OPACITY * COLOUR
    return _enlarged(picture.astype(np.uint8), _stretch(image))


def _series(folder: Path) -> Iterator[tuple[str, Picture]]:
    series: dict[str, list[tuple[int, Path, str]]] = defaultdict(list)
    for file, head in _dicom(folder):
        place = (int(head.get("InstanceNumber") or 0), file, _modality(head))
        series[str(head.get("SeriesInstanceUID"))].append(place)
    for _, images in sorted(series.items()):
        _, file, modality = sorted(images)[len(images) // 2]
        picture = image_picture(dcmread(file))
        if picture is not None:
            yield modality, picture


def _dicom(folder: Path) -> Iterator[tuple[Path, Dataset]]:
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        try:
            head = dcmread(file, stop_before_pixels=True)
        except (InvalidDicomError, OSError, EOFError, ValueError):
            continue
        if "SOPClassUID" in head and "SOPInstanceUID" in head:
            yield file, head


def _modality(head: Dataset) -> str:
    """Two letters that may stand in a file name, whatever the object says."""
    modality = str(head.get("Modality") or "")
    return modality.lower() if modality.isascii() and modality.isalnum() and len(modality) <= 8 else "other"


def _window(dataset: Dataset, values: NDArray[np.float32]) -> tuple[float, float]:
    def first(keyword: str) -> float | None:
        value = dataset.get(keyword)
        if value is None or value == "":
            return None
        return float(value if isinstance(value, (int, float, str)) else value[0])

    centre, width = first("WindowCenter"), first("WindowWidth")
    if centre is not None and width is not None and width >= 1:
        return centre, width
    low, high = (float(one) for one in np.percentile(values, (1, 99)))
    return (low + high) / 2, max(high - low, 1.0)


def _stretch(dataset: Dataset) -> float:
    """Height of a pixel in its widths."""
    spacing = dataset.get("PixelSpacing") or [1, 1]
    rows, columns = float(spacing[0]), float(spacing[1])
    return rows / columns if rows > 0 and columns > 0 else 1.0


def _enlarged(picture: Picture, stretch: float) -> Picture:
    height, width = picture.shape[0] * stretch, float(picture.shape[1])
    factor = SIDE / max(height, width)
    size = (max(1, round(width * factor)), max(1, round(height * factor)))
    return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BILINEAR))


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="Draw what went into a pipeline and what came out.")
    for name in ("input", "result", "folder"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    warnings.simplefilter("ignore")  # pydicom's quote element values
    for file in render(options.input, options.result, options.folder):
        print(file)


if __name__ == "__main__":
    main()
