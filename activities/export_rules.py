"""What the rules of the export say, without I/O: where a task's objects go, and what the Results Service is told."""

from collections.abc import Sequence
from dataclasses import dataclass

from clara_dicom_adapter.clara.results import destinations as named_destinations
from clara_dicom_adapter.errors import DestinationUnknown
from clara_dicom_adapter.workflows.models import ExportDecision, FetchResult, SendResult

LONGEST_NAME = 63
"""Of a destination (``configuration.entities.EntityName``); more of an unknown name is not repeated in messages."""


class NoDestination(ValueError):
    """A task's parameters name no destination."""


def destinations(parameters: str, configured: Sequence[str], default: str = "") -> tuple[str, ...]:
    """The configured destinations that a task names, once each, or the default one when it names none.

    Raises:
        NoDestination: It names none, and there is no default.
        DestinationUnknown: A name is not configured.
    """
    names = named_destinations(parameters) or ((default,) if default else ())
    if not names:
        raise NoDestination("the task's parameters name no destination, and scu>export>defaultDestination is not set")
    return known_as(names, configured)


def known_as(names: Sequence[str], configured: Sequence[str]) -> tuple[str, ...]:
    """The configured destinations of these names, once each; compared without case. Raises DestinationUnknown."""
    known = {name.casefold(): name for name in configured}
    found: dict[str, None] = {}
    for name in names:
        match = known.get(name.casefold())
        if match is None:
            raise DestinationUnknown(name[:LONGEST_NAME], sorted(configured))
        found[match] = None
    return tuple(found)


@dataclass(frozen=True)
class Rules:
    """The settings of ``scu>export`` that a decision needs, and how often the service has offered the task before."""

    failure_threshold: float
    maximum_retries: int
    retries: int


def decide(fetched: FetchResult, sent: Sequence[SendResult], rules: Rules) -> ExportDecision:
    """What the Results Service is told about a task.

    More than the threshold's share failed, not exactly that share, makes it a failure. What could not be downloaded
    would not be there next time either, so it is final; what could not be sent is worth another attempt while the
    task's retries are below the maximum. Files that could not be downloaded count as not sent as well. The worst
    destination decides. A task without objects is a success: there is nothing left to do, and a failure would make
    the service offer nothing again. A problem is final, but for one that may pass.
    """
    may_retry = rules.retries < rules.maximum_retries
    if fetched.problem:
        return ExportDecision(success=False, retry_later=fetched.may_pass and may_retry, message=fetched.problem)
    if fetched.objects == 0:
        return ExportDecision(success=True, retry_later=False, message="the task has no objects")
    missing = fetched.objects - fetched.downloaded
    if missing / fetched.objects > rules.failure_threshold:
        message = f"{missing} of {fetched.objects} objects could not be downloaded as DICOM part 10 files"
        return ExportDecision(success=False, retry_later=False, message=message)
    failures = [(fetched.objects - result.sent, result) for result in sent if result.sent < fetched.objects]
    message = "; ".join(
        f"{result.destination}: {failed} of {fetched.objects} not stored"
        + (f" ({result.message})" if result.message else "")
        for failed, result in failures
    )
    worst = max((failed for failed, _ in failures), default=0)
    success = worst / fetched.objects <= rules.failure_threshold
    return ExportDecision(success=success, retry_later=not success and may_retry, message=message)
