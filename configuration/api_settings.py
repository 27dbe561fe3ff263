"""Settings of the REST interface, and of who may use it."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, model_validator

from clara_dicom_adapter.configuration.section import Port, Section


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
