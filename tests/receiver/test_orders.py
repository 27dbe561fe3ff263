"""Every order in which the pieces of messages can come, up to four: which are stored, and how it ends.

What is expected is worked out by a few lines that know nothing of the receiver.
"""

from collections.abc import Sequence
from itertools import product, repeat

import pytest
from support.fuzzed_messages import Told, play
from support.receiver_wire import CT, VERIFICATION, command_set, element, p_data, pdv, store_command

from clara_dicom_adapter.receiver.dimse import AcceptedContext

CONTEXTS = {
    1: AcceptedContext(CT, "1.2.840.10008.1.2"),
    3: AcceptedContext(CT, "1.2.840.10008.1.2"),
    5: AcceptedContext(VERIFICATION, "1.2.840.10008.1.2"),
}
ECHO = command_set(
    element(0x0002, VERIFICATION.encode()),
    element(0x0100, b"\x30\0"),
    element(0x0110, b"\7\0"),
    element(0x0800, b"\1\1"),
)
CANCEL = command_set(element(0x0100, b"\xff\x0f"), element(0x0120, b"\1\0"), element(0x0800, b"\1\1"))
RELEASE = b"\5\0\0\0\0\4\0\0\0\0"
CUT = 12  # behind (0000,0000)

PIECES = {
    "store": (1, 3),
    "store on 3": (3, 3),
    "store without data set": (1, 3),
    "store on a context refused": (7, 3),
    "first half of store": (1, 1),
    "second half of store": (1, 3),
    "data": (1, 0),
    "last data": (1, 2),
    "last data on 3": (3, 2),
    "cancel": (1, 3),
    "echo": (5, 3),
    "release": (0, 0),
}
"""Presentation context and message control header."""
UNEXPECTED = "UNEXPECTED_PDU_PARAMETER"
INVALID = "INVALID_PDU_PARAMETER_VALUE"


def payload(piece: str, number: int) -> bytes:
    """What is in a piece at a place."""
    if "data" in piece and not piece.startswith("store"):
        return b"%d" % number
    if piece in {"cancel", "echo"}:
        return CANCEL if piece == "cancel" else ECHO
    command = store_command(f"1.2.{number}", data_set=piece != "store without data set")
    return {"first half of store": command[:CUT], "second half of store": command[CUT:]}.get(piece, command)


def framed(pieces: Sequence[str], together: bool) -> bytes:
    """As PDUs: one for each piece, or as few as there can be."""
    stream, pdvs = b"", list[bytes]()
    for number, piece in enumerate(pieces):
        if piece == "release" or (pdvs and not together):
            stream, pdvs = stream + (p_data(*pdvs) if pdvs else b""), []
        if piece == "release":
            stream += RELEASE
        else:
            pdvs.append(pdv(*PIECES[piece], payload(piece, number)))
    return stream + (p_data(*pdvs) if pdvs else b"")


def expected(pieces: Sequence[str]) -> Told:
    """What is stored, and how it begins what it ends with."""
    stored: list[tuple[str, bytes]] = []
    command: list[str] = []
    receiving: tuple[int, str, bytes] | None = None  # context, SOP instance, data so far
    for number, piece in enumerate(pieces):
        context, control = PIECES[piece]
        if piece == "release":
            return Told("PDU 5", stored)
        if command and (not control & 1 or context != 1):
            return Told(UNEXPECTED, stored)
        if not control & 1:
            if receiving is None or receiving[0] != context:
                return Told(UNEXPECTED, stored)
            receiving = (*receiving[:2], receiving[2] + payload(piece, number))
            if control & 2:
                stored, receiving = [*stored, receiving[1:]], None
            continue
        command.append(piece)
        if not control & 2:
            continue
        whole, command = command, []
        if receiving is not None:
            return Told(UNEXPECTED, stored)
        if context not in CONTEXTS:
            return Told(INVALID, stored)
        # elements must not stand there twice; only the second half may follow a first, once
        if whole not in ([piece], ["first half of store", "second half of store"]):
            return Told("senseless", stored)
        if piece == "store without data set":
            stored = [*stored, (f"1.2.{number}", b"")]
        elif "store" in piece:
            receiving = context, f"1.2.{number}", b""
    return Told("between PDUs", stored)


@pytest.mark.parametrize("together", [False, True], ids=["a PDU for each", "in few PDUs"])
@pytest.mark.parametrize("length", [1, 2, 3, 4])
def test_any_order(length: int, together: bool) -> None:
    endings = set[str]()
    for pieces in product(PIECES, repeat=length):
        stream = framed(pieces, together)
        told = play(stream, repeat(len(stream) + 1), CONTEXTS, 4096)
        wanted = expected(pieces)
        assert told.stored == wanted.stored, pieces
        assert told.ending.startswith(wanted.ending), pieces
        endings.add(wanted.ending)
    assert endings >= {"between PDUs", "PDU 5", UNEXPECTED, INVALID}
