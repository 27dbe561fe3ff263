"""Long absences: Temporal unreachable, its database gone, the platform down, batches delivered again."""

import asyncio
import json
from pathlib import Path

import pytest
from support.dicom_objects import make_objects
from support.site import Site, wait_until

from clara_dicom_adapter.configuration.settings import PlatformSettings, TemporalSettings
from clara_dicom_adapter.spool import Spool, SpoolRole
from clara_dicom_adapter.temporal import client

pytestmark = [pytest.mark.faults, pytest.mark.timeout(600)]


def in_spool(site: Site) -> int:
    spool = Spool.open(site.data.payloads / "spool", SpoolRole.TOOL)
    try:
        return spool.usage().instances
    finally:
        spool.close()


def test_temporal_is_unreachable_for_the_whole_association(site: Site, tmp_path: Path) -> None:
    """A frozen server takes connections and answers nothing: the receiver keeps accepting, the spool is the buffer."""
    with site.frozen("temporal"):
        site.send("ASSOC", make_objects(tmp_path / "a", 20))
        site.send("WINDOW", make_objects(tmp_path / "b", 20))
        wait_until("everything is in the spool's index", lambda: in_spool(site) >= 40)
    site.settle()


def test_temporal_s_database_is_deleted_while_the_spool_holds_work(site: Site, tmp_path: Path) -> None:
    with site.frozen("platform"):
        site.send("ASSOC", make_objects(tmp_path / "a", 10))
        site.send("WINDOW", make_objects(tmp_path / "b", 10))
        wait_until("a submission has begun", lambda: "Submitting" in site.clara("list", "submissions", "--json"))
        site.kill_everything()
    for path in site.data.root.glob("temporal.db*"):
        path.unlink()
    site.start()
    site.settle(180)


def test_the_platform_is_down_for_longer_than_all_retries(site: Site, tmp_path: Path) -> None:
    """As often as it refuses before a person is asked, it may be unreachable, and more often."""
    with site.frozen("platform"):
        site.send("ASSOC", make_objects(tmp_path / "a", 8))
        wait_until(
            "the submission waits for the platform",
            lambda: "WaitingForPlatform" in site.clara("list", "submissions", "--json"),
            120,
        )
        wait_until("all retries are used up", lambda: attempts(site) > 1 + PlatformSettings().max_retries, 120)
        assert json.loads(site.clara("attention", "--json")) == []
    site.settle(180)


def attempts(site: Site) -> int:
    """How often the submission that waits has tried to reach the platform."""

    async def ask() -> int:
        temporal = await client.connect(TemporalSettings(address=site.status.addresses["temporal"]))
        found = temporal.list_workflows("ExecutionStatus = 'Running' AND ClaraState = 'WaitingForPlatform'")
        async for execution in found:
            described = await temporal.get_workflow_handle(execution.id).describe()
            return max((each.attempt for each in described.raw_description.pending_activities), default=0)
        return 0

    return asyncio.run(ask())
