"""A job of the embedded platform: its operators, one after the other, and its end."""

from typing import Literal

from clara_dicom_adapter.workflows.models.payload import Payload


class PlatformJobInput(Payload):
    job_id: str


class OperatorPlan(Payload):
    name: str
    time_limit_seconds: float


class PlatformJobPlan(Payload):
    operators: tuple[OperatorPlan, ...]
    pipeline: str = ""
    """Name of the pipeline."""
    over: bool = False
    """There is nothing to do: the job has ended, or the platform does not know it any more."""
    cancel: bool = False
    """Someone asked for its end before the workflow could run."""


class RunOperatorInput(Payload):
    job_id: str
    operator: str


class RunOperatorResult(Payload):
    exit_code: int
    message: str = ""


class FinishJobInput(Payload):
    job_id: str
    status: Literal["healthy", "faulted", "canceled"]
    message: str = ""


class FinishJobResult(Payload):
    registered_tasks: int = 0


class PlatformJobResult(Payload):
    status: Literal["healthy", "faulted", "canceled", "over"]
    message: str = ""
    registered_tasks: int = 0
