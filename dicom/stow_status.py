"""What the HTTP status of an answer to STOW-RS says of the request as a whole. No I/O.

PS3.18 table 10.5.3-1 gives a meaning to 200, 202, 400, 409 and 415: all, some or none of the instances are stored. The
others mean what HTTP says, and that is seldom a word of what was stored: a service that fails in the middle of a
request keeps what it has stored of it, and a gateway does not know.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

_TOO_SOON: Final = frozenset({425, 429})
"""Too Early (RFC 8470, 5.2), Too Many Requests (RFC 6585, 4): refused before anything was done."""
_REQUEST_TIMEOUT: Final = 408
_UNAVAILABLE: Final = 503
_FINAL: Final = frozenset({501, 505, 511})
"""Statuses of a server that any other request would get as well, and of which none has been worked on."""
_HOPELESS: Final = frozenset({401, 403, 404, 405})


def is_transient(status: int) -> bool:
    """Whether another attempt may help."""
    return status in _TOO_SOON or status == _REQUEST_TIMEOUT or (500 <= status < 600 and status not in _FINAL)


def may_have_stored(status: int, headers: Mapping[str, str]) -> bool:
    """Whether objects may have been stored before a transient status was answered.

    503 with a Retry-After is the word of one who has turned the request away (RFC 9110, 15.6.4). Without it, some
    gateways mean a connection that broke after they had passed the request on.
    """
    turned_away = status in _TOO_SOON or (status == _UNAVAILABLE and "retry-after" in headers)
    return not turned_away


def refuses(status: int) -> bool:
    """Whether what the answer does not speak of is not stored (PS3.18 table 10.5.3-1: 400, 409, 415).

    Then the status says so, whatever the body is: nothing, a page, a text of the service's own, an empty dataset.
    """
    return (300 <= status < 500 and status != _REQUEST_TIMEOUT) or status in _FINAL


def hopeless(status: int) -> str:
    """What to look at when every other request would get this status as well; else empty."""
    if status not in _HOPELESS:
        return ""
    return "its authentication" if status in {401, 403} else "its url"


def retry_after(headers: Mapping[str, str], now: datetime | None = None) -> float:
    """Seconds to wait for, as the answer asks (RFC 9110, 10.2.3); 0 when it does not, or cannot be understood."""
    text = headers.get("retry-after", "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        until = parsedate_to_datetime(text)
    except ValueError:
        return 0.0
    until = until if until.tzinfo else until.replace(tzinfo=UTC)
    return max((until - (now or datetime.now(UTC))).total_seconds(), 0.0)
