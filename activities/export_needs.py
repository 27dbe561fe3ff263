"""What the activities of an export need of others: records, configuration, the platform, and the disk."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from clara_dicom_adapter.activities.export_ledger import Results
from clara_dicom_adapter.configuration.entities import Destination, WebDestination
from clara_dicom_adapter.records.exports import ResultObject


class Task(Protocol):
    """A Results Service task, as the poller stored it."""

    @property
    def task_id(self) -> str: ...
    @property
    def offer(self) -> int: ...
    @property
    def open(self) -> bool: ...
    @property
    def job_id(self) -> str: ...
    @property
    def pipeline_id(self) -> str: ...
    @property
    def payload_id(self) -> str: ...
    @property
    def parameters(self) -> str: ...
    @property
    def retries(self) -> int: ...
    @property
    def uris(self) -> Sequence[str]: ...
    @property
    def pipeline(self) -> str: ...
    @property
    def called_ae_title(self) -> str: ...


class ExportStore(Results, Protocol):
    """Where exports are recorded, for all nodes and for good."""

    def task(self, task_id: str) -> Task | None: ...
    def save_objects(self, task_id: str, objects: Sequence[ResultObject]) -> None: ...
    def note(self, task_id: str, state: str, message: str) -> None: ...


class Destinations(Protocol):
    """The configured destinations, as they are now."""

    def destinations(self) -> Sequence[Destination | WebDestination]: ...


class Downloads(Protocol):
    """Gets one file of a payload."""

    def download(self, payload_id: str, name: str, target: Path) -> int: ...


class Space(Protocol):
    """The storage rule: raises ``StorageFull`` while the disk is short."""

    def check(self) -> None: ...
