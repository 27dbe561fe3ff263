"""Lists, trace, status and spool: what commands tell of what has been recorded and stored."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from sqlalchemy import Engine
from support import spooling
from support.commands import Clara

from clara_dicom_adapter.cli.running import AdapterState, AdapterStatus, DataLock, PartState, PartStatus, write_status
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.part_status import StatusServer, write_ready
from clara_dicom_adapter.records.associations import AssociationRecords
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.jobs import JobEnd, JobRecords, RunningJob
from clara_dicom_adapter.records.submissions import SubmissionRecords
from clara_dicom_adapter.spool import Spool, SpoolRole, new_association_id
from clara_dicom_adapter.workflows.models import (
    AssociationOutcome,
    HeldNode,
    JobPlan,
    JobRef,
    Owner,
    PinnedAeTitle,
    SubmissionInput,
)


@dataclass(frozen=True)
class Association:
    association_id: str
    called_ae_title: str = "MIP"
    calling_ae_title: str = "CT1"
    peer: str = "192.0.2.7"
    started_at: datetime = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
    instances: int = 3
    bytes: int = 2_500_000
    ignored: int = 0
    failed: int = 1
    refused: int = 0


@contextmanager
def database(tmp_path: Path) -> Iterator[Engine]:
    engine = open_engine("", DataFolder(tmp_path / "data"))
    yield engine
    engine.dispose()


def test_associations_are_listed_filtered_and_counted(clara: Clara, tmp_path: Path) -> None:
    with database(tmp_path) as engine, AssociationRecords(engine, "node").together() as records:
        for number in (0, 2):
            records.accepted(Association(f"a{number}", called_ae_title="MIP" if number else "CT"))
        aborted = Association("a1", called_ae_title="MIP")
        records.ended(aborted, AssociationOutcome.ABORTED, datetime(2026, 1, 2, 3, 5, tzinfo=UTC))
    told = json.loads(clara("list", "associations", "--json", "-a", "MIP", "--state", "aborted").out)
    assert told["total"] == 1
    assert told["items"][0]["association_id"] == "a1"
    assert told["items"][0]["started_at"] == "2026-01-02T03:04:05+00:00"
    text = clara("list", "associations", "--limit", "2")
    assert len(text.out.splitlines()) == 3
    assert "2 of 3 are shown" in text.err
    assert clara("list", "exports", "-a", "MIP").status == 2


def test_empty_lists_are_empty(clara: Clara, tmp_path: Path) -> None:
    with database(tmp_path):
        pass
    for subject in ("receptions", "submissions", "exports"):
        assert json.loads(clara("list", subject, "--json").out) == {"total": 0, "items": []}
        assert len(clara("list", subject).out.splitlines()) == 1


def test_a_trace_tells_the_timeline(clara: Clara, tmp_path: Path) -> None:
    with database(tmp_path) as engine, AssociationRecords(engine, "node").together() as records:
        records.accepted(Association("a1"))
        records.ended(Association("a1"), AssociationOutcome.RELEASED, datetime(2026, 1, 2, 3, 4, 7, tzinfo=UTC))
    text = clara("trace", "a1")
    assert text.status == 0
    assert "association a1" in text.out
    assert "CT1 to MIP, from 192.0.2.7" in text.out
    assert "+2.000 s" in text.out
    lines = text.out.splitlines()
    assert lines[1].split() == ["association", "1", "released", "a1"], "where it is now, by its id"
    assert all("association 1" in line for line in lines[3:]), "each event names what it is about"
    told = json.loads(clara("trace", "a1", "--json").out)
    assert [event["what"] for event in told["events"]] == ["accepted", "released"]
    unknown = clara("trace", "1.2.3")
    assert (unknown.status, unknown.err) == (1, "clara: nothing is known of 1.2.3\n")


def test_status_of_what_never_ran_is_3(clara: Clara) -> None:
    done = clara("status", "--json")
    told = json.loads(done.out)
    assert done.status == 3
    assert (told["running"], told["state"], told["parts"]) == (False, "never started", [])


def test_status_shows_the_parts_and_the_spool(clara: Clara, tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    part = PartStatus(name="receiver", state=PartState.READY, pid=4711, addresses={"dicom": "127.0.0.1:104"})
    lock = DataLock(data)
    write_status(data, AdapterStatus(pid=4710, state=AdapterState.RUNNING, started_at=0, parts=[part]))
    with Spool.open(data.payloads / "spool", SpoolRole.RECEIVER) as spool:
        spooling.batched(spool, spool.begin_association(spooling.facts()), 2)
    try:
        text = clara("status")
        told = json.loads(clara("status", "--json").out)
    finally:
        lock.release()
    assert text.status == 0
    assert "dicom 127.0.0.1:104" in text.out
    assert "spool: 2 instances" in text.out
    assert told["parts"][0]["pid"] == 4711
    assert told["spool"]["unhanded"] == 2
    assert clara("status").status == 3


def test_status_shows_parts_that_were_started_alone(clara: Clara, tmp_path: Path) -> None:
    data = DataFolder(tmp_path / "data")
    says = {"ready": True, "warnings": ["1 of 2 listener processes listen"], "listeners": 2, "listening": 1}
    dead = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    write_ready(data.run, "worker", {}, pid=dead.pid)
    dead.kill()
    dead.wait()
    assert clara("status").status == 3, "what has ended does not run"
    with StatusServer(lambda: says) as server:
        facts = {"addresses": {"dicom": "127.0.0.1:104"}}
        write_ready(data.run, "receiver", {"dicom": 104, "status": server.port}, facts=facts)
        text, told = clara("status"), json.loads(clara("status", "--json").out)
        write_status(
            data, AdapterStatus(pid=4710, state=AdapterState.KILLED, started_at=0, parts=[PartStatus(name="api")])
        )
        after_start = json.loads(clara("status", "--json").out)
    assert text.status == 0
    assert "parts alone" in text.out
    assert "receiver (alone)\tready\tready" in text.out
    assert "dicom 127.0.0.1:104" in text.out
    assert "warning: receiver: 1 of 2 listener processes listen" in text.out
    assert (told["running"], told["state"], told["pid"]) == (True, "parts alone", None)
    receiver, worker = told["parts"]
    assert (receiver["name"], receiver["pid"], receiver["alone"]) == ("receiver", os.getpid(), True)
    assert (receiver["status"]["listeners"], receiver["status"]["listening"]) == (2, 1)
    assert abs(receiver["started_at"] - time.time()) < 86_400
    assert (worker["state"], worker["health"], worker["pid"]) == ("stopped", "its process has ended", None)
    assert [part["name"] for part in after_start["parts"]] == ["receiver", "worker"], "an earlier start has ended"


def test_jobs_that_failed_on_the_platform_are_listed_with_their_reason(clara: Clara, tmp_path: Path) -> None:
    job = JobRef(submission_id="submission-1", key="lung", job_id="job-1", payload_id="payload-1")
    with database(tmp_path) as engine:
        records = SubmissionRecords(engine)
        group = SubmissionInput(
            submission_id="submission-1",
            ae=PinnedAeTitle(ae_title="MIP", name="MIP", processor="ae-title"),
            calling_ae_title="CT1",
            nodes=(HeldNode(node_id="n1", instances=1, bytes=1),),
            instances=1,
            received_by="receive-1",
        )
        plans = [JobPlan(key=key, pipeline="P1", instances=1, bytes=1, nodes=("n1",)) for key in ("bone", "lung")]
        records.planned(group, plans, {})
        records.created(job, "name")
        records.started(job)
        running = RunningJob("submission-1", "lung", "job-1")
        JobRecords(engine).ended(running, JobEnd.FAULTED, "operator seg ended with exit code 3", None)
    told = json.loads(clara("list", "jobs", "--json", "--state", "faulted").out)
    assert told["total"] == 1
    assert (told["items"][0]["job_id"], told["items"][0]["called_ae_title"]) == ("job-1", "MIP")
    assert told["items"][0]["ended_at"]
    lines = clara("list", "jobs").out.splitlines()
    assert len(lines) == 3
    assert "faulted" in lines[1]
    assert "submission-1 bone" in lines[2]
    assert "lung faulted (operator seg ended with exit code 3)" in clara("list", "submissions").out
    trace = clara("trace", "submission-1").out
    assert "job 1" in trace
    assert "operator seg ended with exit code 3" in trace


def test_a_spool_is_shown_and_another_one_taken_over(clara: Clara, tmp_path: Path) -> None:
    assert clara("spool", "show").status == 1
    other = tmp_path / "other"
    with Spool.open(other, SpoolRole.RECEIVER) as spool:
        other_node = spool.node_id
        folder = spool.begin_association(spooling.facts())
        spooling.batched(spool, folder, 3)
        folder.end(AssociationOutcome.RELEASED)
    with Spool.open(tmp_path / "data" / "payloads" / "spool", SpoolRole.RECEIVER):
        adopted = clara("spool", "adopt", str(other), "--json")
    assert adopted.status == 0, adopted.err
    assert json.loads(adopted.out) == {"node_id": other_node, "associations": 1, "instances": 3}
    told = json.loads(clara("spool", "show", "--json").out)
    assert told["usage"]["instances"] == 3
    again = clara("spool", "adopt", str(tmp_path))
    assert again.status == 1
    assert "holds no spool" in again.err


def test_a_spool_is_listed_verified_and_copied_from(clara: Clara, tmp_path: Path) -> None:
    for command in (("list",), ("verify",), ("export", "--all", "--to", str(tmp_path / "copies"))):
        nothing = clara("spool", *command)
        assert nothing.status == 1
        assert "nothing was ever received here" in nothing.err
    root = tmp_path / "data" / "payloads" / "spool"
    with Spool.open(root, SpoolRole.RECEIVER) as spool:
        ids = sorted(new_association_id() for _ in range(2))  # within a millisecond they have no order
        owned, waiting = (spool.begin_association(spooling.facts(one)) for one in ids)
        batch = spooling.batched(spool, owned, 2)
        spooling.batched(spool, waiting, 1)
        owned.end(AssociationOutcome.RELEASED)
        spool.claim(Owner(workflow_id="receive-1", run_id="run", group=1), [batch.batch_id])
        rows = [line.split("\t") for line in clara("spool", "list").out.splitlines()]
    assert rows[0] == ["association", "calling", "called", "peer", "age", "instances", "size", "state"]
    assert [row[0] for row in rows[1:]] == [owned.association_id, waiting.association_id]
    assert rows[1][1:4] == ["MODALITY", "CLARA", "192.0.2.7"]
    assert [row[-1] for row in rows[1:]] == ["owned by receive-1", "arriving, 1 waiting to be told"]
    told = json.loads(clara("spool", "list", "--json").out)
    assert [(each["stage"], each["owners"]) for each in told] == [
        ("owned", {"receive-1": 2}),
        ("waiting to be told", {}),
    ]
    assert clara("spool", "verify").status == 0
    one = clara("spool", "export", owned.association_id, "1.2.3", "--to", str(tmp_path / "one"), "--json")
    assert (one.status, json.loads(one.out)["instances"]) == (1, 2)
    assert one.err == "clara: nothing of 1.2.3 is in the spool\n"
    assert clara("spool", "export", "--all", "--to", str(tmp_path / "all")).status == 0
    assert len(list((tmp_path / "all").glob("*.dcm"))) == 3
    assert clara("spool", "export", "--to", str(tmp_path / "none")).status == 2
    (path, *_) = owned.path.glob("*.dcm")
    path.write_bytes(b"")
    broken = clara("spool", "verify", "--json")
    assert broken.status == 1
    assert json.loads(broken.out)["problems"][0]["path"] == str(path.relative_to(root))
    (root / "damaged").mkdir()
    (root / "damaged" / f"{owned.association_id}-00000003-1.damaged").touch()
    assert f"1 damaged file lies in {root}/damaged" in clara("spool", "list", "--json").err
