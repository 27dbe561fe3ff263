"""TCP ports that stay ours while the process that listens on them comes and goes."""

import socket


class ReservedPort:
    """A port, kept from everybody else without being listened on.

    Linux lets a second socket bind the same port when both have SO_REUSEADDR and none listens yet, and never picks a
    bound port for an outgoing connection. So the part that is told this number can bind it, today and after each
    restart, and nobody gets it by chance meanwhile. Every server that the adapter runs sets SO_REUSEADDR.
    """

    def __init__(self, host: str = "127.0.0.1", port: int = 0) -> None:
        """Take the port, or any free one for 0; OSError when somebody listens on it."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._socket = socket.socket(family, socket.SOCK_STREAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            self._socket.bind((host, port))
        except OSError:
            self._socket.close()
            raise
        self.port: int = self._socket.getsockname()[1]

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()
