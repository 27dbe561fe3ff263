"""What comes twice, too late, or when the index is gone: batches after their window, late instances, a lost index."""

import asyncio
import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from support.dicom_objects import make_objects
from support.site import PIPELINE, Site, wait_until
from temporalio.common import WorkflowIDReusePolicy

from clara_dicom_adapter.clara.model import PlatformJob
from clara_dicom_adapter.configuration.settings import TemporalSettings
from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.spool.node import read_node
from clara_dicom_adapter.temporal import client, queues
from clara_dicom_adapter.workflows.models import BatchRef, HandOver, ReceiveInput, ReceiveResult

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]


class Letters:
    """What the receiver has told Temporal, read from the spool, to be told once more."""

    def __init__(self, site: Site) -> None:
        self._site = site
        with closing(sqlite3.connect(f"file:{site.spool / 'ownership.db'}?mode=ro", uri=True)) as connection:
            connection.row_factory = sqlite3.Row
            self._rows = [
                dict(row)
                for row in connection.execute(
                    "SELECT batch.*, SUM(bytes) AS bytes FROM batch JOIN instance USING (batch_id) GROUP BY batch_id"
                )
            ]

    def __len__(self) -> int:
        return len(self._rows)

    def deliver_again(self) -> list[ReceiveResult]:
        """Signal-with-start, as the receiver does; returns how each run ended."""
        return asyncio.run(self._deliver_again())

    async def _deliver_again(self) -> list[ReceiveResult]:
        temporal = await client.connect(TemporalSettings(address=self._site.status.addresses["temporal"]))
        node = read_node(self._site.spool)
        assert node is not None
        handles = [
            await temporal.start_workflow(
                "ReceiveWorkflow",
                ReceiveInput.model_validate_json(row["receive_input"]),
                id=row["workflow_id"],
                task_queue=queues.SHARED,
                id_reuse_policy=WorkflowIDReusePolicy.ALLOW_DUPLICATE,
                start_signal="hand_over",
                start_signal_args=[HandOver(batches=(self._batch(row, node.node_id),))],
                result_type=ReceiveResult,
            )
            for row in self._rows
        ]
        return [await asyncio.wait_for(handle.result(), 30) for handle in handles]

    @staticmethod
    def _batch(row: dict[str, Any], node_id: str) -> BatchRef:
        return BatchRef(
            batch_id=row["batch_id"],
            node_id=node_id,
            association_id=row["association_id"],
            number=row["number"],
            instances=row["instances"],
            bytes=row["bytes"],
        )


def new_jobs(site: Site, known: set[str]) -> dict[str, list[PlatformJob]]:
    """Jobs that are not among the known ones, by AE title."""
    found: dict[str, list[PlatformJob]] = {}
    for job in site.jobs():
        if job.job_id not in known:
            found.setdefault(job.metadata["Source"].split(" ")[0], []).append(job)
    return found


def submitting(site: Site) -> int:
    listed = site.clara("list", "submissions", "--json")
    return listed.count('"Submitting"') + listed.count('"WaitingForPlatform"')


@pytest.fixture
def known(site: Site) -> set[str]:
    """Ids of the jobs of earlier tests, of which nothing is left in the spool."""
    site.wait_ready()
    wait_until("the spool is empty", lambda: not site.associations(), 60)
    return {job.job_id for job in site.jobs()}


def test_a_batch_that_comes_again_after_its_group_has_closed_makes_no_second_job(
    site: Site, tmp_path: Path, known: set[str]
) -> None:
    """First while the submission owns it, then when it is gone."""
    with site.frozen("platform"):
        site.send("ASSOC", make_objects(tmp_path / "a", 4))
        site.send("WINDOW", make_objects(tmp_path / "b", 4))
        wait_until("both are being submitted", lambda: submitting(site) == 2)
        letters = Letters(site)
        assert len(letters) == 2
        for ended in letters.deliver_again():
            assert (ended.instances, ended.submissions) == (0, ())
    site.settle()
    for ended in letters.deliver_again():
        assert (ended.instances, ended.submissions) == (0, ())
    site.settle()
    assert {ae_title: len(jobs) for ae_title, jobs in new_jobs(site, known).items()} == {"ASSOC": 1, "WINDOW": 1}


def test_late_instances_while_their_group_is_being_submitted_make_a_job_of_their_own(
    site: Site, tmp_path: Path, known: set[str]
) -> None:
    early, late = make_objects(tmp_path / "a", 6, name="early"), make_objects(tmp_path / "a", 5, name="late")
    with site.frozen("platform"):
        site.send("WINDOW", early)
        wait_until("the first window is being submitted", lambda: submitting(site) == 1)
        site.send("WINDOW", late)
        wait_until("so is the second", lambda: submitting(site) == 2)
    site.settle()
    payloads = [set(site.payload(job)) for job in new_jobs(site, known)["WINDOW"]]
    assert sorted(payloads, key=len) == [uids(late), uids(early)]


def test_the_index_is_lost_while_instances_wait_for_temporal(site: Site, tmp_path: Path, known: set[str]) -> None:
    with site.frozen("temporal"):
        site.send("ASSOC", make_objects(tmp_path / "a", 6))
        site.send("WINDOW", make_objects(tmp_path / "b", 6))
        wait_until("all are batched", lambda: site.usage().unhanded == 12)
        site.kill_everything()
    lose_index(site)
    site.start()
    site.settle()
    assert sizes(site, known) == {"ASSOC": [6], "WINDOW": [6]}


def test_the_sql_database_is_lost_while_a_submission_waits(site: Site, tmp_path: Path, known: set[str]) -> None:
    """With it go the AE titles and which instances the job is to be made of; what was accepted is not lost."""
    site.clara("create", "aetitle", "-a", "LATER", "pipeline-x=later", "timeout=0", "jobRetryDelay=100")
    site.send("LATER", make_objects(tmp_path / "a", 6))
    wait_until("the submission waits", lambda: len(json.loads(site.clara("attention", "--json"))) == 1)
    site.kill_everything()
    for path in site.data.root.glob(f"{site.data.database.name}*"):
        path.unlink()
    site.configure_entities()
    later = shutil.copytree(PIPELINE, site.data.pipelines / "later") / "pipeline.yaml"
    later.write_text(later.read_text().replace("name: copy\ndescription", "name: later\ndescription"))
    site.start()
    site.clara("retry", "--all")
    site.settle()
    assert sizes(site, known) == {"LATER": [6]}


def test_the_index_is_lost_while_groups_are_being_submitted(site: Site, tmp_path: Path, known: set[str]) -> None:
    """What the submissions were to submit is handed over again; they own nothing any more, and wait for a person."""
    with site.frozen("platform"):
        site.send("ASSOC", make_objects(tmp_path / "a", 6))
        site.send("WINDOW", make_objects(tmp_path / "b", 6))
        wait_until("both are being submitted", lambda: submitting(site) == 2)
        site.kill_everything()
    lose_index(site)
    site.start()
    site.settle(never_started=2)
    assert sizes(site, known) == {"ASSOC": [0, 6], "WINDOW": [0, 6]}
    wait_until("the earlier submissions wait", lambda: len(json.loads(site.clara("attention", "--json"))) == 2)
    assert {parked["why"] for parked in json.loads(site.clara("attention", "--json"))} == {
        "6 of 6 instances of the job are not in the spool of their node"
    }
    site.clara("discard", "--all")
    wait_until("nothing waits any more", lambda: json.loads(site.clara("attention", "--json")) == [])
    assert sizes(site, known) == {"ASSOC": [0, 6], "WINDOW": [0, 6]}


def lose_index(site: Site) -> None:
    for path in site.spool.glob("ownership.db*"):
        path.unlink()


def sizes(site: Site, known: set[str]) -> dict[str, list[int]]:
    """Instances in the payload of each new job."""
    return {
        ae_title: sorted(len(site.payload(job)) for job in jobs) for ae_title, jobs in new_jobs(site, known).items()
    }


def uids(files: list[Path]) -> set[str]:
    return {read_meta(path).sop_instance_uid for path in files}
