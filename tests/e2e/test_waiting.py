"""What waits: for a person, because a pipeline is unknown or a sender broke off; or for a sender to come back."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.conftest import Hospital
from support.dcmtk import storescu
from support.dicom_objects import make_objects
from support.site import PIPELINE, wait_until

from clara_dicom_adapter.clara.model import PlatformJob
from clara_dicom_adapter.dicom.part10 import read_meta

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


def attention(hospital: Hospital) -> list[dict[str, Any]]:
    """What the command line lists."""
    found: list[dict[str, Any]] = json.loads(hospital.site.clara("attention", "--json"))
    return found


def attention_by_api(hospital: Hospital) -> list[dict[str, Any]]:
    answer = httpx.get(f"{hospital.site.status.addresses['api']}/api/attention", trust_env=False)
    found: list[dict[str, Any]] = answer.raise_for_status().json()
    return found


def waiting(hospital: Hospital) -> dict[str, Any]:
    """The one thing that waits, once it does."""
    wait_until("something waits for a person", lambda: bool(attention(hospital)))
    (found,) = attention(hospital)
    (by_api,) = attention_by_api(hospital)
    assert by_api["workflowId"] == found["id"]
    assert by_api["calledAeTitle"] == found["ae_title"]
    assert by_api["instances"] == found["instances"]
    return found


def uids(files: list[Path]) -> set[str]:
    return {read_meta(path).sop_instance_uid for path in files}


@pytest.fixture
def known(hospital: Hospital) -> Iterator[set[str]]:
    """Ids of the jobs of earlier tests; at the end nothing waits, and the spool is empty."""
    yield {job.job_id for job in hospital.site.jobs()}
    wait_until("the spool is empty", lambda: not hospital.site.associations())
    wait_until("nothing waits", lambda: attention(hospital) == [] == attention_by_api(hospital))


def new_jobs(hospital: Hospital, known: set[str]) -> list[PlatformJob]:
    return [job for job in hospital.site.jobs() if job.job_id not in known]


def payloads(hospital: Hospital, known: set[str]) -> list[set[str]]:
    """SOP instances in each new job, and none twice."""
    found = [hospital.site.payload(job) for job in new_jobs(hospital, known)]
    assert all(len(names) == len(set(names)) for names in found)
    return [set(names) for names in found]


def send(hospital: Hospital, called: str, files: list[Path], *options: str) -> None:
    answer = storescu(hospital.port, called, *options, *files)
    assert answer.stdout.count("Received Store Response (Success)") == len(files), answer.stdout


# ---- an unknown pipeline ----


def test_what_an_unknown_pipeline_was_for_waits_until_it_is_there(
    hospital: Hospital, tmp_path: Path, known: set[str]
) -> None:
    files = make_objects(tmp_path / "a", 3)
    send(hospital, "LATER", files)
    found = waiting(hospital)
    assert (found["kind"], found["ae_title"], found["item"], found["instances"]) == ("submission", "LATER", "x", 3)
    assert hospital.site.usage().instances == 3

    later = hospital.site.data.pipelines / "later"
    shutil.copytree(PIPELINE, later)
    definition = later / "pipeline.yaml"
    text = definition.read_text().replace("name: copy\ndescription", "name: later\ndescription")
    definition.write_text(text.replace("[PACS]", "[STORESCP]"))
    hospital.site.clara("retry", found["id"])
    wait_until("the job has them", lambda: payloads(hospital, known) == [uids(files)])
    wait_until("the spool is empty", lambda: not hospital.site.associations())

    shutil.rmtree(later)


def test_what_an_unknown_pipeline_was_for_can_be_given_up(hospital: Hospital, tmp_path: Path, known: set[str]) -> None:
    send(hospital, "NEVER", make_objects(tmp_path / "a", 3))
    hospital.site.clara("discard", waiting(hospital)["id"], "--reason", "not wanted")
    wait_until("the spool is empty", lambda: not hospital.site.associations())
    assert new_jobs(hospital, known) == []


# ---- interrupted associations ----


def test_an_aborted_association_is_quarantined_and_submitted_as_incomplete(
    hospital: Hospital, tmp_path: Path, known: set[str]
) -> None:
    files = make_objects(tmp_path / "a", 3)
    send(hospital, "BOTH", files, "--abort")
    found = waiting(hospital)
    assert (found["kind"], found["ae_title"], found["instances"]) == ("receive", "BOTH", 3)
    assert new_jobs(hospital, known) == []

    hospital.site.clara("retry", found["id"])
    wait_until("the job has them", lambda: payloads(hospital, known) == [uids(files)])
    (job,) = new_jobs(hospital, known)
    assert job.metadata["Incomplete"] == "true"
    submissions = json.loads(hospital.site.clara("list", "submissions", "--json"))["items"]
    assert [each["incomplete"] for each in submissions if each["received_by"] == found["id"]] == [True]


def test_a_quarantined_group_can_be_given_up(hospital: Hospital, tmp_path: Path, known: set[str]) -> None:
    send(hospital, "BOTH", make_objects(tmp_path / "a", 3), "--abort")
    found = waiting(hospital)
    assert found["kind"] == "receive"
    hospital.site.clara("discard", found["id"])
    wait_until("the spool is empty", lambda: not hospital.site.associations())
    assert new_jobs(hospital, known) == []


def test_a_sender_that_comes_back_within_the_hold_makes_one_complete_job(
    hospital: Hospital, tmp_path: Path, known: set[str]
) -> None:
    files = make_objects(tmp_path / "a", 6)
    send(hospital, "BOTH", files[:4], "--abort")
    send(hospital, "BOTH", files)  # all of it, as modalities do
    wait_until("the job has them", lambda: payloads(hospital, known) == [uids(files)])
    wait_until("the spool is empty", lambda: not hospital.site.associations())
    (job,) = new_jobs(hospital, known)
    assert "Incomplete" not in job.metadata


def test_an_interrupted_association_in_a_window_is_submitted_and_flagged(
    hospital: Hospital, tmp_path: Path, known: set[str]
) -> None:
    files = make_objects(tmp_path / "a", 4)
    send(hospital, "WINDOW", files, "--abort")
    wait_until("the job has them", lambda: payloads(hospital, known) == [uids(files)])
    (job,) = new_jobs(hospital, known)
    assert job.metadata["Incomplete"] == "true"
