"""Keeps other people's web pages out: until there is authentication, being on this machine is the only credential.

A page in a browser here could otherwise post to us (it needs no permission for that), or make its own host name point
to the loopback address and then read from us too (DNS rebinding).
"""

from ipaddress import ip_address
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from clara_dicom_adapter.api import problems

_SAFE = frozenset({"GET", "HEAD", "OPTIONS"})


class Guard:
    """Middleware that refuses what a foreign page makes a browser send.

    Args:
        loopback: We listen on loopback only, so that nobody reaches us rightfully under a domain name.
    """

    def __init__(self, app: ASGIApp, *, loopback: bool) -> None:
        self._app = app
        self._loopback = loopback

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            reason = self._refuses(scope["method"], Headers(scope=scope))
            if reason:
                await problems.of(problems.ForeignRequest(reason))(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _refuses(self, method: str, headers: Headers) -> str:
        host = headers.get("host", "")
        if self._loopback and not _is_local(urlsplit(f"//{host}").hostname or ""):
            return "This interface is reached under localhost or an IP address only."
        origin = headers.get("origin")
        if method not in _SAFE and origin is not None and urlsplit(origin).netloc != host:
            return "Requests of other web pages are not accepted."
        return ""


def _is_local(name: str) -> bool:
    if name == "localhost" or not name:
        return True
    try:
        ip_address(name)
    except ValueError:
        return False
    return True
