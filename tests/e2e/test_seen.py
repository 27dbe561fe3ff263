"""What someone is told who looks for a study: that its job failed and why, and where a result came from."""

import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from e2e.conftest import Hospital
from support.dcmtk import echoscu, storescu
from support.dicom_objects import make_objects
from support.site import result_uid, wait_until

from clara_dicom_adapter.dicom.head import read_head

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]

FAILS = """
name: fails
operators:
  - name: segment
    command: [python, -c, "import sys; sys.exit('PatientName is DOE')"]
"""


def test_a_job_that_fails_is_seen_at_its_study_in_lists_and_in_metrics(hospital: Hospital, tmp_path: Path) -> None:
    site = hospital.site
    (site.data.pipelines / "fails.yaml").write_text(FAILS)
    site.clara("create", "aetitle", "-a", "FAILS", "pipeline-seg=fails", "timeout=0")
    wait_until("the receiver knows it", lambda: echoscu(site.dicom_port, "FAILS").returncode == 0)
    files = make_objects(tmp_path, 2)
    assert storescu(site.dicom_port, "FAILS", *files).returncode == 0

    def failed() -> list[dict[str, Any]]:
        listed: list[dict[str, Any]] = json.loads(site.clara("list", "jobs", "--json", "--state", "faulted"))["items"]
        return listed

    wait_until("the job's end is recorded", lambda: bool(failed()), 60)
    (job,) = failed()
    assert job["message"] == "operator segment ended with exit code 1", "and nothing that the operator printed"
    trace = json.loads(site.clara("trace", read_head(files[0]).study_instance_uid, "--json"))
    told = [(event["what"], event["text"]) for event in trace["events"] if event["subject"] == "job"]
    assert told[-1] == ("faulted", job["message"])
    api = site.status.addresses["api"]
    listed = httpx.get(f"{api}/api/submissions", trust_env=False).raise_for_status().json()["items"]
    (of_study,) = [each for each in listed if each["submissionId"] == job["submission_id"]]
    assert [(each["state"], each["message"]) for each in of_study["jobs"]] == [("faulted", job["message"])]
    metrics = httpx.get(f"{api}/metrics", trust_env=False).raise_for_status().text.splitlines()
    assert 'clara_dicom_jobs_ended_total{part="worker",status="faulted"} 1.0' in metrics


def test_a_result_is_traced_back_to_the_association_that_it_was_made_of(hospital: Hospital, tmp_path: Path) -> None:
    site = hospital.site
    before = {job.job_id for job in site.jobs()}
    files = make_objects(tmp_path, 1)
    assert storescu(site.dicom_port, "BOTH", *files).returncode == 0
    wait_until("the job is there", lambda: len({job.job_id for job in site.jobs()} - before) == 1)
    (job_id,) = {job.job_id for job in site.jobs()} - before
    result = result_uid(job_id, read_head(files[0]).sop_instance_uid)
    wait_until("the job's end is recorded", lambda: '"completed"' in site.clara("list", "jobs", "--json"))

    def traced() -> list[dict[str, Any]]:
        try:
            events: list[dict[str, Any]] = json.loads(site.clara("trace", result, "--json"))["events"]
        except AssertionError:  # exit status 1: nothing is known yet
            return []
        return events

    def told() -> set[tuple[str, str]]:
        return {(event["subject"], event["what"]) for event in traced()}

    wait_until("it has been exported", lambda: ("export", "delivered") in told())
    assert told() >= {("association", "released"), ("job", "completed"), ("export", "delivered")}
    assert {event["ids"]["job_id"] for event in traced() if event["subject"] == "job"} == {job_id}


def test_the_doctor_finds_every_service_of_an_adapter_that_runs(hospital: Hospital) -> None:
    found = {each["about"]: each["message"] for each in json.loads(hospital.site.clara("doctor", "--json"))}
    for service in ("Temporal", "platform", "Results Service"):
        assert found[service].startswith("answers at "), service
