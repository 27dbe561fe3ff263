"""Association requests that are nothing but large: looked at before anything is made of them."""

import socket
import struct
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.receiver_wire import association_request, read_pdu
from support.receiving import LOOPBACK, receiving

from clara_dicom_adapter.receiver import negotiation
from clara_dicom_adapter.receiver.negotiation import has_too_many_items

FIXED = association_request(b"CT1")[6:74]
APPLICATION_CONTEXT = b"1.2.840.10008.3.1.1.1"
UID = b"1.2.826.0.1.3680043.8.498.".ljust(64, b"9")


def item(kind: int, body: bytes) -> bytes:
    return struct.pack(">BxH", kind, len(body)) + body


def context(number: int, syntaxes: int, uid: bytes = UID) -> bytes:
    return item(0x20, bytes((number, 0, 0, 0)) + item(0x30, uid) + item(0x40, uid) * syntaxes)


def request(*items: bytes) -> bytes:
    body = FIXED + item(0x10, APPLICATION_CONTEXT) + b"".join(items)
    return struct.pack(">BxI", 1, len(body)) + body


ROLE = item(0x54, struct.pack(">H", 3) + b"1.2\1\1")
HOSTILE = {
    "contexts": request(*[context(1, 1, b"1")] * 20_000),
    "transfer syntaxes": request(*[context(1, 12_000, b"1")] * 8),
    "items without a meaning": request(*[item(0x99, b"")] * 100_000),
    "user information": request(context(1, 1), *[item(0x50, ROLE * 5000)] * 8),
}


def test_the_largest_sensible_request_is_taken() -> None:
    """Every context id, all transfer syntaxes there are and the longest UIDs; a role and an extension for each."""
    extension = item(0x56, struct.pack(">H", 64) + UID + bytes(6))
    largest = request(
        *(context(2 * number + 1, 40) for number in range(128)),
        item(0x50, item(0x51, struct.pack(">I", 16384)) + (ROLE + extension) * 128),
    )
    assert not has_too_many_items(largest)
    assert len(largest) < negotiation.LONGEST


@pytest.mark.parametrize("said", HOSTILE.values(), ids=HOSTILE.keys())
def test_more_items_than_make_sense_are_aborted_and_not_decoded(tmp_path: Path, said: bytes) -> None:
    assert has_too_many_items(said)
    assert len(said) <= negotiation.LONGEST
    with (
        receiving(tmp_path, reject_unknown_sources=False) as receiver,
        socket.create_connection((LOOPBACK, receiver.port), 20) as peer,
    ):
        tracemalloc.start()
        try:
            peer.sendall(said)
            assert read_pdu(peer)[0] == 7
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 3_000_000, "a few times the request; its objects would take more than 10 MB"


@given(st.binary(max_size=300), st.integers(0, 300))
def test_any_bytes_are_looked_through(data: bytes, at: int) -> None:
    whole = bytearray(request(context(1, 2), item(0x50, ROLE)))
    whole[at:at] = data
    assert not has_too_many_items(whole)
    assert not has_too_many_items(whole[: at + 1])
