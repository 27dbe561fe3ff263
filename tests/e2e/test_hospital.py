"""The whole way among other people's programs: dcmtk sends, dcmtk and Orthanc get what the pipelines made."""

import subprocess
import sys
from pathlib import Path

import pydicom
import pytest
from e2e.conftest import Hospital
from pydicom.uid import DeflatedExplicitVRLittleEndian
from support.dcmtk import echoscu, proposals, storescu
from support.site import wait_until

from clara_dicom_adapter.clara.model import JobState, PlatformJob
from clara_dicom_adapter.dicom.part10 import read_meta

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

TEST_FILES = Path(pydicom.__file__).parent / "data" / "test_files"
STUDIES = [
    TEST_FILES / f"{name}.dcm"
    for name in (
        "CT_small",
        "MR_small_implicit",
        "liver_expb_1frame",
        "image_dfl",
        "SC_rgb_small_odd_jpeg",
        "JPEG-lossy",
        "693_J2KI",
        "J2K_pixelrep_mismatch",
        "SC_rgb_rle",
        "reportsi",
        "test-SR",
        "waveform_ecg",
    )
]
"""Of nine transfer syntaxes, storescu can be told to propose each; every one of another SOP instance."""


def data_sets(files: list[Path]) -> dict[str, tuple[str, bytes]]:
    """Transfer syntax and data set bytes of each SOP instance."""
    found = {}
    for path in files:
        meta = read_meta(path)
        found[meta.sop_instance_uid] = (meta.transfer_syntax_uid, path.read_bytes()[meta.dataset_offset :])
    return found


def jobs_for(hospital: Hospital, ae_title: str) -> list[PlatformJob]:
    return [job for job in hospital.site.jobs() if job.metadata["Source"].startswith(f"{ae_title} ")]


def made(hospital: Hospital, job: PlatformJob) -> list[Path]:
    """What the pipeline of a job made."""
    return sorted((hospital.site.data.platform / "payloads" / job.payload_id / "operators").rglob("*.dcm"))


def test_echo(hospital: Hospital) -> None:
    answer = echoscu(hospital.port, "BOTH")
    assert answer.returncode == 0, answer.stdout
    assert "Received Echo Response (Success)" in answer.stdout


@pytest.mark.parametrize(
    ("calling", "called", "reason"),
    [
        ("STRANGER", "BOTH", "Calling AE Title Not Recognized"),
        ("CT1", "NOWHERE", "Called AE Title Not Recognized"),
        ("ct1", "BOTH", "Calling AE Title Not Recognized"),  # AE titles are case-sensitive
    ],
)
def test_strangers_are_rejected(hospital: Hospital, calling: str, called: str, reason: str) -> None:
    for answer in (
        echoscu(hospital.port, called, calling=calling),
        storescu(hospital.port, called, STUDIES[0], calling=calling),
    ):
        assert answer.returncode != 0
        assert "Result: Rejected Permanent, Source: Service User" in answer.stdout
        assert f"Reason: {reason}" in answer.stdout


def test_a_study_in_many_transfer_syntaxes_goes_the_whole_way_byte_for_byte(hospital: Hospital, tmp_path: Path) -> None:
    """One window of several associations; results to storescp and to Orthanc."""
    by_option = proposals(STUDIES)
    assert len(by_option) == 9
    for option, files in by_option.items():
        answer = storescu(hospital.port, "WINDOW", option, *files)
        assert answer.returncode == 0, answer.stdout
        assert answer.stdout.count("Received Store Response (Success)") == len(files)

    def exported() -> bool:
        return len(list(hospital.stored.iterdir())) >= len(STUDIES) <= len(hospital.orthanc.instances())

    wait_until("both have every result", exported)
    jobs = jobs_for(hospital, "WINDOW")
    assert sum(len(hospital.site.payload(job)) for job in jobs) == len(STUDIES)
    expected = data_sets([path for job in jobs for path in made(hospital, job)])
    assert len(expected) == len(STUDIES)
    assert len({syntax for syntax, _ in expected.values()}) == 9
    assert differences(expected, data_sets(list(hospital.stored.iterdir()))) == []
    in_orthanc = data_sets(hospital.orthanc.save(tmp_path / "orthanc"))
    # Orthanc inflates what it gets deflated before it stores it
    deflated = {uid for uid, (syntax, _) in expected.items() if syntax == DeflatedExplicitVRLittleEndian}
    assert set(differences(expected, in_orthanc)) == deflated
    wait_until("the spool is empty", lambda: hospital.site.usage().instances == 0)


def differences(expected: dict[str, tuple[str, bytes]], found: dict[str, tuple[str, bytes]]) -> list[str]:
    """Readable: which instances, not their bytes."""
    return sorted(uid for uid in expected.keys() | found.keys() if expected.get(uid) != found.get(uid))


def test_a_series_becomes_projections_in_orthanc(hospital: Hospital, tmp_path: Path) -> None:
    script = Path(__file__).parents[2] / "examples" / "studies" / "make_ct.py"
    series = tmp_path / "series"
    subprocess.run([sys.executable, str(script), str(series), "--slices", "20", "--size", "64"], check=True, timeout=60)
    before = set(hospital.orthanc.instances())
    answer = storescu(hospital.port, "MIP", *sorted(series.iterdir()))
    assert answer.returncode == 0, answer.stdout
    wait_until("the job is done", lambda: [job.state for job in jobs_for(hospital, "MIP")] == [JobState.STOPPED])
    (job,) = jobs_for(hospital, "MIP")
    expected = data_sets(made(hospital, job))
    assert expected
    wait_until("Orthanc has them", lambda: hospital.orthanc.instances().keys() - before == expected.keys())
    got = [path for path in hospital.orthanc.save(tmp_path / "orthanc") if path.stem in expected]
    assert differences(expected, data_sets(got)) == []
    assert {read_meta(path).sop_class_uid for path in got} == {"1.2.840.10008.5.1.4.1.1.7"}
