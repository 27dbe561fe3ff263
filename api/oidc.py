"""Bearer tokens of an OpenID Connect provider: signature, issuer, audience, times, and the role that a claim gives.

PyJWT checks tokens and keeps the provider's keys; it asks for them again for a key it does not know, at most twice a
minute. Only signatures of key pairs count: a shared secret, or none, never does.
"""

import threading
from typing import Any, Final

import httpx
import jwt
import structlog

from clara_dicom_adapter.api.callers import Caller, IdentityProviderUnavailable, NotAuthenticated
from clara_dicom_adapter.configuration.roles import Role
from clara_dicom_adapter.configuration.settings import OidcSettings

log = structlog.get_logger("clara_dicom_adapter.api")

_ALGORITHMS: Final = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA")
_SECONDS: Final = 5.0
"""For one answer of the provider."""
_LEEWAY_SECONDS: Final = 30
"""How much its clock and ours may differ."""


class OidcTokens:
    """Checks tokens; thread-safe."""

    def __init__(self, settings: OidcSettings, *, cooldown_seconds: float = 30) -> None:
        """Args:
        settings: With issuer and audience.
        cooldown_seconds: The provider is not asked for its keys again before this has passed.
        """
        self._settings = settings
        self._cooldown_seconds = cooldown_seconds
        self._lock = threading.Lock()
        self._keys: jwt.PyJWKClient | None = None

    def caller(self, token: str) -> Caller:
        """Who a token belongs to.

        Raises:
            NotAuthenticated: It is not a token that counts here.
            IdentityProviderUnavailable: Its issuer's keys cannot be had.
        """
        try:
            key = self._client().get_signing_key_from_jwt(token)
            claims: dict[str, Any] = jwt.decode(
                token,
                key,
                algorithms=list(_ALGORITHMS),
                audience=self._settings.audience,
                issuer=self._settings.issuer,
                leeway=_LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud"]},
            )
        except (jwt.PyJWKClientConnectionError, httpx.HTTPError) as error:
            log.warning("identity_provider_unreachable", error=type(error).__name__)
            raise IdentityProviderUnavailable(f"{self._settings.issuer} does not answer.") from error
        except jwt.PyJWTError as error:
            raise NotAuthenticated(f"The token is not valid here: {_reason(error)}.") from error
        role = self._role(claims)
        if role is None:
            raise NotAuthenticated(f"The token's claim '{self._settings.role_claim}' gives no role here.")
        return Caller(str(claims.get("sub") or claims.get("client_id") or "token")[:100], role)

    def _client(self) -> jwt.PyJWKClient:
        with self._lock:
            if self._keys is None:
                address = self._settings.jwks_uri or self._discovered()
                self._keys = jwt.PyJWKClient(address, timeout=_SECONDS, cooldown_duration=self._cooldown_seconds)
            return self._keys

    def _discovered(self) -> str:
        issuer = str(self._settings.issuer)
        address = f"{issuer.rstrip('/')}/.well-known/openid-configuration"
        answer = httpx.get(address, timeout=_SECONDS).raise_for_status()
        try:
            document = answer.json()
            found = document["jwks_uri"], document["issuer"]
        except (ValueError, KeyError, TypeError) as error:
            raise IdentityProviderUnavailable(f"{address} is no discovery document.") from error
        if found[1] != issuer:
            raise IdentityProviderUnavailable(f"{address} is that of another issuer, {str(found[1])[:100]}.")
        return str(found[0])

    def _role(self, claims: dict[str, Any]) -> Role | None:
        value: Any = claims
        for name in self._settings.role_claim.split("."):
            value = value.get(name) if isinstance(value, dict) else None
        # a list, or words between blanks as in ``scope``
        values = {str(each) for each in value} if isinstance(value, list) else set(str(value or "").split())
        for role, accepted in (
            (Role.CONFIGURE, self._settings.configure_roles),
            (Role.OPERATE, self._settings.operate_roles),
            (Role.READ, self._settings.read_roles),
        ):
            if values.intersection(accepted):
                return role
        return None


def _reason(error: jwt.PyJWTError) -> str:
    """In words; PyJWT's own text can repeat what the token says."""
    words = {
        jwt.ExpiredSignatureError: "it has expired",
        jwt.ImmatureSignatureError: "it is not valid yet",
        jwt.InvalidAudienceError: "it is for another audience",
        jwt.InvalidIssuerError: "it is of another issuer",
        jwt.InvalidSignatureError: "its signature is wrong",
        jwt.MissingRequiredClaimError: "a claim is missing",
        jwt.PyJWKClientError: "it is signed with a key that its issuer does not have",
    }
    return next((text for kind, text in words.items() if isinstance(error, kind)), "it cannot be read")
