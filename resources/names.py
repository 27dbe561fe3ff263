"""Names of resources made by REST and command line: an entity's own where Kubernetes takes it, else one like it.

A name is at most 63 characters of a DNS subdomain (RFC 1123); the definitions ask for the same.
"""

import hashlib
import re
from collections.abc import Iterator
from typing import Final

LONGEST: Final = 63
_LABEL: Final = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"
_NAME: Final = re.compile(rf"{_LABEL}(\.{_LABEL})*")
_DIGITS: Final = 8


def candidates(key: str) -> Iterator[str]:
    """Names to try in turn; the last one is nobody else's."""
    lowered = key.lower()
    if len(lowered) <= LONGEST and _NAME.fullmatch(lowered):
        yield lowered
    digest = hashlib.sha256(key.encode()).hexdigest()[:_DIGITS]
    like = re.sub(r"[^a-z0-9]+", "-", lowered)[: LONGEST - _DIGITS - 1].strip("-")
    yield f"{like}-{digest}" if like else f"x-{digest}"
