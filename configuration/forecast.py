"""What the dry run says of a file; made by ``receiver.dry_run``, answered by ``api.explaining``."""

from typing import Protocol

from pydantic import BaseModel, ConfigDict, Field
from pydantic.alias_generators import to_camel

from clara_dicom_adapter.configuration.entities import ClaraAeTitle


class _Forecast(BaseModel):
    model_config = ConfigDict(frozen=True, alias_generator=to_camel, populate_by_name=True)


class SourceVerdict(_Forecast):
    """Whether the sender could associate with the AE title."""

    accepted: bool
    reason: str = Field(description="Why not.", examples=["calling-ae-title-unknown"])
    message: str


class GroupForecast(_Forecast):
    """The group that it would be received into."""

    by: str = Field(description="association, attribute (a window for each of its values) or AE title (one window).")
    attribute: str | None = Field(default=None, description="Tag that divides groups; none: nothing does.")
    has_value: bool = Field(description="Whether the file has the attribute; without it, it is in a group of its own.")
    timeout_seconds: float = Field(description="Quiet time after which the group closes; 0: with its association.")
    workflow_id: str | None = Field(default=None, description="Of the group; none: an association of its own.")


class JobForecast(_Forecast):
    """A job that the group would become, were the file all there is."""

    name: str
    pipeline: str
    priority: str
    metadata: dict[str, str] = Field(description="What the platform would be told with it; may be a patient's.")


class Explanation(_Forecast):
    """What would be done with the file."""

    ae_title: str
    source: SourceVerdict | None = Field(description="None: no calling AE title was given.")
    readable: bool = Field(description="Whether it is a part-10 file that says which instance it is.")
    sop_class_uid: str
    transfer_syntax_uid: str
    ignored: bool = Field(description="Answered 0000 and not kept, because of its SOP class.")
    group: GroupForecast | None = Field(description="None: it would not be received.")
    processor: str
    jobs: list[JobForecast]
    summary: str = Field(description="All of it in a sentence or two.")


class Explainer(Protocol):
    """Judges a file as the receiver and the worker would."""

    def explain(self, ae: ClaraAeTitle, head: bytes, calling_ae_title: str | None, host: str | None) -> Explanation:
        """What would be done.

        Args:
            head: The beginning of the file.
            host: Address that the sender has; None: that of the configured source.
        """
        ...
