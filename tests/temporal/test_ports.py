"""One port on several addresses."""

import errno
import socket
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import pytest

from clara_dicom_adapter.temporal.ports import ReservedPort, bind, host_and_port

LOOPBACKS = ("127.0.0.1", "::1")


@contextmanager
def bound(hosts: Sequence[str], port: int = 0, *, listen: bool = True) -> Iterator[list[socket.socket]]:
    sockets = bind(hosts, port)
    try:
        for each in sockets if listen else ():
            each.listen()
        yield sockets
    finally:
        for each in sockets:
            each.close()


def ports(sockets: list[socket.socket]) -> set[int]:
    return {each.getsockname()[1] for each in sockets}


def reaches(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), 5).close()
    except ConnectionRefusedError:
        return False
    return True


def test_a_free_port_is_the_same_on_every_address() -> None:
    with bound((*LOOPBACKS, "127.0.0.2")) as sockets:
        (port,) = ports(sockets)
        assert all(reaches(host, port) for host in (*LOOPBACKS, "127.0.0.2"))


def test_a_port_that_is_taken_is_told_with_its_address() -> None:
    with bound(("::1",)) as taken:
        (port,) = ports(taken)
        with pytest.raises(OSError, match="in use") as raised:
            bind(LOOPBACKS, port)
        assert (raised.value.errno, raised.value.filename) == (errno.EADDRINUSE, f"[::1]:{port}")
        with bound(("127.0.0.1",), port):
            """What had been bound on the other address was given back."""


def test_an_address_that_is_not_ours_is_told() -> None:
    with pytest.raises(OSError, match="assign") as raised:
        bind(("127.0.0.1", "2001:db8::1"), 0)
    assert raised.value.filename.startswith("[2001:db8::1]:")


def test_a_free_port_is_free_on_every_address(monkeypatch: pytest.MonkeyPatch) -> None:
    """The first one that is offered is taken on the second address."""
    with bound(("::1",)) as taken:
        offered = iter([*ports(taken)])
        real = socket.socket.bind

        def offer(self: socket.socket, address: tuple[str, int]) -> None:
            real(self, (address[0], next(offered, 0)) if address[1] == 0 else address)

        monkeypatch.setattr(socket.socket, "bind", offer)
        with bound(LOOPBACKS) as sockets:
            assert len(ports(sockets)) == 1
            assert ports(sockets) != ports(taken)


def test_every_ipv6_address_takes_ipv4_too_unless_ipv4_has_its_own() -> None:
    with bound(("::",)) as sockets:
        (port,) = ports(sockets)
        assert reaches("127.0.0.1", port)
        assert reaches("::1", port)
    for hosts in (("0.0.0.0", "::"), ("::", "0.0.0.0")):
        with bound(hosts) as sockets:
            (port,) = ports(sockets)
            assert reaches("127.0.0.1", port)
            assert reaches("::1", port)
    with bound(("::", "127.0.0.2")) as sockets:
        (port,) = ports(sockets)
        assert reaches("127.0.0.2", port)
        assert not reaches("127.0.0.1", port)


def test_a_reserved_port_can_be_listened_on_again_and_again_on_every_address() -> None:
    reserved = ReservedPort(*LOOPBACKS)
    try:
        for _ in range(2):
            with bound(LOOPBACKS, reserved.port):
                assert all(reaches(host, reserved.port) for host in LOOPBACKS)
    finally:
        reserved.close()


@pytest.mark.parametrize(("host", "text"), [("127.0.0.1", "127.0.0.1:104"), ("::1", "[::1]:104"), ("pacs", "pacs:104")])
def test_an_ipv6_address_stands_in_brackets(host: str, text: str) -> None:
    assert host_and_port(host, 104) == text
