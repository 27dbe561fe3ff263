"""What is configured changes while associations run: open groups are finished as they began, and nothing is dropped."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from pynetdicom import AE
from support.dicom_objects import CT, EXPLICIT, make_objects
from support.far_ends import Pacs
from support.site import Site, wait_until

from clara_dicom_adapter.clara.model import PlatformJob
from clara_dicom_adapter.dicom.part10 import read_meta

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(180)]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory, temporal_executable: Path) -> Iterator[Site]:
    assert temporal_executable
    with Pacs().serving() as pacs:
        site = Site(tmp_path_factory.mktemp("site"), pacs)
        site.start()
        try:
            site.configure_entities()
            yield site
        finally:
            site.stop()


def request(site: Site, method: str, ae_title: str, body: dict[str, Any] | None = None) -> None:
    address = f"{site.status.addresses['api']}/api/config/claraaetitle/{ae_title}"
    httpx.request(method, address, json=body, trust_env=False).raise_for_status()


def accepted(site: Site, ae_title: str) -> bool:
    """Whether a new association is accepted, by what the receiver knows now."""
    ae = AE("CT1")
    ae.add_requested_context(CT, EXPLICIT)
    association = ae.associate("127.0.0.1", site.dicom_port, ae_title=ae_title)
    if association.is_established:
        association.release()
        return True
    return False


def jobs(site: Site, ae_title: str) -> list[PlatformJob]:
    return [job for job in site.jobs() if job.metadata["Source"].split(" ")[0] == ae_title]


def uids(files: list[Path]) -> set[str]:
    return {read_meta(path).sop_instance_uid for path in files}


@pytest.mark.parametrize("change", ["replaced", "deleted"])
@pytest.mark.parametrize("timeout", ["0", "3"])
def test_a_group_is_finished_as_it_began_whatever_becomes_of_its_ae_title(
    site: Site, tmp_path: Path, timeout: str, change: str
) -> None:
    ae_title = f"{change.upper()}{timeout}"
    files = make_objects(tmp_path / "files", 3)
    site.clara("create", "aetitle", "-a", ae_title, "pipeline-first=copy", f"timeout={timeout}")
    with site.modality(ae_title, files) as modality:
        assert modality.store(files[0])
        if change == "deleted":
            request(site, "DELETE", ae_title)
        else:
            other = {"aeTitle": ae_title, "processorSettings": {"pipeline-second": "none"}, "allowedSources": ["CT2"]}
            request(site, "PUT", ae_title, other)
        wait_until("the receiver knows of the change", lambda: not accepted(site, ae_title), 60)
        assert modality.store(files[1], files[2])
        modality.release()
    wait_until("there is a job", lambda: bool(jobs(site, ae_title)))
    wait_until("nothing is left in the spool", lambda: not site.usage().instances)
    found = jobs(site, ae_title)
    assert all("-first-" in job.name for job in found), [job.name for job in found]
    assert sorted(uid for job in found for uid in site.payload(job)) == sorted(uids(files))
    assert len(found) == 1 or timeout != "0", "a window may have closed while nothing came"
