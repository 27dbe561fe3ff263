"""Prometheus: what the parts count themselves, and what the records hold."""

from collections.abc import Iterable, Iterator

import structlog
from fastapi import APIRouter, Response
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

from clara_dicom_adapter.api.attention import WAITING_STATES
from clara_dicom_adapter.api.callers import needs
from clara_dicom_adapter.api.dependencies import Dependencies, Deps
from clara_dicom_adapter.api.parts import PartReport
from clara_dicom_adapter.api.problems import responses
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.errors import DatabaseUnavailable
from clara_dicom_adapter.records.listing import Listing, Subject

log = structlog.get_logger("clara_dicom_adapter.api")

router = APIRouter(tags=["health"], dependencies=[needs(Role.READ)])

_RECORDED = (
    (Subject.ASSOCIATION, "associations", "Associations"),
    (Subject.RECEPTION, "groups", "Groups of received instances"),
    (Subject.SUBMISSION, "submissions", "Submissions to the platform"),
    (Subject.JOB, "jobs", "Jobs"),
    (Subject.EXPORT, "exports", "Exports of results"),
)
_NEVER_PARKED = frozenset({Subject.ASSOCIATION, Subject.JOB})
"""A job waits for a person with its submission."""


@router.get(
    "/metrics",
    operation_id="metrics",
    summary="Metrics in Prometheus' text form",
    response_class=Response,
    responses={
        **responses(),
        200: {"content": {"text/plain": {"example": 'clara_dicom_part_up{part="receiver"} 1.0'}}},
    },
)
def metrics(deps: Deps) -> Response:
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Everything(deps))
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


class _Everything(Collector):
    def __init__(self, deps: Dependencies) -> None:
        self._deps = deps

    def collect(self) -> Iterator[Metric]:
        reports = self._deps.parts.reports(metrics=True)
        yield from _up(reports)
        yield from merged(reports)
        try:
            yield from _recorded(Listing(self._deps.engine))
        except DatabaseUnavailable as error:
            log.warning("metrics_incomplete", error=str(error))


def _up(reports: Iterable[PartReport]) -> Iterator[Metric]:
    up = GaugeMetricFamily("clara_dicom_part_up", "1 when the part runs and is ready", labels=["part"])
    for report in reports:
        up.add_metric([report.part], float(report.ready))
    yield up


def merged(reports: Iterable[PartReport]) -> Iterator[Metric]:
    """The parts' own metrics, one family for all parts that have it, each sample marked with its part."""
    families: dict[str, Metric] = {}
    for report in reports:
        try:
            theirs = list(text_string_to_metric_families(report.metrics))
        except ValueError:
            log.warning("metrics_unreadable", part=report.part)
            continue
        for family in theirs:
            mine = families.setdefault(family.name, Metric(family.name, family.documentation, family.type))
            for sample in family.samples:
                mine.samples.append(sample._replace(labels={**sample.labels, "part": report.part}))
    yield from families.values()


def _recorded(listing: Listing) -> Iterator[Metric]:
    parked = GaugeMetricFamily("clara_dicom_parked", "What waits for a person", labels=["subject"])
    for subject, name, text in _RECORDED:
        counts = listing.counts(subject)
        yield _by_state(f"clara_dicom_recorded_{name}", f"{text} in the records, by state", counts.items())
        if subject not in _NEVER_PARKED:
            parked.add_metric([name], sum(counts.get(state, 0) for state in WAITING_STATES))
    yield parked


def _by_state(name: str, text: str, counts: Iterable[tuple[str, int]]) -> Metric:
    family = GaugeMetricFamily(name, text, labels=["state"])
    for state, count in counts:
        family.add_metric([state], count)
    return family
