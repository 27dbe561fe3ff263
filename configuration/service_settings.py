"""Settings of what the adapter works with: the Clara Platform, its Results Service, and Temporal."""

from pathlib import Path

from pydantic import Field

from clara_dicom_adapter.configuration.section import Port, Section


class PlatformSettings(Section):
    """The Clara Platform, as a client sees it, and the embedded one."""

    endpoint: str | None = None
    """``host:port`` of the gRPC API; none: the embedded platform is started."""
    parallel_uploads: int = Field(default=4, ge=1, le=64)
    """Files of a job uploaded at once."""
    max_retries: int = Field(default=3, ge=0)
    """How often a call that the platform refuses is tried again before the submission waits for a person."""
    retry_delay_seconds: float = Field(default=180, gt=0)
    """Pause between two attempts to reach a platform that cannot be reached."""
    upload_metadata: bool = False
    """Whether values of the tags in ``metadataDicomSource`` are sent along with jobs; they may be a patient's."""
    metadata_dicom_source: tuple[str, ...] = ()
    """Tags, ``GGGG,EEEE``, whose distinct values become job metadata."""
    call_timeout_seconds: float = Field(default=30, gt=0)
    """Time limit of one short call."""
    job_poll_interval_seconds: float = Field(default=5, gt=0)
    """Pause between two looks at what has become of started jobs; nothing is asked while none runs."""
    embedded_port: Port = 50051
    """TCP port of the embedded platform's gRPC API."""
    embedded_results_port: Port = 8088
    """TCP port of the embedded Results Service."""
    embedded_host: str = "127.0.0.1"
    """Address the embedded platform listens on; whoever reaches it can run its pipelines."""
    pipelines: Path | None = None
    """Folder of pipeline definitions for the embedded platform; none: ``pipelines`` in the data folder."""
    allow_pipeline_creation: bool = False
    """Whether the embedded platform takes definitions over gRPC; they are commands that it runs."""
    result_retry_delay_seconds: float = Field(default=60, ge=0)
    """Pause before the embedded Results Service offers a failed task again, seconds; it doubles with each retry, up to
    an hour, so that a PACS may be away for a while."""
    payload_retention_hours: float = Field(default=8, gt=0)
    """The embedded platform removes payloads this long after all their tasks have ended."""


class TemporalSettings(Section):
    """Where Temporal is; without an address the adapter starts its own server."""

    address: str | None = None
    """``host:port``; none: a server is started."""
    namespace: str = "default"
    """Temporal namespace."""
    tls: bool = False
    """Whether to connect with TLS; implied by a file or a key below."""
    tls_ca_file: Path | None = None
    """Certificates of authorities to trust, PEM; none: the system's."""
    tls_certificate_file: Path | None = None
    """Our certificate, PEM."""
    tls_key_file: Path | None = None
    """Its key, PEM."""
    tls_server_name: str | None = None
    """Name in the server's certificate, when it is not that of the address."""
    api_key: str | None = None
    """Key of Temporal Cloud and the like."""
    web_ui_address: str | None = None
    """Base address for links when the server is configured; the embedded one knows its own."""
    embedded_port: Port = 7233
    """TCP port of the embedded server."""
    embedded_ui_port: Port = 8233
    """TCP port of its web UI."""
    retention_days: int = Field(default=30, ge=1)
    """How long Temporal keeps closed workflows; set on the embedded server's namespace."""


class ServicesSettings(Section):
    """What the adapter works with."""

    platform: PlatformSettings = PlatformSettings()
    results_service_endpoint: str | None = None
    """``http://host:port``; none: the embedded platform's."""
    temporal: TemporalSettings = TemporalSettings()
