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
from typing import Final

import httpx

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
    """A token that we ask a server for."""

    token_url: str
    client_id: str
    client_secret_file: Path
    scope: str = ""

    def login(self) -> Login:
        return _ClientCredentials(self)


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
    """Asks for a token when there is none that is still good."""

    requires_response_body = True

    def __init__(self, grant: ClientCredentials) -> None:
        self._grant = grant
        self._where = f"the token server {grant.token_url}"
        self._token = ""
        self._good_until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if time.monotonic() >= self._good_until:
            self.asked = self._where
            answer = yield self._request(request.extensions["timeout"])
            self._take(answer)
        self.asked = ""
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request

    def renewed(self) -> bool:
        """It may have been revoked before its time: the next request asks for another one."""
        self._good_until = 0.0
        return True

    def _request(self, timeout: Mapping[str, float | None]) -> httpx.Request:
        """The client adds its time limits to what it makes itself, not to this."""
        grant = self._grant
        form = {"grant_type": "client_credentials"} | ({"scope": grant.scope} if grant.scope else {})
        request = httpx.Request(
            "POST",
            grant.token_url,
            data=form,
            headers={"Accept": "application/json"},
            extensions={"timeout": timeout},
        )
        login = httpx.BasicAuth(grant.client_id, _secret(grant.client_secret_file))
        return next(login.auth_flow(request))

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
