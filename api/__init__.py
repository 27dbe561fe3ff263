"""REST on port 5000: :func:`create_app` makes the application of its :class:`Dependencies`."""

from clara_dicom_adapter.api.app import create_app
from clara_dicom_adapter.api.dependencies import Dependencies
from clara_dicom_adapter.api.parts import PartsDirectory, RunFolder
from clara_dicom_adapter.api.workflows import TemporalControl, WorkflowControl

__all__ = ["Dependencies", "PartsDirectory", "RunFolder", "TemporalControl", "WorkflowControl", "create_app"]
