"""How a DICOMweb service is told who we are: HTTP Basic, a bearer token, OAuth 2.0 client credentials (RFC 6749, 4.4).

Secrets are in files, read anew for each request, so that they are in no database and can be renewed at any time, in the
middle of an export too. No error text quotes one.
"""

import re
import time
from abc import abstractmethod
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import httpx

from clara_dicom_adapter.dicom import tls
from clara_dicom_adapter.dicom.tls import TlsClient
from clara_dicom_adapter.errors import AuthenticationUnusable

_EARLY_SECONDS: Final = 30.0
"""A token is renewed this long before it ends, so that it does not end on its way."""
_TOKEN: Final = re.compile(r"[\x21-\x7e]+")
"""What can stand in a header (RFC 6749 A.12, without the space, which RFC 6750 2.1 has no place for)."""


class Login(httpx.Auth):
    """What one delivery says of us, request by request; not thread-safe."""

    asked = ""
    """The token server, while the last request was one to it; else empty."""

    @abstractmethod
    def renewed(self) -> bool:
        """Whether there is something else to say after a 401; raises :class:`AuthenticationUnusable`."""


def _secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AuthenticationUnusable(f"{path} cannot be read: {words}") from error


def _token(text: str, where: str) -> str:
    """Check here: the HTTP library names a header that cannot be sent with its value."""
    if not text:
        raise AuthenticationUnusable(f"{where} holds no token")
    if not _TOKEN.fullmatch(text):
        raise AuthenticationUnusable(
            f"{where} holds something else than one token: white space, a control character or one that is not ASCII"
        )
    return text


@dataclass(frozen=True)
class Basic:
    """User and password (RFC 7617)."""

    user: str
    password_file: Path

    def login(self) -> Login:
        return _Basic(self)


@dataclass(frozen=True)
class Bearer:
    """A token that somebody else renews (RFC 6750)."""

    token_file: Path

    def login(self) -> Login:
        return _Bearer(self)


@dataclass(frozen=True)
class ClientCredentials:
    """A token that we ask a server for.

    Attributes:
        tls: How to speak TLS with that server; None: as with any, with the system's authorities and nothing to show.
    """

    token_url: str
    client_id: str
    client_secret_file: Path
    scope: str = ""
    tls: TlsClient | None = None

    def login(self) -> Login:
        return _ClientCredentials(self)


def in_token_tls(words: str) -> str:
    """Words about settings of TLS, when they are those for the token server."""
    return re.sub(r"\btls\.(?=[a-z])", "tokenTls.", words)


Authentication = Basic | Bearer | ClientCredentials


class _Basic(Login):
    def __init__(self, whose: Basic) -> None:
        self._whose = whose
        self._said = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._said = _secret(self._whose.password_file)
        yield from httpx.BasicAuth(self._whose.user, self._said).auth_flow(request)

    def renewed(self) -> bool:
        return _secret(self._whose.password_file) != self._said


class _Bearer(Login):
    def __init__(self, whose: Bearer) -> None:
        self._whose = whose
        self._said = ""

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        self._said = _token(_secret(self._whose.token_file), str(self._whose.token_file))
        request.headers["Authorization"] = f"Bearer {self._said}"
        yield request

    def renewed(self) -> bool:
        return _secret(self._whose.token_file) != self._said


class _ClientCredentials(Login):
    """Asks for a token when there is none that is still good, over a connection of its own.

    The service's has its own authorities and our certificate for it, which are none of the token server's business.
    """

    def __init__(self, grant: ClientCredentials) -> None:
        self._grant = grant
        self._where = f"the token server {grant.token_url}"
        self._token = ""
        self._good_until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if time.monotonic() >= self._good_until:
            self.asked = self._where
            self._take(self._ask(request.extensions))
        self.asked = ""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    def renewed(self) -> bool:
        """It may have been revoked before its time: the next request asks for another one."""
        self._good_until = 0.0
        return True

    def _ask(self, extensions: Mapping[str, Any]) -> httpx.Response:
        """With the time limits of the request that needs the token."""
        grant = self._grant
        tls_with_it = grant.tls or TlsClient()
        form = {"grant_type": "client_credentials"} | ({"scope": grant.scope} if grant.scope else {})
        own = {"trace": extensions["trace"]} if "trace" in extensions else {}
        if tls_with_it.server_name:
            own["sni_hostname"] = tls_with_it.server_name
        try:
            context = tls.context(tls_with_it)
        except tls.TlsUnusable as error:
            raise AuthenticationUnusable(f"{self._where}: {in_token_tls(str(error))}") from error
        with httpx.Client(verify=context, trust_env=False, timeout=httpx.Timeout(**extensions["timeout"])) as client:
            return client.post(
                grant.token_url,
                data=form,
                auth=(grant.client_id, _secret(grant.client_secret_file)),
                headers={"Accept": "application/json"},
                extensions=own,
            )

    def _take(self, answer: httpx.Response) -> None:
        if answer.status_code in {429, *range(500, 600)}:
            raise httpx.ReadError(f"HTTP status {answer.status_code}")
        try:
            told = answer.raise_for_status().json()
            token = str(told["access_token"])
            lasts = float(told.get("expires_in", 300))
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise AuthenticationUnusable(f"{self._where} gave no token: HTTP status {answer.status_code}") from error
        self._token = _token(token, f"the answer of {self._where}")
        self._good_until = time.monotonic() + max(lasts - _EARLY_SECONDS, 0.0)
