"""Lets in who says who they are: an API key or an OpenID Connect token, in ``Authorization: Bearer``.

It stands before the application, so that of a stranger nothing is read but the head of the request, and so that a new
route is closed until it is named here.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from clara_dicom_adapter.api import problems
from clara_dicom_adapter.api.callers import ANYBODY, Caller, IdentityProviderUnavailable, NotAuthenticated
from clara_dicom_adapter.api.oidc import OidcTokens
from clara_dicom_adapter.configuration.api_keys import ApiKeys, FileKeys
from clara_dicom_adapter.configuration.settings import ApiSettings, AuthenticationMode
from clara_dicom_adapter.errors import AdapterError

OPEN_PATHS: Final = frozenset(
    {"/health/live", "/health/ready", "/openapi.json", "/docs", "/docs/oauth2-redirect", "/redoc"}
)
"""Probes have no key; the description of the interface is no secret."""
LOOPBACK: Final = "127.0.0.1"


class Authenticator:
    """Knows callers by their keys and tokens; thread-safe."""

    def __init__(self, keys: ApiKeys, file: FileKeys | None = None, tokens: OidcTokens | None = None) -> None:
        self._keys = keys
        self._file = file
        self._tokens = tokens

    @property
    def knows_somebody(self) -> bool:
        """Whether there is anybody who could be let in."""
        return bool(self._file) or self._tokens is not None or any(not key.expired for key in self._keys.all())

    def caller(self, credential: str) -> Caller:
        """Whose credential this is.

        Raises:
            NotAuthenticated: Nobody's.
            IdentityProviderUnavailable: It is a token, and cannot be checked.
        """
        role = self._file.find(credential) if self._file else None
        if role is not None:
            return Caller("a key of keyFile", role)
        key = self._keys.find(credential)
        if key is not None:
            return Caller(key.name, key.role)
        if self._tokens is not None and credential.count(".") == 2:  # a JWS has three parts, RFC 7515 section 3.1
            return self._tokens.caller(credential)
        raise NotAuthenticated("The key is not known here, was revoked, or has expired.")


@dataclass(frozen=True)
class Policy:
    """How the interface is protected.

    Attributes:
        host: Address to listen on.
        authenticator: None: everybody may do everything.
        warnings: What somebody should look after.
    """

    host: str
    authenticator: Authenticator | None
    warnings: Sequence[str] = ()


def policy(settings: ApiSettings, keys: ApiKeys) -> Policy:
    """The policy for some settings; raises ConfigurationInvalid for a ``keyFile`` that cannot be used."""
    mode, oidc, key_file = settings.authentication.mode, settings.authentication.oidc, settings.authentication.key_file
    if mode is AuthenticationMode.DISABLED:
        warning = f"whoever reaches {settings.host} may change everything: api>authentication>mode is disabled"
        return Policy(settings.host, None, () if is_loopback(settings.host) else (warning,))
    if mode is AuthenticationMode.AUTO and is_loopback(settings.host):
        return Policy(settings.host, None)
    known = Authenticator(keys, FileKeys(key_file) if key_file else None, OidcTokens(oidc) if oidc.issuer else None)
    if known.knows_somebody:
        return Policy(settings.host, known)
    remedy = "make a key with `clara dicom key create NAME --role configure`"
    if mode is AuthenticationMode.REQUIRED:
        return Policy(settings.host, known, (f"nobody can be let in; {remedy}",))
    warning = f"listens on {LOOPBACK} instead of {settings.host}, because nobody could be let in; {remedy} and restart"
    return Policy(LOOPBACK, None, (warning,))


def is_loopback(host: str) -> bool:
    """Whether an address is reached from this machine only."""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


class Authentication:
    """Middleware that finds out who calls, and refuses who does not say.

    Args:
        authenticator: None: everybody may do everything.
    """

    def __init__(self, app: ASGIApp, *, authenticator: Authenticator | None) -> None:
        self._app = app
        self._authenticator = authenticator

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            try:
                caller = await self._caller(scope)
            except (NotAuthenticated, IdentityProviderUnavailable, AdapterError) as error:
                await problems.of(error)(scope, receive, send)
                return
            scope.setdefault("state", {})["caller"] = caller
        await self._app(scope, receive, send)

    async def _caller(self, scope: Scope) -> Caller:
        if self._authenticator is None or scope["path"] in OPEN_PATHS:
            return ANYBODY
        scheme, _, credential = Headers(scope=scope).get("authorization", "").partition(" ")
        if scheme.lower() != "bearer" or not credential.strip():
            raise NotAuthenticated("Send an API key or a token: 'Authorization: Bearer KEY'.")
        return await run_in_threadpool(self._authenticator.caller, credential.strip())
