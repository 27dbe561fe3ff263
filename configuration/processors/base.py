"""What a job processor gets, and what it answers."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

Priority = Literal["lower", "normal", "higher", "immediate"]

PIPELINE_PREFIX = "pipeline-"
TIMEOUT = "timeout"
GROUP_BY = "groupby"
PRIORITY = "priority"
JOB_RETRY_DELAY = "jobretrydelay"
MAXIMUM_WINDOW = "maximumwindow"
_COMMON = frozenset({TIMEOUT, GROUP_BY, PRIORITY, JOB_RETRY_DELAY, MAXIMUM_WINDOW})
PRIORITIES: tuple[Priority, ...] = ("lower", "normal", "higher", "immediate")


@dataclass(frozen=True, slots=True)
class GroupedInstance:
    """One SOP instance of a closed group, as its spool's index knows it."""

    node_id: str
    association_id: str
    sequence: int
    received_at: float
    """Seconds since the epoch."""
    sop_class_uid: str
    sop_instance_uid: str
    study_instance_uid: str
    """Empty when the head of the dataset could not be read."""
    series_instance_uid: str
    bytes: int


@dataclass(frozen=True, slots=True)
class InstanceGroup:
    """A closed group; every SOP instance UID stands in it once."""

    ae_title: str
    calling_ae_title: str
    incomplete: bool
    """The association was interrupted, or some instance could not be stored."""
    instances: Sequence[GroupedInstance]


@dataclass(frozen=True, slots=True)
class JobRequest:
    """One job that a processor wants.

    Attributes:
        name: Short name, part of the job's name on the platform; unique within the group.
        pipeline: Pipeline id or name.
        instances: What goes into the job's payload.
    """

    name: str
    pipeline: str
    instances: Sequence[GroupedInstance]
    priority: Priority = "normal"


class JobProcessor(ABC):
    """Decides which jobs arise from a closed group.

    Args:
        settings: The AE title's ``processorSettings``.
    """

    type_names: ClassVar[tuple[str, ...]] = ()
    """Further names this processor answers to, such as a .NET type string."""
    own_settings: ClassVar[frozenset[str]] = frozenset()
    """Names, in lower case, of the settings that only this processor has; any other is told as a typing mistake."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self.settings = {key.strip().lower(): value.strip() for key, value in settings.items()}

    @classmethod
    def problems(cls, ae_title: str, settings: Mapping[str, str]) -> list[str]:
        """What is wrong with these settings, one readable line each; empty when nothing is."""
        processor = cls(settings)
        unknown = [
            f"[WARNING] Processor setting ignored {key}={value}."
            for key, value in processor.settings.items()
            if key not in _COMMON | cls.own_settings and not key.startswith(PIPELINE_PREFIX)
        ]
        return [*_common_problems(ae_title, processor.settings), *unknown, *processor.own_problems(ae_title)]

    def own_problems(self, ae_title: str) -> list[str]:
        """What a processor demands beyond the settings that all have."""
        del ae_title
        return []

    @abstractmethod
    def jobs(self, group: InstanceGroup) -> Iterable[JobRequest]:
        """The jobs for a group; instances that stand in none are reclaimed at once."""

    @property
    def pipelines(self) -> dict[str, str]:
        """Short name to pipeline id or name, from the ``pipeline-<name>`` settings, in their order."""
        return {
            key.removeprefix(PIPELINE_PREFIX): value
            for key, value in self.settings.items()
            if key.startswith(PIPELINE_PREFIX) and value
        }

    @property
    def priority(self) -> Priority:
        wanted = self.settings.get(PRIORITY, "normal").lower()
        known: dict[str, Priority] = {priority: priority for priority in PRIORITIES}
        return known.get(wanted, "normal")

    @property
    def round_delay_seconds(self) -> float:
        """``jobRetryDelay``, milliseconds on file, 5000 by default."""
        return int(self.settings.get(JOB_RETRY_DELAY) or 5000) / 1000


def _common_problems(ae_title: str, settings: Mapping[str, str]) -> list[str]:
    # the wording of original-behaviour 1.6, which operators' scripts may look for
    def invalid(key: str) -> str:
        return f"[ERROR] Invalid processor setting '{key}' specified for AE Title {ae_title}."

    found = []
    if TIMEOUT in settings and not _is_number(settings[TIMEOUT], minimum=0):
        found.append(invalid("timeout"))
    if JOB_RETRY_DELAY in settings and not settings[JOB_RETRY_DELAY].isdecimal():
        found.append(invalid("jobRetryDelay"))
    if PRIORITY in settings and settings[PRIORITY].lower() not in PRIORITIES:
        found.append(invalid("priority"))
    if GROUP_BY in settings and not is_group_by(settings[GROUP_BY]):
        found.append(invalid("groupBy"))
    return found


def is_group_by(value: str) -> bool:
    """Whether a ``groupBy`` is a tag, ``GGGG,EEEE``, or ``none``."""
    if value.lower() == "none":
        return True
    digits = value.strip("()").replace(",", "").replace(" ", "")
    return len(digits) == 8 and all(digit in "0123456789abcdefABCDEF" for digit in digits)


def _is_number(value: str, minimum: float) -> bool:
    try:
        return float(value) >= minimum
    except ValueError:
        return False
