"""What pynetdicom as a requestor needs to get on with fast peers.

*Responses.* It takes a reactor for paused that has passed its checkpoint and not looked yet; with a fast peer it then
takes the response itself, and the association dies (decision 0003). Here whoever pauses the reactor waits until it
stands.

*Rejections.* It looks whether the connection was made only after its request is sent. A fast rejection has closed the
connection by then, and is taken for no connection. Here a rejection waits until somebody waits for the answer.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association
from pynetdicom.dul import DULServiceProvider
from pynetdicom.fsm import ACTIONS

_REJECTED = "AE-4"
"""What a requestor does when it is rejected, PS3.8 table 9-6."""
_PATIENCE_SECONDS = 10
_LOOK_AGAIN_SECONDS = 0.05
"""A reactor that ends tells nobody."""


class Checkpoint(threading.Event):
    """Of one association's reactor."""

    def __init__(self, association: Association) -> None:
        super().__init__()
        self._association = association
        self._changed = threading.Condition()
        self._is_open = True
        self._stands = False

    def is_set(self) -> bool:
        return self._is_open

    def set(self) -> None:
        with self._changed:
            self._is_open = True
            self._changed.notify_all()

    def clear(self) -> None:
        """Close it, and wait until the reactor stands before it."""
        with self._changed:
            self._is_open = False
            while not self._stands and self._association.is_alive() and self._is_another():
                self._changed.wait(_LOOK_AGAIN_SECONDS)

    def wait(self, timeout: float | None = None) -> bool:
        with self._changed:
            self._stands = not self._is_open
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._is_open, timeout)
            self._stands = False
        return self._is_open

    def _is_another(self) -> bool:
        return threading.current_thread() is not self._association


@contextmanager
def steadied() -> Iterator[None]:
    """For every association that is requested meanwhile."""
    associate = AE.associate
    receive_pdu = DULServiceProvider.receive_pdu
    description, act, *rest = ACTIONS[_REJECTED]
    awaited = threading.Condition()
    awaiting: set[int] = set()

    def receive(provider: DULServiceProvider, wait: bool = False, timeout: float | None = None) -> Any:
        with awaited:
            awaiting.add(id(provider))
            awaited.notify_all()
        return receive_pdu(provider, wait, timeout)

    def reject(provider: DULServiceProvider) -> str:
        with awaited:
            awaited.wait_for(lambda: id(provider) in awaiting, _PATIENCE_SECONDS)
            awaiting.discard(id(provider))
        return act(provider)

    def steady(ae: AE, *arguments: Any, **named: Any) -> Association:
        association = associate(ae, *arguments, **named)
        association._reactor_checkpoint = Checkpoint(association)
        return association

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AE, "associate", steady)
        patch.setattr(DULServiceProvider, "receive_pdu", receive)
        patch.setitem(ACTIONS, _REJECTED, (description, reject, *rest))
        yield
