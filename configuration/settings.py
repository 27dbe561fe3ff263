"""The settings of the adapter, one frozen class per part, each field with its unit and the reason for its default.

Names on file are the camelCase of seed 002 (0.8); those that this product adds follow the same form. The reader
(``configuration.reader``) makes a :class:`Settings` of a file and the environment; everything else gets its part.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from clara_dicom_adapter.configuration.api_settings import (
    ApiSettings,
    AuthenticationMode,
    AuthenticationSettings,
    Dialect,
    OidcSettings,
)
from clara_dicom_adapter.configuration.logging_settings import LoggingSettings, LogLevel
from clara_dicom_adapter.configuration.section import Port, Section
from clara_dicom_adapter.configuration.service_settings import PlatformSettings, ServicesSettings, TemporalSettings
from clara_dicom_adapter.log import LogSetup
from clara_dicom_adapter.log_file import FileLog
from clara_dicom_adapter.workflows.models import AeTitle

__all__ = [
    "ApiSettings",
    "AuthenticationMode",
    "AuthenticationSettings",
    "DataFolder",
    "Dialect",
    "DicomSettings",
    "Durability",
    "ExportSettings",
    "HealthSettings",
    "KubernetesSettings",
    "LogLevel",
    "LoggingSettings",
    "OidcSettings",
    "PlatformSettings",
    "Port",
    "ScpSettings",
    "ScuSettings",
    "Section",
    "ServicesSettings",
    "Settings",
    "StorageSettings",
    "TemporalSettings",
    "VerificationSettings",
]


class VerificationSettings(Section):
    """The Verification SOP class (C-ECHO)."""

    enabled: bool = True
    """Whether C-ECHO is offered; when not, an association that proposes nothing else is rejected."""
    transfer_syntaxes: tuple[str, ...] = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
    """Transfer syntax UIDs accepted for it (seed 002)."""


class ClientCertificates(StrEnum):
    """Whether senders show a certificate."""

    NONE = "none"
    OPTIONAL = "optional"
    REQUIRED = "required"


class ScpTlsSettings(Section):
    """The Storage SCP over TLS (PS3.15 annex B.9, BCP 195 profile), beside the plain port or instead of it; on with \
a certificate. Renewed files are taken without a restart, for the associations to come."""

    port: Port = 2762
    """TCP port of TLS, on the addresses of `host`; DICOM's registered one."""
    certificate_file: Path | None = None
    """Our certificate with its chain, PEM; none: TLS is off."""
    key_file: Path | None = None
    """Its key, PEM without a password; none: it is in the certificate's file."""
    ca_file: Path | None = None
    """Certificates of authorities to trust with senders' certificates, PEM."""
    client_certificates: ClientCertificates = ClientCertificates.REQUIRED
    """`required`: who shows no certificate of those authorities gets no association, as is usual with DICOM. \
`optional`: one that is shown is checked. `none`: none is asked for."""
    minimum_version: Literal["1.2", "1.3"] = "1.2"
    """Oldest version of TLS that is spoken; BCP 195 allows none older than 1.2."""
    only: bool = False
    """Whether the plain port is not listened on, so that nobody can send without TLS."""

    @property
    def enabled(self) -> bool:
        """Whether TLS is listened for."""
        return self.certificate_file is not None

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.certificate_file is None:
            if self.key_file or self.ca_file or self.only:
                raise ValueError("keyFile, caFile and only need a certificateFile")
        elif self.ca_file is None and self.client_certificates is not ClientCertificates.NONE:
            raise ValueError("caFile is needed to check senders' certificates, or clientCertificates none")
        return self


class ScpSettings(Section):
    """The Storage SCP."""

    port: Port = 104
    """TCP port; DICOM's registered one."""
    host: tuple[str, ...] = Field(default=("0.0.0.0",), min_length=1)  # noqa: S104 - modalities are other machines
    """Address to listen on, IPv4 or IPv6, or a list of them, all with this port; the default is every IPv4 address, as
    in the original. ``::`` takes IPv4 too, unless an IPv4 address stands beside it."""
    receivers: int = Field(default=2, ge=1, le=64)
    """Processes that receive; they share the port, and one that dies costs only its own associations."""
    maximum_number_of_associations: int = Field(default=25, ge=1, le=1000)
    """Associations open at once over all AE titles and processes; one more is rejected as transient (2/3/2)."""
    maximum_number_of_associations_per_source: int = Field(default=0, ge=0, le=1000)
    """How many of them one calling AE title may have, so that it leaves room for others; 0: all."""
    verification: VerificationSettings = VerificationSettings()
    reject_unknown_sources: bool = True
    """Whether only configured sources (calling AE title and host) may associate."""
    read_ae_titles_from_crd: bool = False
    """Whether Clara AE titles are read from Kubernetes resources; else from the SQL store."""
    read_sources_from_crd: bool = False
    """Whether sources are read from Kubernetes resources; else from the SQL store."""
    log_dimse_datasets: bool = False
    """Whether DIMSE commands and the elements of each dataset are logged, see also `logPatientAttributes`."""
    log_data_pdus: Annotated[bool, Field(alias="logDataPDUs")] = False
    """Whether each P-DATA-TF PDU received or sent is logged, without its contents."""
    log_patient_attributes: bool = False
    """Whether logged datasets show values that may tell who the patient is; otherwise these are masked."""
    maximum_pdu_length: int = Field(default=131072, ge=4096, le=1048576)
    """Largest PDU offered to senders, bytes; measured as the best between 16 KiB and unlimited."""
    association_request_timeout_seconds: float = Field(default=30, gt=0)
    """ARTIM (PS3.8 section 9.1.4): how long a connection may stay without an association request."""
    association_idle_timeout_seconds: float = Field(default=300, gt=0)
    """An association without a byte for this long is aborted, so that a crashed modality does not hold a slot."""
    write_timeout_seconds: float = Field(default=30, gt=0)
    """A peer that does not take our answer for this long is cut off."""
    shutdown_grace_seconds: float = Field(default=30, ge=0)
    """How long associations in progress may go on after SIGTERM."""
    interrupted_hold_seconds: float = Field(default=60, ge=0)
    """How long the instances of an interrupted association wait for the sender to come back."""
    tls: ScpTlsSettings = ScpTlsSettings()

    @property
    def plain(self) -> bool:
        """Whether `port` is listened on."""
        return not self.tls.only

    @field_validator("host", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _two_ports(self) -> Self:
        if self.tls.enabled and self.plain and self.port and self.port == self.tls.port:
            raise ValueError("port and tls>port must differ, unless tls>only is true")
        return self


class ExportSettings(Section):
    """Rules of the export (seed 002, ``scu>export``)."""

    maximum_retries: int = Field(default=3, ge=0)
    """A failed task asks for another attempt while its ``retries`` is below this."""
    failure_threshold: float = Field(default=0.5, ge=0, le=1)
    """A task fails when more than this share of its objects fails; exactly this share does not."""
    poll_frequency_ms: int = Field(default=500, ge=10)
    """Pause between two looks at the Results Service, milliseconds."""
    connect_retries: int = Field(default=2, ge=0)
    """Attempts after the first within one run, when the destination cannot be reached, drops the association or is out
    of resources (A7xx); they are counted anew after each object that it stores. An association that is lost with an
    object that was lost before is not counted, and a destination that breaks off each itself is tried with ten objects
    at least, unless this is 0."""
    connect_retry_delay_seconds: float = Field(default=5, ge=0)
    """Pause before the first of them; it doubles each time, up to a minute."""
    time_limit_seconds: float = Field(default=21600, gt=0)
    """How long one run may send to one destination; then the object under way is broken off, and what is left counts as
    failed."""
    warnings_are_failures: bool = False
    """Whether an object answered with a warning (B000, B006, B007) counts as failed; it counts as stored otherwise."""
    default_destination: str = ""
    """Where a task goes whose parameters name no destination; none: such a task fails."""
    retention_hours: float = Field(default=72, gt=0)
    """How long downloaded objects of a finally failed task are kept for a person."""
    agent: str = "DICOMweb"
    """A second agent name that tasks are asked for, that of the DICOMweb exporter (original behaviour, 1.10); tasks of
    either may name destinations of both kinds."""


class ScuSettings(Section):
    """The Storage SCU."""

    ae_title: AeTitle = "ClaraSCU"
    """Our AE title when exporting, and our agent name at the Results Service."""
    maximum_number_of_associations: int = Field(default=8, ge=1, le=100)
    """Outbound associations of one worker at once, over all destinations; each has a limit of its own besides."""
    read_destinations_from_crd: bool = False
    """Whether destinations are read from Kubernetes resources; else from the SQL store."""
    log_dimse_datasets: bool = False
    """Whether DIMSE commands and the elements of each dataset are logged, see also `logPatientAttributes`."""
    log_data_pdus: Annotated[bool, Field(alias="logDataPDUs")] = False
    """Whether each P-DATA-TF PDU sent or received is logged, without its contents."""
    log_patient_attributes: bool = False
    """Whether logged datasets show values that may tell who the patient is; otherwise these are masked."""
    export: ExportSettings = ExportSettings()
    connect_timeout_seconds: float = Field(default=10, gt=0)
    """How long a TCP connection may take."""
    association_timeout_seconds: float = Field(default=30, gt=0)
    """How long the answer to an association request may take."""
    response_timeout_seconds: float = Field(default=60, gt=0)
    """How long one C-STORE response may take; the original waits for ever."""


class DicomSettings(Section):
    scp: ScpSettings = ScpSettings()
    scu: ScuSettings = ScuSettings()


class Durability(StrEnum):
    """What the answer 0000 to a C-STORE promises."""

    FLUSH = "flush"
    OS = "os"


class StorageSettings(Section):
    """The spool's disk."""

    temporary: Path | None = None
    """Folder of the spool and of downloads; none: ``payloads`` in the data folder."""
    watermark_percent: int = Field(default=75, ge=1, le=100)
    """Nothing is received, downloaded or retrieved beyond this share of the disk (seed 002)."""
    reserve_space_gb: Annotated[float, Field(alias="reserveSpaceGB", ge=0)] = 5
    """Nor below this much free space, 10^9 bytes."""
    durability: Durability = Durability.FLUSH
    """``flush``: an instance is on the device before it is answered with 0000. ``os``: it is in the page cache; it \
survives the end of the receiver, but a power cut takes back the last seconds."""
    prepared_space_mb: Annotated[int, Field(alias="preparedSpaceMB", ge=0)] = 512
    """Space for files that are made in advance, 10^6 bytes, so that ``flush`` costs one flush of the data, for small \
instances one for all associations of a listener; with ``os``, so that no blocks have to be found. \
Used on ext4 and XFS; 0: none are made."""
    quarantine_retention_hours: float = Field(default=168, gt=0)
    """Quarantined groups are reclaimed after this long; nothing else accepted ever expires."""
    reconcile_interval_seconds: float = Field(default=60, gt=0)
    """Pause between two slow scans for instances that no workflow owns."""


class KubernetesSettings(Section):
    """The Kubernetes API server, where AE titles, sources or destinations are read from resources there."""

    namespace: str | None = None
    """Namespace of the resources; none: the pod's own, else the kubeconfig context's."""
    kubeconfig: Path | None = None
    """File to reach the API server with; none: the pod's service account, else `KUBECONFIG` or `~/.kube/config`."""
    context: str | None = None
    """Context of that file; none: its current one."""
    report_status: bool = True
    """Whether the API part writes to each resource whether it is accepted; needs the right to patch its status."""


class HealthSettings(Section):
    """The port of one part on which probes and Prometheus ask it; for parts that run alone, such as in a pod."""

    host: str = "127.0.0.1"
    """Address to listen on; the answers hold no patient data and no secrets."""
    port: Port = 0
    """TCP port of `/health/live`, `/health/ready` and `/metrics`; 0: any free one. Parts of one machine cannot share
    a number."""


class Settings(Section):
    """Everything under ``DicomAdapter``, with the two sections beside it."""

    dicom: DicomSettings = DicomSettings()
    services: ServicesSettings = ServicesSettings()
    storage: StorageSettings = StorageSettings()
    api: ApiSettings = ApiSettings()
    kubernetes: KubernetesSettings = KubernetesSettings()
    health: HealthSettings = HealthSettings()
    database: str = ""
    """SQLAlchemy URL or ``Data Source=FILE`` (``ConnectionStrings>DicomAdapterDatabase``); empty: data folder."""
    logging: LoggingSettings = LoggingSettings()
    """``Logging``."""
    log_json: bool = False
    """Log lines as JSON instead of readable text."""

    @property
    def log_setup(self) -> LogSetup:
        """How every process of the adapter logs."""
        file = self.logging.file
        return LogSetup(
            levels=dict(self.logging.levels),
            json=self.log_json,
            colors=not self.logging.console.disable_colors,
            file=FileLog(
                path=file.path,
                interval=file.rolling_interval.value,
                size_limit=file.file_size_limit_bytes,
                roll_on_size=file.roll_on_file_size_limit,
                retained=file.retained_file_count_limit,
            )
            if file.path
            else None,
        )


class DataFolder:
    """Where everything of one installation lies, below ``--data-dir``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.database = root / "dicomadapter.db"
        self.payloads = root / "payloads"
        self.pipelines = root / "pipelines"
        self.platform = root / "platform"
        self.temporal_database = root / "temporal.db"
        self.logs = root / "logs"
        self.run = root / "run"
        self.lock = root / "adapter.lock"
        self.status = root / "status.json"
        self.log_levels = root / "log-levels.json"
