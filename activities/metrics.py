"""The worker's counters for Prometheus."""

from prometheus_client import CollectorRegistry, Counter

from clara_dicom_adapter.records.jobs import JobEnd


class WorkerMetrics:
    """What a worker counts; one object per worker, so that tests do not share a registry."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._ended = Counter(
            "clara_dicom_jobs_ended", "Started jobs that have ended, by how", ["status"], registry=self.registry
        )
        for end in JobEnd:  # a rise from nothing is none that an alarm sees
            self._ended.labels(end.value)

    def job_ended(self, end: JobEnd) -> None:
        """The end of a job has been recorded."""
        self._ended.labels(end.value).inc()
