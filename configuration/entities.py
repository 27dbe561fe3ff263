"""The entities an operator configures: Clara AE titles, sources and destinations (seed 001, original-behaviour 1.15).

What comes in over REST, command line or file is strict: unknown fields are refused, so that a typing mistake is told.
"""

from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints, model_validator
from pydantic.alias_generators import to_camel

from clara_dicom_adapter.workflows.models import AeTitle, InterruptedPolicy

HostName = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=253, pattern=r"^[A-Za-z0-9.:_-]+$")
]
"""A host name or an IP address."""
EntityName = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=63)]

DEFAULT_PROCESSOR = "Nvidia.Clara.DicomAdapter.Server.Processors.AeTitleJobProcessor, Nvidia.Clara.DicomAdapter"
"""The type string of the documents; it maps to our ``ae-title`` processor."""


class Entity(BaseModel):
    """Base of what an operator configures."""

    model_config = ConfigDict(frozen=True, extra="forbid", alias_generator=to_camel, populate_by_name=True)


class ClaraAeTitle(Entity):
    """An AE title of ours, and what is done with what is sent to it."""

    name: EntityName
    """Unique; the AE title when none is given."""
    ae_title: AeTitle
    overwrite_same_instance: bool = False
    ignored_sop_classes: tuple[str, ...] = ()
    allowed_sources: tuple[AeTitle, ...] = ()
    """Calling AE titles that may use this one; empty: every accepted source."""
    processor: str = DEFAULT_PROCESSOR
    processor_settings: dict[str, str] = {}
    interrupted: InterruptedPolicy | None = None


class Source(Entity):
    """An application entity that may send to us; one AE title may have several hosts."""

    ae_title: AeTitle
    host_ip: HostName


def _is_absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("an absolute path is expected")
    return path


SecretFile = Annotated[Path, AfterValidator(_is_absolute)]
"""Absolute, because the worker reads it wherever it was started."""


class DestinationTls(Entity):
    """TLS with a destination (PS3.15, BCP 195 profile); the files are on the worker's machine and read when needed."""

    ca_file: SecretFile | None = None
    """Certificates of authorities to trust, PEM; none: the system's."""
    certificate_file: SecretFile | None = None
    """Our certificate, PEM; none: the destination must not ask for one."""
    key_file: SecretFile | None = None
    """Its key, PEM; none: it is in the certificate's file."""
    server_name: HostName | None = None
    """Name in the destination's certificate, when it is not its host."""


class Destination(Entity):
    """An application entity that results are sent to, found by name."""

    name: EntityName
    ae_title: AeTitle
    host_ip: HostName
    port: int = Field(ge=1, le=65535)
    maximum_associations: int = Field(default=2, ge=1, le=100)
    """Associations with it at once; a task of many objects uses as many as nobody else waits for."""
    tls: DestinationTls | None = None
    """None: plain TCP."""


Url = Annotated[str, StringConstraints(strip_whitespace=True, max_length=500, pattern=r"^https?://[^\s?#@]+$")]
"""Of HTTP, without a query and without a user in it."""


class WebAuthentication(Entity):
    """How a DICOMweb service is told who we are; secrets are in files, so that they are in no database."""

    kind: Literal["basic", "bearer", "oauth2"]
    user: str = ""
    password_file: SecretFile | None = None
    token_file: SecretFile | None = None
    token_url: Url | None = None
    client_id: str = ""
    client_secret_file: SecretFile | None = None
    scope: str | None = None
    token_tls: DestinationTls | None = None
    """TLS with the token server, which need not be the service's; none: the system's authorities, and nothing shown."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        needed: dict[str, dict[str, object]] = {
            "basic": {"user": self.user, "passwordFile": self.password_file},
            "bearer": {"tokenFile": self.token_file},
            "oauth2": {
                "tokenUrl": self.token_url,
                "clientId": self.client_id,
                "clientSecretFile": self.client_secret_file,
            },
        }
        missing = [name for name, value in needed[self.kind].items() if not value]
        if missing:
            raise ValueError(f"{self.kind} needs {', '.join(missing)}")
        if self.token_tls is not None and self.kind != "oauth2":
            raise ValueError(f"tokenTls is for oauth2, not for {self.kind}")
        return self


class WebDestination(Entity):
    """A DICOMweb service that results are sent to with STOW-RS, found by name."""

    name: EntityName
    url: Url
    """Its base, to which ``/studies`` is added."""
    authentication: WebAuthentication | None = None
    tls: DestinationTls | None = None
    maximum_requests: int = Field(default=2, ge=1, le=100)
    """Requests to it at once."""
