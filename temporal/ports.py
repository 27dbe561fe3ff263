"""TCP ports: one port on several addresses, and ports that stay ours while the process that listens comes and goes."""

import errno
import socket
from collections.abc import Sequence
from typing import Any, Final

_ATTEMPTS: Final = 50
"""A port that is free on one address is rarely taken on another."""


class ReservedPort:
    """A port, kept from everybody else without being listened on.

    Linux lets a second socket bind the same port when both have SO_REUSEADDR and none listens yet, and never picks a
    bound port for an outgoing connection. So the part that is told this number can bind it, today and after each
    restart, and nobody gets it by chance meanwhile. Every server that the adapter runs sets SO_REUSEADDR.
    """

    def __init__(self, *hosts: str, port: int = 0) -> None:
        """Take the port on each of the addresses, or one that is free on all of them for 0; raises as :func:`bind`.

        Args:
            hosts: None: IPv4's loopback.
        """
        self._sockets = bind(hosts or ("127.0.0.1",), port)
        self.port: int = self._sockets[0].getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        for each in self._sockets:
            each.close()


def bind(hosts: Sequence[str], port: int) -> list[socket.socket]:
    """A socket for each address, all bound to one port, with 0 to one that is free on all of them; none listens yet.

    ``::`` takes IPv4 peers too, unless an IPv4 address is among the others.

    Raises:
        OSError: The port cannot be had on one of the addresses, which its ``filename`` tells.
    """
    for left in reversed(range(1 if port else _ATTEMPTS)):
        try:
            return _bind_all(hosts, port)
        except OSError as error:
            if not left or error.errno != errno.EADDRINUSE:
                raise
    raise AssertionError("the last attempt returns or raises")


def about_address(error: OSError, host: str, port: int) -> OSError:
    """The error, telling which address it is about."""
    return OSError(error.errno, error.strerror, host_and_port(host, port))


def host_and_port(host: str, port: int) -> str:
    """As it is written in URLs: an IPv6 address stands in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _bind_all(hosts: Sequence[str], port: int) -> list[socket.socket]:
    ipv6_alone = any(":" not in host for host in hosts)
    bound: list[socket.socket] = []
    try:
        for host in hosts:
            wanted = bound[0].getsockname()[1] if bound else port
            try:
                bound.append(_bind(host, wanted, ipv6_alone=ipv6_alone, free=not port))
            except OSError as error:
                raise about_address(error, host, wanted) from error
    except OSError:
        for each in bound:
            each.close()
        raise
    return bound


def _bind(host: str, port: int, *, ipv6_alone: bool, free: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    address: Any = socket.getaddrinfo(host, port, family, socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0][4]
    bound = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, ipv6_alone)
        # before binding it would let us have a port that somebody else has reserved in the same way
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, not free)
        bound.bind(address)
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
    except OSError:
        bound.close()
        raise
    return bound
