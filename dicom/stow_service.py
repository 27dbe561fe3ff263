"""A DICOMweb service as it is spoken with: one request of STOW-RS at a time, and whether there was an answer to it."""

import math
import ssl
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Self

import httpx

from clara_dicom_adapter.dicom import stow_answer, stow_status, tls
from clara_dicom_adapter.dicom.requestor import TIME_IS_OVER, StoredObject, TimeLimits
from clara_dicom_adapter.dicom.stow_body import Body
from clara_dicom_adapter.dicom.tls import TlsClient
from clara_dicom_adapter.dicom.web_authentication import Authentication, in_token_tls
from clara_dicom_adapter.dicom.web_time_limit import TimeLimit

ACCEPTED: Final = "application/dicom+json"
"""What is asked for; not XML as well, because some services give that to whoever takes both."""


@dataclass(frozen=True, slots=True)
class WebPeer:
    """A DICOMweb service.

    Attributes:
        url: Its base, to which ``/studies`` is added.
        tls: Whom to trust and what to show; None: as for any other https.
    """

    name: str
    url: str
    authentication: Authentication | None = None
    tls: TlsClient | None = None


class NoAnswer(Exception):
    """Nothing was said of the objects of a request, and another attempt may help.

    Attributes:
        perhaps: Objects that the service may have stored; the others it has not.
        wait: Seconds that it asks us to wait for.
    """

    def __init__(self, reason: str, perhaps: Sequence[StoredObject] = (), wait: float = 0) -> None:
        super().__init__(reason)
        self.perhaps = perhaps
        self.wait = wait


class Service:
    """Connections to one service, for the length of a ``with`` block; raises ``TlsUnusable`` when it is made.

    Args:
        seconds: From now; then the request that is under way is broken off.
    """

    def __init__(self, peer: WebPeer, limits: TimeLimits, seconds: float = math.inf) -> None:
        self._peer = peer
        self._limits = limits
        self._until = time.monotonic() + seconds
        self._cut_off = TimeLimit(seconds)
        self._login = peer.authentication.login() if peer.authentication else None
        self._client = httpx.Client(
            auth=self._login,
            verify=tls.context(peer.tls or TlsClient()),
            trust_env=False,  # the service is in the hospital, never behind the proxy of the environment
        )

    def __enter__(self) -> Self:
        self._client.__enter__()
        self._cut_off.__enter__()
        return self

    def __exit__(self, *_: object) -> None:
        self._cut_off.__exit__()
        self._client.__exit__()

    def post(self, batch: Sequence[StoredObject]) -> httpx.Response:
        """Send a batch, once more when it is answered 401 and there is something else to say of us by then.

        Raises:
            NoAnswer: There was none, or none that says anything of the objects.
            Unreadable: An object of the batch cannot be read.
            AuthenticationUnusable: There is no secret, or no token.
        """
        answer = self._post(batch)
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._login is not None and self._login.renewed():
            answer = self._post(batch)
        return answer

    def _post(self, batch: Sequence[StoredObject]) -> httpx.Response:
        boundary = uuid.uuid4().hex
        server_name = self._peer.tls.server_name if self._peer.tls else None
        left = self._until - time.monotonic()
        body = Body(batch, boundary)
        try:
            answer = self._client.post(
                f"{self._peer.url.rstrip('/')}/studies",
                content=iter(body),
                headers={
                    "Content-Type": f'multipart/related; type="application/dicom"; boundary={boundary}',
                    "Content-Length": str(body.length),
                    "Accept": ACCEPTED,
                },
                timeout=httpx.Timeout(self._limits.response, connect=max(min(self._limits.connect, left), 0.001)),
                extensions={"trace": self._cut_off.trace} | ({"sni_hostname": server_name} if server_name else {}),
            )
        except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout) as error:
            raise NoAnswer(self._told_by_whom(f"cannot connect: {_words(error)}")) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            over = time.monotonic() >= self._until
            raise NoAnswer(TIME_IS_OVER if over else self._told_by_whom(_words(error)), body.begun) from error
        status = answer.status_code
        if stow_status.is_transient(status) and not _speaks_of_objects(answer):
            perhaps = body.begun if stow_status.may_have_stored(status, answer.headers) else ()
            raise NoAnswer(f"HTTP status {status}", perhaps, stow_status.retry_after(answer.headers))
        return answer

    def _told_by_whom(self, words: str) -> str:
        """The words of an error, with who failed when that is not the service itself."""
        asked = self._login.asked if self._login is not None else ""
        return f"{asked}: {in_token_tls(words)}" if asked else words


def _speaks_of_objects(answer: httpx.Response) -> bool:
    told = stow_answer.read(answer.content)
    return told is not None and bool(told.stored or told.failed)


def _words(error: Exception) -> str:
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ssl.SSLError):
            return tls.words(cause)
        cause = cause.__cause__ or cause.__context__
    if isinstance(error, httpx.TimeoutException):
        return "no answer in time"
    return str(error) or type(error).__name__
