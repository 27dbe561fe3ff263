"""The whole adapter among peers that this project did not write."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.dcmtk import echoscu
from support.dicom_peers import storescp
from support.far_ends import Pacs
from support.orthanc import Orthanc, orthanc
from support.site import PIPELINE, Site, wait_until

EXAMPLES = Path(__file__).parents[2] / "examples" / "pipelines"
HOLD_SECONDS = 6.0


@dataclass
class Hospital:
    """A site with two PACS: Orthanc, and dcmtk's storescp, which writes what it gets to a folder."""

    site: Site
    orthanc: Orthanc
    stored: Path

    @property
    def port(self) -> int:
        return self.site.dicom_port


@pytest.fixture(scope="module")
def hospital(tmp_path_factory: pytest.TempPathFactory, temporal_executable: Path) -> Iterator[Hospital]:
    root = tmp_path_factory.mktemp("hospital")
    site = Site(root, Pacs())
    pipelines = site.data.pipelines
    shutil.copytree(EXAMPLES, pipelines, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__"))
    both = pipelines / "both"
    shutil.copytree(PIPELINE, both)
    definition = both / "pipeline.yaml"
    told = definition.read_text().replace("name: copy\ndescription", "name: both\ndescription")
    definition.write_text(told.replace("[PACS]", "[STORESCP, ORTHANC]"))
    site.configure({"interruptedHoldSeconds": HOLD_SECONDS}, maxRetries=1)
    stored = root / "stored"
    with orthanc(root / "orthanc") as archive, storescp(stored, "+B", "+xa", "-pm", "+uf") as theirs:
        site.start()
        try:
            site.clara("create", "aetitle", "-a", "BOTH", "pipeline-both=both", "timeout=0")
            site.clara("create", "aetitle", "-a", "WINDOW", "pipeline-both=both", "timeout=2")
            site.clara("create", "aetitle", "-a", "MIP", "pipeline-mip=mip", "timeout=1")
            site.clara("create", "aetitle", "-a", "LATER", "pipeline-x=later", "timeout=0", "jobRetryDelay=200")
            site.clara("create", "aetitle", "-a", "NEVER", "pipeline-x=never", "timeout=0", "jobRetryDelay=200")
            site.clara("create", "src", "-a", "CT1", "-i", "127.0.0.1")
            for name, port in (("STORESCP", theirs.port), ("ORTHANC", archive.dicom_port)):
                site.clara("create", "dest", "-n", name, "-a", name, "-i", "127.0.0.1", "-p", str(port))
            address = ("-i", "127.0.0.1", "-p", str(archive.dicom_port))
            site.clara("create", "dest", "-n", "MYPACS", "-a", archive.ae_title, *address)
            wait_until("the receiver knows all of it", lambda: echoscu(site.dicom_port, "NEVER").returncode == 0)
            yield Hospital(site, archive, stored)
        finally:
            site.stop()
