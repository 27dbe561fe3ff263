"""Bone of the largest CT series by threshold, as a DICOM segmentation (PS3.3 A.51).

MONAI_INPUTPATH: a folder with DICOM files. MONAI_OUTPUTPATH: where the segmentation is written.
"""

import argparse
import math
import sys

import highdicom as hd
import numpy as np
from components import Mask, without_small_pieces
from derived import MANUFACTURER, SOFTWARE_VERSION, Call, Unusable, about, made_at, run, series_number, uid
from pydicom import Dataset
from pydicom.sr.codedict import codes
from pydicom.uid import UID, CTImageStorage, ExplicitVRLittleEndian
from stack import Stack, largest_stack

BONE_COLOUR = hd.color.CIELabColor(89.0, 0.0, 20.0)


def operate(call: Call) -> None:
    """Read, segment, write."""
    options = _options()
    stack = largest_stack(call.input, [CTImageStorage])
    if not stack.head.get("FrameOfReferenceUID"):
        raise Unusable("the CT series has no frame of reference, so a segmentation cannot be placed in it")
    mask = bone(stack, options.threshold, options.smallest)
    segmentation = encode(stack, mask, options, call.job)
    segmentation.save_as(call.output / "bone-seg.dcm", enforce_file_format=True)
    print(f"bone-seg: {int(mask.sum())} voxels in {int(mask.any(axis=(1, 2)).sum())} of {len(mask)} slices")


def bone(stack: Stack, threshold: float, smallest: float) -> Mask:
    """What is at least as dense as `threshold` HU, without pieces of less than `smallest` cubic mm."""
    mask = np.stack([plane >= threshold for plane in stack.planes()])
    return without_small_pieces(mask, math.ceil(smallest / voxel_volume(stack)))


def voxel_volume(stack: Stack) -> float:
    """In cubic mm; of a single or unevenly spaced slice its thickness counts."""
    rows, columns = map(float, stack.head.PixelSpacing)
    return rows * columns * (stack.gap or float(stack.head.get("SliceThickness") or 1))


def encode(stack: Stack, mask: Mask, options: argparse.Namespace, job: str) -> Dataset:
    """One binary segment; frames without bone are left out, unless there is no bone at all."""
    sources = [_complete(one.head) for one in stack.slices]
    made_from = (
        job,
        "bone-seg",
        options.threshold,
        options.smallest,
        stack.head.StudyInstanceUID,
        *(one.SOPInstanceUID for one in sources),
    )
    segmentation = hd.seg.Segmentation(
        source_images=sources,
        pixel_array=mask.astype(np.uint8),
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_segment(options, uid(*made_from, "segment"))],
        series_instance_uid=uid(*made_from, "series"),
        series_number=series_number(stack.head, 2),
        sop_instance_uid=uid(*made_from, "instance"),
        instance_number=1,
        manufacturer=MANUFACTURER,
        manufacturer_model_name="bone-seg",
        software_versions=SOFTWARE_VERSION,
        device_serial_number="1",
        content_label="BONE",
        content_description=f"Bone, {options.threshold:g} HU and more",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=bool(mask.any()),
    )
    segmentation.SeriesDescription = "Bone segmentation"
    segmentation.update({element.tag: element for element in about(stack.head)})
    _repeatable(segmentation, stack, uid(*made_from, "dimensions"))
    return segmentation


def _segment(options: argparse.Namespace, tracking: UID) -> hd.seg.SegmentDescription:
    threshold, smallest = f"{options.threshold:g}", f"{options.smallest:g}"
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Bone",
        segmented_property_category=codes.SCT.AnatomicalStructure,
        segmented_property_type=codes.SCT.Bone,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=hd.AlgorithmIdentificationSequence(
            name="Threshold and connected components",
            family=codes.cid7162.MorphologicalOperations,
            version=SOFTWARE_VERSION,
            source=MANUFACTURER,
            parameters={"threshold HU": threshold, "smallest cubic mm": smallest},
        ),
        tracking_uid=tracking,
        tracking_id=f"bone-{threshold}HU",
        display_color=BONE_COLOUR,
    )


def _complete(head: Dataset) -> Dataset:
    """The head with empty values where highdicom reads elements that a sender may have left out (all type 2)."""
    for element in about(head):
        if element.tag not in head:
            head[element.tag] = element
    if "PositionReferenceIndicator" not in head:
        head.PositionReferenceIndicator = None
    return head


def _repeatable(segmentation: Dataset, stack: Stack, dimensions: UID) -> None:
    """Put what the input decides where highdicom puts a random UID and the clock."""
    date, time = made_at([one.file for one in stack.slices], stack.head)
    for keyword in ("ContentDate", "InstanceCreationDate", "SeriesDate"):
        if keyword in segmentation:
            setattr(segmentation, keyword, date)
    for keyword in ("ContentTime", "InstanceCreationTime", "SeriesTime"):
        if keyword in segmentation:
            setattr(segmentation, keyword, time)
    for equipment in segmentation.get("ContributingEquipmentSequence", []):
        equipment.ContributionDateTime = date + time
    for item in [*segmentation.DimensionOrganizationSequence, *segmentation.DimensionIndexSequence]:
        item.DimensionOrganizationUID = dimensions


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bone-seg", description=__doc__)
    parser.add_argument("--threshold", type=float, default=200.0, metavar="HU")
    parser.add_argument("--smallest", type=float, default=100.0, metavar="CUBIC_MM")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(run("bone-seg", operate))
