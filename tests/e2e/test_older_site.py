"""A site that comes from 0.6: its file as it is, and the AE title that 0.6 had when none was given."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.dicom_objects import make_objects
from support.far_ends import Pacs
from support.site import Site, wait_until

from clara_dicom_adapter.dicom.part10 import read_meta

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

OLD = """\
dicom:
  scp:
    port: 0 # any
    max-associations: 2
    reject-unknown-sources: true
    sources:
      - host-ip: 127.0.0.1
        ae-title: CT1
  scu:
    ae-title: ClaraSCU
    destinations:
      - name: PACS
        host-ip: 127.0.0.1
        port: {port}
        ae-title: PACS
"""
OF_A_TEST = (
    "api__port",
    "services__platform__embeddedPort",
    "services__platform__embeddedResultsPort",
    "services__temporal__embeddedPort",
    "services__temporal__embeddedUiPort",
    "storage__reserveSpaceGB",
)
"""What a test sets to 0: ports that may be any, and space that need not be there."""


@pytest.fixture
def site(tmp_path: Path, temporal_executable: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    assert temporal_executable
    for key in OF_A_TEST:
        monkeypatch.setenv(f"DicomAdapter__{key}", "0")
    monkeypatch.setenv("DicomAdapter__storage__watermarkPercent", "100")
    with Pacs().serving() as pacs:
        site = Site(tmp_path, pacs)
        site.configure_as(OLD.format(port=pacs.port))
        site.start()
        try:
            yield site
        finally:
            site.stop()


def waiting(site: Site) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(site.clara("attention", "--json"))
    return found


def test_what_is_sent_to_clara_scp_waits_for_its_pipeline_and_then_goes_the_whole_way(
    site: Site, tmp_path: Path
) -> None:
    files = make_objects(tmp_path / "files", 3)
    uids = {read_meta(path).sop_instance_uid for path in files}
    site.send("ClaraSCP", files)
    wait_until("its group waits", lambda: len(waiting(site)) == 1)
    (found,) = waiting(site)
    assert found["why"] == "AE title ClaraSCP has no pipeline; its groups wait until it gets one"
    assert site.usage().instances == 3
    site.clara("update", "aetitle", "-a", "ClaraSCP", "pipeline-copy=copy")
    site.clara("retry", found["id"])
    wait_until("the job has them", lambda: [set(site.payload(job)) for job in site.jobs()] == [uids])
    wait_until("the PACS of the file has the results", lambda: len(site.pacs.received) == len(files))
    wait_until("nothing waits, and the spool is empty", lambda: not waiting(site) and not site.usage().instances)
