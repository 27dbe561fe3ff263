"""The default processor: every configured pipeline gets the whole group."""

from collections.abc import Iterable
from typing import ClassVar

from clara_dicom_adapter.configuration.processors.base import InstanceGroup, JobProcessor, JobRequest


class AeTitleJobProcessor(JobProcessor):
    """One job per ``pipeline-<name>`` setting, each with all instances of the group (original-behaviour 1.6)."""

    type_names: ClassVar[tuple[str, ...]] = (
        "Nvidia.Clara.DicomAdapter.Server.Processors.AeTitleJobProcessor",
        "Nvidia.Clara.Dicom.Processors.JobProcessor",
    )

    def own_problems(self, ae_title: str) -> list[str]:
        if not self.pipelines:
            return [f"[ERROR] No pipeline defined for AE Title {ae_title}."]
        return []

    def jobs(self, group: InstanceGroup) -> Iterable[JobRequest]:
        for name, pipeline in self.pipelines.items():
            yield JobRequest(name, pipeline, group.instances, self.priority)
