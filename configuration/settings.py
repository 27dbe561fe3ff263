"""The settings of the adapter, one frozen class per part, each field with its unit and the reason for its default.

Names on file are the camelCase of seed 002 (0.8); those that this product adds follow the same form. The reader
(``configuration.reader``) makes a :class:`Settings` of a file and the environment; everything else gets its part.
"""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator
from pydantic.alias_generators import to_camel

from clara_dicom_adapter.log import LogSetup
from clara_dicom_adapter.log_file import FileLog
from clara_dicom_adapter.workflows.models import AeTitle

LogLevel = Literal["Trace", "Debug", "Information", "Warning", "Error", "Critical", "None"]
"""The words of seed 002, from everything to nothing."""
Port = Annotated[int, Field(ge=0, le=65535)]
"""TCP port; 0 is any free one."""


class Section(BaseModel):
    """Base of every settings part: frozen, camelCase on file, unknown keys refused because they are typing mistakes."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class VerificationSettings(Section):
    """The Verification SOP class (C-ECHO)."""

    enabled: bool = True
    """Whether C-ECHO is offered; when not, an association that proposes nothing else is rejected."""
    transfer_syntaxes: tuple[str, ...] = ("1.2.840.10008.1.2.1", "1.2.840.10008.1.2", "1.2.840.10008.1.2.2")
    """Transfer syntax UIDs accepted for it (seed 002)."""


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

    @field_validator("host", mode="before")
    @classmethod
    def _one_or_several(cls, value: object) -> object:
        return (value,) if isinstance(value, str) else value


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
    of resources (A7xx); they are counted anew after each object that it stores."""
    connect_retry_delay_seconds: float = Field(default=5, ge=0)
    """Pause before the first of them; it doubles each time, up to a minute."""
    time_limit_seconds: float = Field(default=21600, gt=0)
    """How long one run may send to one destination; what is left then counts as failed."""
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
    """Space for files that are made in advance, 10^6 bytes, so that ``flush`` costs one flush of the data. Used \
on ext4 and XFS; 0: none are made."""
    quarantine_retention_hours: float = Field(default=168, gt=0)
    """Quarantined groups are reclaimed after this long; nothing else accepted ever expires."""
    reconcile_interval_seconds: float = Field(default=60, gt=0)
    """Pause between two slow scans for instances that no workflow owns."""


class Dialect(StrEnum):
    """The shapes that the configuration's JSON has had."""

    V0_8 = "0.8"
    V0_6 = "0.6"


class AuthenticationMode(StrEnum):
    """When callers of the REST interface must say who they are."""

    AUTO = "auto"
    REQUIRED = "required"
    DISABLED = "disabled"


class OidcSettings(Section):
    """Bearer tokens of an OpenID Connect provider; needs `issuer` and `audience`."""

    issuer: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """URL of the provider, as it stands in the tokens' `iss`."""
    audience: str | None = None
    """What must stand in the tokens' `aud`."""
    jwks_uri: Annotated[str, Field(pattern=r"^https?://[^\s]+$")] | None = None
    """URL of the provider's keys; none: as its discovery document says."""
    role_claim: str = "roles"
    """Claim that holds a caller's roles, a text or a list; dots lead into objects (`realm_access.roles`)."""
    read_roles: tuple[str, ...] = ("clara-dicom-read",)
    """Values of that claim that may read."""
    operate_roles: tuple[str, ...] = ("clara-dicom-operate",)
    """Values that may also retry, discard and send a C-ECHO."""
    configure_roles: tuple[str, ...] = ("clara-dicom-configure",)
    """Values that may also change AE titles, sources, destinations and log levels."""

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.issuer is None) != (self.audience is None):
            raise ValueError("issuer and audience are given together")
        return self


class AuthenticationSettings(Section):
    """Who may use the REST interface."""

    mode: AuthenticationMode = AuthenticationMode.AUTO
    """`auto`: on loopback everybody, on other addresses who has an API key or a token, and as long as nobody could be
    let in, only loopback is listened on. `required`: on loopback too. `disabled`: everybody may do everything."""
    key_file: Path | None = None
    """File of further API keys, such as a mounted secret: lines of a role (read, operate or configure) and a key."""
    oidc: OidcSettings = OidcSettings()


class ApiSettings(Section):
    """The REST interface."""

    host: str = "127.0.0.1"
    """Address to listen on; beyond loopback there must be authentication."""
    port: Port = 5000
    """TCP port of the REST interface."""
    dialect: Dialect = Dialect.V0_8
    """Shape of the configuration's JSON where a request does not choose one by its media type."""
    tls_certificate_file: Path | None = None
    """Certificate to serve HTTPS with, PEM, with its chain; none: HTTP. A renewed file is taken without a restart."""
    tls_key_file: Path | None = None
    """Its key, PEM."""
    authentication: AuthenticationSettings = AuthenticationSettings()

    @model_validator(mode="after")
    def _both(self) -> Self:
        if (self.tls_certificate_file is None) != (self.tls_key_file is None):
            raise ValueError("tlsCertificateFile and tlsKeyFile are given together")
        return self


class ConsoleLogSettings(Section):
    """Log lines on standard error."""

    disable_colors: bool = False
    """Whether readable lines have no colours; they never have any where standard error is no terminal."""


class RollingInterval(StrEnum):
    """When a new log file is begun, in the words of the 0.7 file."""

    INFINITE = "Infinite"
    YEAR = "Year"
    MONTH = "Month"
    DAY = "Day"
    HOUR = "Hour"
    MINUTE = "Minute"


class FileLogSettings(Section):
    """The same lines in a rolling file."""

    path: Path | None = None
    """Where; the time that a file begins with is put before the suffix: `logs/clara-dicom20240501.log`. None: there is
    no file. A relative one is in the data folder."""
    rolling_interval: RollingInterval = RollingInterval.DAY
    """How often a new file is begun, by UTC."""
    file_size_limit_bytes: int = Field(default=100_000_000, ge=10_000)
    """At this size a file is full."""
    roll_on_file_size_limit: bool = True
    """Whether another file, `_001` and so on, follows a full one; otherwise nothing more is written until the next
    interval."""
    retained_file_count_limit: int = Field(default=31, ge=1)
    """So many of the newest files are kept."""


class LoggingSettings(BaseModel):
    """What is logged, and where to; the section ``Logging`` of the file."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    levels: dict[str, LogLevel] = Field(default={}, alias="LogLevel")
    """Least level that is logged, by category; the longest category that fits a line counts, `Default` is for all."""
    console: ConsoleLogSettings = Field(default=ConsoleLogSettings(), alias="Console")
    file: FileLogSettings = Field(default=FileLogSettings(), alias="File")


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
