"""Job processors: which jobs arise from a closed group (DESIGN 6, seed 004).

A processor is a class derived from :class:`JobProcessor`, found by its entry point in the group
``clara_dicom_adapter.job_processors``. It runs in an activity; its decision is recorded.
"""

from clara_dicom_adapter.configuration.processors.base import (
    GroupedInstance,
    InstanceGroup,
    JobProcessor,
    JobRequest,
    Priority,
)
from clara_dicom_adapter.configuration.processors.registry import find, problems

__all__ = ["GroupedInstance", "InstanceGroup", "JobProcessor", "JobRequest", "Priority", "find", "problems"]
