"""The time limit of HTTP requests, by connections of its own."""

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import pytest

from clara_dicom_adapter.dicom.web_time_limit import TimeLimit


@dataclass
class Stream:
    """As httpcore tells of one."""

    connection: socket.socket

    def get_extra_info(self, name: str) -> socket.socket | None:
        return self.connection if name == "socket" else None


@pytest.fixture
def connected() -> Iterator[Callable[[TimeLimit], socket.socket]]:
    """Makes connections, and tells a limit of them; gives our end."""
    with ExitStack() as opened:

        def connect(limit: TimeLimit) -> socket.socket:
            ours, theirs = (opened.enter_context(each) for each in socket.socketpair())
            del theirs
            ours.settimeout(30)
            limit.trace("connection.connect_tcp.started", {})
            limit.trace("connection.connect_tcp.complete", {"return_value": Stream(ours)})
            return ours

        yield connect


def test_every_connection_is_cut_off_not_only_the_last(connected: Callable[[TimeLimit], socket.socket]) -> None:
    """A token server is asked over one of its own, while the service's is kept."""
    with TimeLimit(0.1) as limit:
        closed, *others = (connected(limit) for _ in range(3))
        closed.close()
        assert [each.recv(1) for each in others] == [b""] * 2


def test_one_that_is_made_when_the_time_is_over_is_cut_off_at_once(
    connected: Callable[[TimeLimit], socket.socket],
) -> None:
    with TimeLimit(0) as limit:
        assert [connected(limit).recv(1) for _ in range(2)] == [b""] * 2


def test_who_is_done_in_time_keeps_the_connection(connected: Callable[[TimeLimit], socket.socket]) -> None:
    with TimeLimit(30) as limit:
        ours = connected(limit)
    ours.setblocking(False)
    with pytest.raises(BlockingIOError):
        ours.recv(1)
