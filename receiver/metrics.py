"""The receiver's counters for Prometheus."""

from collections.abc import Callable
from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge

from clara_dicom_adapter.receiver.live import LiveAssociation


class ReceiverMetrics:
    """What the receiver counts; one object per service, so that tests do not share a registry."""

    def __init__(self, listeners: int = 1) -> None:
        """Args:
        listeners: How many there are.
        """
        self.registry = CollectorRegistry()
        self.associations = Counter(
            "clara_dicom_associations", "Associations that have ended, by outcome", ["outcome"], registry=self.registry
        )
        self.rejected = Counter(
            "clara_dicom_associations_rejected", "Associations rejected, by reason", ["reason"], registry=self.registry
        )
        self.tls_failures = Counter(
            "clara_dicom_tls_failures",
            "Connections that TLS has failed on, by reason",
            ["reason"],
            registry=self.registry,
        )
        self.instances = Counter(
            "clara_dicom_instances_received",
            "Instances stored and answered 0000, by listener",
            ["listener"],
            registry=self.registry,
        )
        self.bytes = Counter(
            "clara_dicom_bytes_received",
            "Bytes of data sets stored and answered 0000, by listener",
            ["listener"],
            registry=self.registry,
        )
        self.flushes = Counter(
            "clara_dicom_instance_flushes",
            "Instances flushed to disk, by listener",
            ["listener"],
            registry=self.registry,
        )
        self.flush_seconds = Counter(
            "clara_dicom_instance_flush_seconds",
            "Seconds that flushing instances took, by listener",
            ["listener"],
            registry=self.registry,
        )
        self.ignored = Counter(
            "clara_dicom_instances_ignored", "Instances answered 0000 and not stored", registry=self.registry
        )
        self.failed = Counter(
            "clara_dicom_instances_failed",
            "Instances answered A700: no space, or the disk failed",
            registry=self.registry,
        )
        self.refused = Counter(
            "clara_dicom_instances_refused", "Instances answered A900, C000 or 0122", ["status"], registry=self.registry
        )
        self.handed_over = Counter(
            "clara_dicom_instances_handed_over", "Instances that Temporal has been told of", registry=self.registry
        )
        self.hand_over_failures = Counter(
            "clara_dicom_hand_over_failures", "Attempts to reach Temporal that failed", registry=self.registry
        )
        for counter in (self.instances, self.bytes, self.flushes, self.flush_seconds):
            for listener in range(listeners):  # a rise from nothing is none that an alarm sees
                counter.labels(str(listener))
        self._gauges: list[Gauge] = []

    def moved(self, before: LiveAssociation | None, now: LiveAssociation) -> None:
        """Count what an association has done since it was last heard of."""
        listener = str(now.listener)
        self.instances.labels(listener).inc(now.instances - (before.instances if before else 0))
        self.bytes.labels(listener).inc(now.bytes - (before.bytes if before else 0))
        self.flushes.labels(listener).inc(now.flushes - (before.flushes if before else 0))
        self.flush_seconds.labels(listener).inc(now.flush_seconds - (before.flush_seconds if before else 0.0))
        self.ignored.inc(now.ignored - (before.ignored if before else 0))
        self.failed.inc(now.failed - (before.failed if before else 0))
        for status, count in now.refused_with.items():
            self.refused.labels(status).inc(count - (before.refused_with.get(status, 0) if before else 0))

    def watch(self, name: str, text: str, read: Callable[[], float]) -> None:
        """Export a number that is read when Prometheus asks."""
        gauge = Gauge(name, text, registry=self.registry)
        gauge.set_function(read)
        self._gauges.append(gauge)

    def watch_listeners(self, name: str, text: str, count: int, read: Callable[[int], float]) -> None:
        """Export a number of each listener, read when Prometheus asks.

        Args:
            count: How many listeners there are.
            read: Takes a listener's number.
        """
        gauge = Gauge(name, text, ["listener"], registry=self.registry)
        for listener in range(count):
            gauge.labels(str(listener)).set_function(partial(read, listener))
        self._gauges.append(gauge)
