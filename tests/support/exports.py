"""A worker for exports alone, in this process or (as ``python -m support.exports SITE``) in one that can be killed."""

import asyncio
import json
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter
from temporalio.testing import ActivityEnvironment
from temporalio.worker import UnsandboxedWorkflowRunner, Worker
from temporalio.worker.workflow_sandbox import SandboxedWorkflowRunner

from clara_dicom_adapter.activities.export import ExportActivities
from clara_dicom_adapter.activities.interceptor import ErrorInterceptor
from clara_dicom_adapter.activities.results import ResultsActivities
from clara_dicom_adapter.clara.platform import PlatformClient
from clara_dicom_adapter.clara.results import ResultsServiceClient
from clara_dicom_adapter.configuration.entities import Destination, WebDestination
from clara_dicom_adapter.configuration.settings import DataFolder, ScuSettings
from clara_dicom_adapter.dicom.sender import Peer
from clara_dicom_adapter.dicom.stow_service import WebPeer
from clara_dicom_adapter.errors import (
    DatabaseUnavailable,
    KubernetesUnavailable,
    PlatformRefused,
    PlatformUnreachable,
    StorageFull,
)
from clara_dicom_adapter.records.database import open_engine
from clara_dicom_adapter.records.exports import ExportRecords
from clara_dicom_adapter.temporal import queues
from clara_dicom_adapter.workflows.export import ExportWorkflow
from clara_dicom_adapter.workflows.models import FetchInput, FetchResult
from clara_dicom_adapter.workflows.results_poller import ResultsPollerWorkflow


class FolderPlatform:
    """Payloads that are folders; ``platform-down`` beside them makes it unreachable."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def download(self, payload_id: str, name: str, target: Path) -> int:
        if (self._root / "platform-down").exists():
            raise PlatformUnreachable("folder", "down")
        try:
            shutil.copyfile(self._root / "payloads" / payload_id / name, target)
        except FileNotFoundError as error:
            raise PlatformRefused("Payloads.Download", -8212, ["no such file"]) from error
        return target.stat().st_size


class FileDestinations:
    """Destinations from a JSON file; ``database-down`` or ``kubernetes-down`` beside it makes them unreadable."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def destinations(self) -> Sequence[Destination | WebDestination]:
        if (self._path.parent / "database-down").exists():
            raise DatabaseUnavailable("PostgreSQL", "down")
        if (self._path.parent / "kubernetes-down").exists():
            raise KubernetesUnavailable("folder", "down")
        return [
            (WebDestination if "url" in each else Destination).model_validate(each)
            for each in json.loads(self._path.read_text())
        ]


class FlagSpace:
    """Is short while ``disk-full`` exists."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def check(self) -> None:
        if (self._root / "disk-full").exists():
            raise StorageFull(".", 0, 1)


@dataclass(frozen=True)
class Site:
    """Everything an export worker needs; as JSON for a process of its own.

    Attributes:
        platform: ``host:port`` of one; none: payloads are folders.
    """

    root: Path
    temporal: str
    results: str
    node_id: str
    queue: str = queues.SHARED
    scu: dict[str, Any] = field(default_factory=dict)
    platform: str = ""

    def settings(self) -> ScuSettings:
        return ScuSettings.model_validate(
            {
                "connectTimeoutSeconds": 2,
                "associationTimeoutSeconds": 5,
                "responseTimeoutSeconds": 10,
                **self.scu,
                "export": {
                    "connectRetries": 0,
                    "connectRetryDelaySeconds": 0,
                    "pollFrequencyMs": 50,
                    **self.scu.get("export", {}),
                },
            }
        )

    def set_destinations(self, limit: int = 2, *, web: Sequence[WebPeer] = (), **peers: Peer) -> None:
        """Configure these.

        Args:
            limit: Associations that each may have at once.
        """
        (self.root / "destinations.json").write_text(
            json.dumps(
                [
                    {
                        "name": name,
                        "aeTitle": peer.ae_title,
                        "hostIp": peer.host,
                        "port": peer.port,
                        "maximumAssociations": limit,
                        "tls": {"caFile": str(peer.tls.ca_file)} if peer.tls else None,
                    }
                    for name, peer in peers.items()
                ]
                + [{"name": peer.name, "url": peer.url} for peer in web]
            )
        )

    def add_payload(self, payload_id: str, files: Sequence[Path]) -> list[str]:
        folder = self.root / "payloads" / payload_id / "out"
        folder.mkdir(parents=True)
        for file in files:
            shutil.copyfile(file, folder / file.name)
        return [f"out/{file.name}" for file in files]

    def records(self) -> ExportRecords:
        return ExportRecords(open_engine("", DataFolder(self.root)))

    def exports(self, records: ExportRecords) -> ExportActivities:
        return ExportActivities(
            store=records,
            destinations=FileDestinations(self.root / "destinations.json"),
            downloads=PlatformClient(self.platform, 5) if self.platform else FolderPlatform(self.root),
            space=FlagSpace(self.root),
            scu=self.settings(),
            temporary=self.root / self.node_id,
            node_id=self.node_id,
        )

    def json(self) -> str:
        return json.dumps({**asdict(self), "root": str(self.root)})

    @classmethod
    def of(cls, text: str) -> "Site":
        value = json.loads(text)
        return cls(**{**value, "root": Path(value["root"])})


def fetch(activities: ExportActivities, request: FetchInput) -> FetchResult:
    """Download, also for a test that runs in an event loop."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(lambda: asyncio.run(ActivityEnvironment().run(activities.fetch, request))).result()


async def connect(address: str) -> Client:
    return await Client.connect(address, data_converter=pydantic_data_converter)


@asynccontextmanager
async def worker(site: Site, client: Client, *, node_queue: bool = True, sandboxed: bool = True) -> AsyncIterator[None]:
    """Serve the site's queue and its node's.

    Args:
        node_queue: Without it, it looks as if the node were gone.
        sandboxed: The sandbox imports policies of its own, so a test that changes them goes without.
    """
    records = site.records()
    exports = site.exports(records)
    service = ResultsServiceClient(site.results)
    results = ResultsActivities(client, service, records, site.settings().export.poll_frequency_ms)
    activities: list[Callable[..., Any]] = [
        exports.place,
        exports.decide,
        exports.note,
        exports.clean,
        results.poll,
        results.report,
    ]
    with ThreadPoolExecutor(8) as threads, service:
        async with (
            Worker(
                client,
                task_queue=site.queue,
                workflow_runner=SandboxedWorkflowRunner() if sandboxed else UnsandboxedWorkflowRunner(),
                workflows=[ExportWorkflow, ResultsPollerWorkflow],
                activities=activities,
                activity_executor=threads,
                interceptors=[ErrorInterceptor()],
            ),
            Worker(
                client,
                task_queue=queues.node(site.node_id) if node_queue else f"nobody-asks-{site.node_id}",
                activities=[exports.clean],
                activity_executor=threads,
                interceptors=[ErrorInterceptor()],
            ),
            Worker(
                client,
                task_queue=queues.exports(site.node_id) if node_queue else f"nobody-asks-{site.node_id}-exports",
                activities=[exports.fetch, exports.send],
                interceptors=[ErrorInterceptor()],
            ),
        ):
            yield


async def serve(site: Site) -> None:
    async with worker(site, await connect(site.temporal)):
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(serve(Site.of(sys.argv[1])))
