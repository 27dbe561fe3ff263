"""Two nodes with one Temporal, one PostgreSQL and one platform: a study that arrives at both is one group."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import postgresql
from support.dicom_objects import make_objects
from support.far_ends import Pacs
from support.site import Site, wait_until

from clara_dicom_adapter.clara.model import PlatformJob

pytestmark = [pytest.mark.faults, pytest.mark.timeout(300)]

WINDOW_SECONDS = 5


@pytest.fixture(scope="module")
def database() -> Iterator[str]:
    with postgresql.server() as server:
        yield postgresql.new_database(server)


@pytest.fixture(scope="module")
def first(
    tmp_path_factory: pytest.TempPathFactory, pacs: Pacs, database: str, temporal_executable: Path
) -> Iterator[Site]:
    """The node that runs Temporal and the platform as well."""
    site = Site(tmp_path_factory.mktemp("first"), pacs)
    site.configure(database=database)
    site.start()
    try:
        site.configure_entities()
        site.clara("create", "aetitle", "-a", "BOTH", "pipeline-copy=copy", f"timeout={WINDOW_SECONDS}")
        yield site
    finally:
        site.stop()


@pytest.fixture(scope="module")
def second(tmp_path_factory: pytest.TempPathFactory, pacs: Pacs, database: str, first: Site) -> Iterator[Site]:
    """The other one; what is acknowledged there counts in the accounts of the first."""
    site = Site(tmp_path_factory.mktemp("second"), pacs)
    there = first.status.addresses
    services = {
        "platform": {"endpoint": there["platform"], "retryDelaySeconds": 1, "callTimeoutSeconds": 5},
        "resultsServiceEndpoint": there["results_service"],
        "temporal": {"address": there["temporal"]},
    }
    site.configure(database=database, services=services)
    site.acknowledged, site.unanswered = first.acknowledged, first.unanswered
    site.start()
    try:
        yield site
    finally:
        site.stop()


def settle(first: Site, second: Site) -> None:
    first.settle()
    wait_until("the other spool is empty", lambda: second.usage().instances == 0, 60)


def submissions(site: Site) -> int:
    return int(json.loads(site.clara("list", "submissions", "--json"))["total"])


def claimed(site: Site) -> int:
    usage = site.usage()
    return usage.instances - usage.unhanded - usage.unclaimed


@pytest.fixture
def known(first: Site) -> set[str]:
    """Ids of the jobs of earlier tests."""
    return {job.job_id for job in first.jobs()}


def new_job(site: Site, known: set[str]) -> PlatformJob:
    """The one job that was made since; waits for it."""
    found: list[PlatformJob] = []

    def made() -> bool:
        found[:] = [job for job in site.jobs() if job.job_id not in known]
        return bool(found)

    wait_until("a job is made", made)
    (job,) = found
    return job


def test_a_job_waits_for_the_node_that_holds_its_other_part(
    first: Site, second: Site, tmp_path: Path, known: set[str]
) -> None:
    files = make_objects(tmp_path / "a", 12)
    before = submissions(first)
    with first.frozen("platform"):
        second.send("BOTH", files[5:])
        first.send("BOTH", files[:5])
        wait_until("the group is being submitted", lambda: submissions(first) > before)
        second.kill_everything()
    job = new_job(first, known)
    wait_until("what lies here is uploaded", lambda: len(first.payload(job)) == 5)
    second.start()
    settle(first, second)
    assert new_job(first, known).job_id == job.job_id
    assert len(first.payload(job)) == 12


def test_a_node_that_does_not_come_back_is_adopted(first: Site, second: Site, tmp_path: Path, known: set[str]) -> None:
    """While its instances are in a group that is not closed."""
    files = make_objects(tmp_path / "a", 12)
    second.send("BOTH", files[5:])
    first.send("BOTH", files[:5])
    wait_until("the group has them", lambda: claimed(second) == 7)
    second.kill_everything()
    first.clara("spool", "adopt", str(second.spool))
    first.kill_everything()
    first.start()
    first.settle()
    assert len(first.payload(new_job(first, known))) == 12
