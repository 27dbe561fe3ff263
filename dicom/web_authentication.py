"""How a DICOMweb service is told who we are: HTTP Basic, a bearer token, OAuth 2.0 client credentials (RFC 6749, 4.4).

Secrets are in files, read anew for each use, so that they are in no database and can be renewed without a restart.
"""

import time
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import httpx

from clara_dicom_adapter.errors import AuthenticationUnusable

_EARLY_SECONDS: Final = 30.0
"""A token is renewed this long before it ends, so that it does not end on its way."""


def _secret(path: Path) -> str:
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError) as error:
        words = error.strerror if isinstance(error, OSError) else "it is no text"
        raise AuthenticationUnusable(f"{path} cannot be read: {words}") from error


@dataclass(frozen=True)
class Basic:
    """User and password (RFC 7617)."""

    user: str
    password_file: Path

    def as_httpx(self) -> httpx.Auth:
        return httpx.BasicAuth(self.user, _secret(self.password_file))


@dataclass(frozen=True)
class Bearer:
    """A token that somebody else renews (RFC 6750)."""

    token_file: Path

    def as_httpx(self) -> httpx.Auth:
        return _Bearer(_secret(self.token_file))


@dataclass(frozen=True)
class ClientCredentials:
    """A token that we ask a server for."""

    token_url: str
    client_id: str
    client_secret_file: Path
    scope: str = ""

    def as_httpx(self) -> httpx.Auth:
        return _ClientCredentials(self)


Authentication = Basic | Bearer | ClientCredentials


class _Bearer(httpx.Auth):
    def __init__(self, token: str) -> None:
        self._token = token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        request.headers["Authorization"] = f"Bearer {self._token}"
        yield request


class _ClientCredentials(httpx.Auth):
    """Asks for a token when there is none that is still good."""

    requires_response_body = True

    def __init__(self, grant: ClientCredentials) -> None:
        self._grant = grant
        self._token = ""
        self._good_until = 0.0

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        if time.monotonic() >= self._good_until:
            answer = yield self._request()
            self._take(answer)
        request.headers["Authorization"] = f"Bearer {self._token}"
        answer = yield request
        if answer.status_code == httpx.codes.UNAUTHORIZED:
            self._good_until = 0.0  # revoked before its time: the next attempt asks for another one

    def _request(self) -> httpx.Request:
        grant = self._grant
        form = {"grant_type": "client_credentials"} | ({"scope": grant.scope} if grant.scope else {})
        request = httpx.Request("POST", grant.token_url, data=form, headers={"Accept": "application/json"})
        login = httpx.BasicAuth(grant.client_id, _secret(grant.client_secret_file))
        return next(login.auth_flow(request))

    def _take(self, answer: httpx.Response) -> None:
        where = f"the token server {self._grant.token_url}"
        if answer.status_code in {429, *range(500, 600)}:
            raise httpx.ReadError(f"{where} answered {answer.status_code}")
        try:
            told = answer.raise_for_status().json()
            self._token = str(told["access_token"])
            lasts = float(told.get("expires_in", 300))
        except (httpx.HTTPStatusError, ValueError, KeyError, TypeError) as error:
            raise AuthenticationUnusable(f"{where} gave no token: HTTP status {answer.status_code}") from error
        self._good_until = time.monotonic() + max(lasts - _EARLY_SECONDS, 0.0)
