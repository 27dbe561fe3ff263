"""What every object derived from a series has in common: its UIDs, dates, patient and study, and how an operator ends.

Used by the operators of this folder (mip.py, bone_seg.py). Needs pydicom only.
"""

import logging
import os
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from uuid import UUID, uuid5

from pydicom import Dataset, config
from pydicom.uid import UID

MANUFACTURER = "Clara DICOM Adapter"
SOFTWARE_VERSION = "1"
"""Goes up when an operator's result changes, and so do the UIDs that it makes."""

UNUSABLE = 3
"""Exit code when the input holds nothing that the operator can work on."""
FAILED = 1
USAGE = 2

_NAMESPACE = UUID("5b0d5c0e-6f0f-5a53-9a57-6d5f7c1e2a44")

# Patient, Clinical Trial Subject, General Study and Patient Study modules (PS3.3 C.7.1.1, C.7.1.3, C.7.2.1, C.7.2.2):
# a derived object belongs to the same patient and study, so it says about them what its source says.
_REQUIRED = (
    "PatientName",
    "PatientID",
    "PatientBirthDate",
    "PatientSex",
    "StudyInstanceUID",
    "StudyDate",
    "StudyTime",
    "StudyID",
    "AccessionNumber",
    "ReferringPhysicianName",
)
_CARRIED = (
    "SpecificCharacterSet",
    "TimezoneOffsetFromUTC",
    "IssuerOfPatientID",
    "IssuerOfPatientIDQualifiersSequence",
    "OtherPatientIDsSequence",
    "PatientBirthTime",
    "PatientIdentityRemoved",
    "DeidentificationMethod",
    "DeidentificationMethodCodeSequence",
    "PatientSpeciesDescription",
    "PatientSpeciesCodeSequence",
    "ResponsiblePerson",
    "ResponsiblePersonRole",
    "ResponsibleOrganization",
    "ClinicalTrialSponsorName",
    "ClinicalTrialProtocolID",
    "ClinicalTrialProtocolName",
    "ClinicalTrialSiteID",
    "ClinicalTrialSiteName",
    "ClinicalTrialSubjectID",
    "ClinicalTrialSubjectReadingID",
    "StudyDescription",
    "IssuerOfAccessionNumberSequence",
    "ProcedureCodeSequence",
    "PatientAge",
    "PatientSize",
    "PatientWeight",
)


class Unusable(Exception):
    """The input holds nothing to work on; the text is shown to people and names no patient."""


@dataclass(frozen=True)
class Call:
    """The folders of one run, and the job that it belongs to (empty when run by hand)."""

    input: Path
    output: Path
    job: str


def run(name: str, operator: Callable[[Call], None]) -> int:
    """Run an operator on the folders that the environment names; the exit code.

    Everything on standard error becomes part of the job's log and message, where no patient attribute may appear.
    pydicom's warnings and most errors quote element values, so none of their text gets there.
    """
    warnings.simplefilter("ignore")
    logging.disable(logging.CRITICAL)
    config.settings.reading_validation_mode = config.IGNORE
    config.settings.writing_validation_mode = config.IGNORE
    try:
        call = Call(
            input=Path(os.environ["MONAI_INPUTPATH"]),
            output=Path(os.environ["MONAI_OUTPUTPATH"]),
            job=os.environ.get("CLARA_JOB_ID", ""),
        )
    except KeyError as error:
        print(f"{name}: the environment variable {error.args[0]} is not set", file=sys.stderr)
        return USAGE
    try:
        if not call.input.is_dir():
            raise Unusable("the input folder does not exist")
        call.output.mkdir(parents=True, exist_ok=True)
        operator(call)
    except Unusable as error:
        print(f"{name}: {error}", file=sys.stderr)
        return UNUSABLE
    except Exception as error:
        # the lines of code tell where; the error's own text may hold a value of the patient's
        print("".join(traceback.format_tb(error.__traceback__)) + f"{name}: {type(error).__name__}", file=sys.stderr)
        return FAILED
    return 0


def uid(*parts: object) -> UID:
    """The UID that belongs to these parts: the same parts, the same UID (PS3.5 B.2, derived from a UUID)."""
    name = "\0".join([SOFTWARE_VERSION, *(str(part) for part in parts)])
    return UID(f"2.25.{uuid5(_NAMESPACE, name).int}")


def about(source: Dataset) -> Dataset:
    """Patient and study of `source`, with the elements that must be there even when empty (type 2)."""
    dataset = Dataset()
    for keyword in _CARRIED:
        if keyword in source:
            dataset[keyword] = deepcopy(source[keyword])
    for keyword in _REQUIRED:
        if keyword in source:
            dataset[keyword] = deepcopy(source[keyword])
        else:
            setattr(dataset, keyword, None)
    return dataset


def series_number(source: Dataset, offset: int) -> int:
    """A number that sorts a derived series behind its source; IS holds 32 bits (PS3.5 table 6.2-1)."""
    number = int(source.get("SeriesNumber") or 0)
    return 100 * number + offset if 0 <= number < 10_000_000 else offset


def made_at(files: Sequence[Path], source: Dataset) -> tuple[str, str]:
    """Date and time of the derived content: when the newest input file arrived.

    Not the clock's: a run that is repeated on the same payload then writes the same bytes under the same UIDs. In the
    time zone that the source names, because one zone counts for the whole object (PS3.3 C.12.1.1.8).
    """
    arrived = datetime.fromtimestamp(int(max(file.stat().st_mtime for file in files))).astimezone()
    try:
        zone = datetime.strptime(str(source.TimezoneOffsetFromUTC), "%z").tzinfo
        arrived = arrived.astimezone(zone)
    except (AttributeError, ValueError):
        pass
    return arrived.strftime("%Y%m%d"), arrived.strftime("%H%M%S")
