"""What an A-ASSOCIATE-RQ may cost, looked at before pynetdicom makes objects of it. No I/O.

A request of half a MiB can hold a hundred thousand items, each of which becomes several objects: many peers that send
such requests at the same time would take gigabytes. No request that makes sense has a tenth of the items allowed here.
"""

import struct
from typing import Final

LONGEST: Final = 512 * 1024
"""Bytes; 128 presentation contexts of 40 transfer syntaxes, with UIDs of 64 characters, are 350 KB."""
MOST_ITEMS: Final = 10_000
"""128 presentation contexts of 40 transfer syntaxes, and three items of user information for each, are 5,800."""

_ITEM: Final = struct.Struct(">BxH")  # PS3.8 table 9-12 and the following: type, length
_FIRST_ITEM_AT: Final = 74  # PS3.8 table 9-11
_INSIDE: Final = {0x20: 4, 0x21: 4, 0x50: 0}
"""Items that hold items, and where these begin: presentation contexts, and user information."""


def has_too_many_items(pdu: bytes | bytearray) -> bool:
    """Whether there are more items than any sensible request has; what else is wrong with it is not looked at."""
    return _count(pdu, _FIRST_ITEM_AT, len(pdu)) > MOST_ITEMS


def _count(pdu: bytes | bytearray, at: int, end: int) -> int:
    count = 0
    while at + _ITEM.size <= end and count <= MOST_ITEMS:
        kind, length = _ITEM.unpack_from(pdu, at)
        begin, at = at + _ITEM.size, at + _ITEM.size + length
        count += 1
        if kind in _INSIDE:
            count += _count(pdu, begin + _INSIDE[kind], min(at, end))
    return count
