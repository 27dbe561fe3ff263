"""An example of a processor of one's own: one job per series.

Setting ``sopClasses`` names the SOP class UIDs that a pipeline can use, separated by commas; others are declined.
Setting ``minimumInstances`` leaves out series that are smaller.
"""

from collections.abc import Iterable
from typing import ClassVar

from clara_dicom_adapter.configuration.processors.base import (
    GroupedInstance,
    InstanceGroup,
    JobProcessor,
    JobRequest,
)

SOP_CLASSES = "sopclasses"
MINIMUM_INSTANCES = "minimuminstances"


class SeriesJobProcessor(JobProcessor):
    """One job per series and pipeline; small series and unwanted SOP classes make none."""

    type_names: ClassVar[tuple[str, ...]] = ("SeriesJobProcessor",)
    own_settings: ClassVar[frozenset[str]] = frozenset({SOP_CLASSES, MINIMUM_INSTANCES})

    def own_problems(self, ae_title: str) -> list[str]:
        found = []
        if not self.pipelines:
            found.append(f"[ERROR] No pipeline defined for AE Title {ae_title}.")
        minimum = self.settings.get(MINIMUM_INSTANCES, "1")
        if not minimum.isdecimal() or int(minimum) < 1:
            found.append(f"[ERROR] Invalid processor setting 'minimumInstances' specified for AE Title {ae_title}.")
        return found

    def jobs(self, group: InstanceGroup) -> Iterable[JobRequest]:
        wanted = {uid.strip() for uid in self.settings.get(SOP_CLASSES, "").split(",") if uid.strip()}
        series: dict[str, list[GroupedInstance]] = {}
        for instance in group.instances:
            if not wanted or instance.sop_class_uid in wanted:
                series.setdefault(instance.series_instance_uid, []).append(instance)
        minimum = int(self.settings.get(MINIMUM_INSTANCES) or 1)
        large_enough = [members for members in series.values() if len(members) >= minimum]
        for number, members in enumerate(large_enough, start=1):
            for name, pipeline in self.pipelines.items():
                yield JobRequest(f"{name}-{number}", pipeline, members, self.priority)
