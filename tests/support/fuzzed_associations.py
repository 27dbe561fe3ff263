"""Changed associations against a running listener, one after the other; then it serves whoever is good, as before.

A listener that did not stand them is replaced, so that what is found with one example is not found with the next.
"""

import socket
import struct
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final, Self

from clara_dicom_adapter.configuration.settings import Durability
from clara_dicom_adapter.receiver import accepting
from clara_dicom_adapter.spool.segments import MOST_TAKEN
from support.fuzzed_listener import ANSWER_SECONDS, ListenerUnderTest, listener_under_test
from support.fuzzed_messages import Figures, complete_in
from support.mutations import Association
from support.receiver_wire import association_request, store_message
from support.receiving import LOOPBACK
from support.recordings import P_DATA

_SIZE: Final = 20_000
"""Of the data set of a good instance."""


class Listeners:
    """The listener under test, and the next one when that has failed."""

    def __init__(self, root: Path, durability: Durability) -> None:
        self.sealed = 0
        """Instances so far that were received into segments and prepared files."""
        self._root = root
        self._durability = durability
        self._started = 0
        self._stack = ExitStack()
        self._listener: ListenerUnderTest | None = None
        self._idle = (0, 0)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def pid(self) -> int:
        """Of the listener's process."""
        return self._current().process.pid

    def stop(self) -> int:
        """Have it end in order; its exit status."""
        return self._current().stop()

    def _current(self) -> ListenerUnderTest:
        """One that has stood everything so far."""
        if self._listener is None:
            self._started += 1
            root = self._root / str(self._started)
            self._listener = self._stack.enter_context(listener_under_test(root, self._durability))
            for size in (_SIZE, 200_000):  # it keeps open what it has once needed for a segment, and for a file
                _good_association(self._listener, size)
            self._idle = self._listener.threads_and_files()
        return self._listener

    def stand(self, several: list[Association], figures: Figures) -> None:
        """Play associations; raises AssertionError or OSError for what was not stood."""
        listener = self._current()
        before = listener.sealed
        try:
            for association in several:
                figures.count(*_play(listener, association))
            listener.prepare()
            _look(listener, self._idle)
        except Exception as error:
            error.add_note(f"with {several}")  # it may not happen again, and then hypothesis does not tell
            self._listener = None
            self._stack.close()
            raise
        self.sealed += listener.sealed - before


def _play(listener: ListenerUnderTest, association: Association) -> tuple[str, int]:
    """How the association ended, and how many instances were stored."""
    request, stream = association.request, association.stream
    answer = _answer(listener.port, request, stream.data, ahead=association.ahead)
    assert listener.process.poll() is None, "the process has ended"
    if answer[:1] != b"\2":
        return {b"\3": "rejected", b"\7": "aborted at once", b"": "closed at once"}[answer[:1]], 0
    ended = listener.ended(request)
    stored = listener.taken(ended.association.association_id)
    assert ended.association.instances == len(stored)
    sent = iter(complete_in(stream.data))
    assert all(one in sent for one in stored), "what was stored is not what was sent, in its order"
    missing = Counter(_successes(answer)) - Counter(uid for uid, _ in stored)
    assert not missing, "Success for what is not there"
    return ended.outcome.value, len(stored)


def _answer(port: int, request: bytes, data: bytes, *, ahead: bool = False) -> bytes:
    """Everything that comes back until the listener lets go of the connection.

    Args:
        ahead: Do not wait for the answer to the request, which breaks the protocol.
    """
    answer = b""
    with socket.create_connection((LOOPBACK, port), ANSWER_SECONDS) as peer, suppress(ConnectionError):
        with suppress(ConnectionError):
            peer.sendall(request)
            if _is_one_pdu(request) and not ahead:
                answer = peer.recv(65536)
            peer.sendall(data)
            with suppress(OSError):  # ENOTCONN: reset meanwhile, which is no ConnectionError
                peer.shutdown(socket.SHUT_WR)
        while came := peer.recv(65536):
            answer += came
    return answer


def _is_one_pdu(request: bytes) -> bool:
    """Whether there will be an answer to the request alone; one that lacks bytes, or has some more, is waited with."""
    return len(request) >= 6 and 6 + struct.unpack_from(">I", request, 2)[0] == len(request)


def _successes(answer: bytes) -> Iterator[str]:
    """SOP instance of every C-STORE-RSP with status 0000."""
    at = 0
    while at + 6 <= len(answer):
        kind, length = struct.unpack_from(">BxI", answer, at)
        body, at = answer[at + 12 : at + 6 + length], at + 6 + length
        elements: dict[int, bytes] = {}
        while kind == P_DATA and len(body) >= 8:
            _, element, size = struct.unpack_from("<HHI", body)
            elements[element], body = body[8 : 8 + size], body[8 + size :]
        if elements.get(0x0100) == b"\1\x80" and elements.get(0x0900) == b"\0\0":
            yield elements[0x1000].rstrip(b"\0").decode()


def _look(listener: ListenerUnderTest, idle: tuple[int, int]) -> None:
    """It serves whoever is good, has complained of nothing, and has let go of everything."""
    _good_association(listener)
    listener.must_not_have_complained()
    listener.must_have_named_everything()

    def has_let_go() -> bool:
        threads, files = listener.threads_and_files()
        # one thread waited, and one segment was taken, from the beginning
        return threads < idle[0] + accepting._MOST_WAITING and files < idle[1] + MOST_TAKEN

    _until(has_let_go, "it keeps threads or files")


def _good_association(listener: ListenerUnderTest, size: int = _SIZE) -> None:
    request = association_request(b"CT1")
    answer = _answer(listener.port, request, store_message("1.2.3", size) + b"\5\0\0\0\0\4\0\0\0\0")
    assert list(_successes(answer)) == ["1.2.3"]
    assert answer[-10:-9] == b"\6", "not released"
    assert listener.taken(listener.ended(request).association.association_id) == [("1.2.3", bytes(size))]


def _until(condition: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + ANSWER_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.02)
