"""A checkpoint at which pynetdicom's reactor really stands still while ``send_c_store`` and others await a response.

pynetdicom takes a reactor for paused that has passed its checkpoint and not looked yet; with a fast peer it then takes
the response itself, and the association dies (decision 0003). Tests that send with pynetdicom want none of that:
:func:`steadied` makes whoever pauses the reactor wait until it stands.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from pynetdicom import AE
from pynetdicom.association import Association

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
    """Every association that is requested meanwhile has such a checkpoint."""
    associate = AE.associate

    def steady(ae: AE, *arguments: Any, **named: Any) -> Association:
        association = associate(ae, *arguments, **named)
        association._reactor_checkpoint = Checkpoint(association)
        return association

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AE, "associate", steady)
        yield
