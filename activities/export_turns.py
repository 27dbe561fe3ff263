"""Whose turn it is to have an association: so many over all destinations, so many per destination, in the order asked.

Who waits holds no thread. One whose destination is full is passed over, so that the queue of a slow destination keeps
nobody from another one.
"""

import asyncio
from collections import Counter
from dataclasses import dataclass


@dataclass(eq=False, slots=True)
class _Ticket:
    destination: str
    limit: int
    granted: asyncio.Future[None]


class Turns:
    """The outbound associations of one process; all methods but :meth:`awaited` belong to its event loop."""

    def __init__(self, maximum: int) -> None:
        self._free = maximum
        self._used: Counter[str] = Counter()
        self._queue: list[_Ticket] = []

    async def take(self, destination: str, limit: int, wanted: int) -> int:
        """Wait for one association, and return how many are granted: further ones only while nobody waits for them.

        Args:
            limit: How many this destination may have at once.
            wanted: How many there is use for.
        """
        ticket = _Ticket(destination, limit, asyncio.get_running_loop().create_future())
        self._queue.append(ticket)
        self._grant()
        try:
            await ticket.granted
        except asyncio.CancelledError:
            if ticket in self._queue:
                self._queue.remove(ticket)
            elif ticket.granted.done() and not ticket.granted.cancelled():
                self.give_back(destination, 1)  # granted just before
            raise
        further = 0
        while 1 + further < wanted and self._has_room(ticket) and not self._queue:
            self._use(destination)
            further += 1
        return 1 + further

    def give_back(self, destination: str, count: int) -> None:
        """These associations have ended."""
        self._free += count
        self._used[destination] -= count
        self._grant()

    def awaited(self, destination: str) -> bool:
        """Whether somebody waits who could go on if an association to this destination ended; from any thread."""
        return any(
            ticket.destination == destination or (self._free == 0 and self._used[ticket.destination] < ticket.limit)
            for ticket in tuple(self._queue)
        )

    def _grant(self) -> None:
        for ticket in tuple(self._queue):
            if self._has_room(ticket):
                self._queue.remove(ticket)
                if not ticket.granted.cancelled():
                    self._use(ticket.destination)
                    ticket.granted.set_result(None)

    def _has_room(self, ticket: _Ticket) -> bool:
        return self._free > 0 and self._used[ticket.destination] < ticket.limit

    def _use(self, destination: str) -> None:
        self._free -= 1
        self._used[destination] += 1
