"""Texts of peers and services as both databases can store them. No database is needed for it."""

import re
from typing import Final

_LONGEST_TEXT: Final = 2000
_UNFIT: Final = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\ud800-\udfff]")


def plain(text: str) -> str:
    """A text of a peer's or a service's, as both databases can store it and a terminal can show it: a ``?`` stands for
    each control character but line ends and tabs, and for each half of a surrogate pair."""
    return _UNFIT.sub("?", text)


def bounded(text: str, longest: int = _LONGEST_TEXT) -> str:
    """A plain text, of so many characters at most: whoever says it may make it as long as he likes."""
    return plain(text[:longest])
