"""Senders of the demo: like a modality, they send what had no answer again until everything is acknowledged."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from clara_dicom_adapter.dicom.part10 import read_meta
from clara_dicom_adapter.dicom.sender import ObjectResult, Peer, SendSettings, TimeLimits, send
from clara_dicom_adapter.errors import AdapterError, TransientError

CALLING_AE_TITLE: Final = "CT1"
PATIENCE_SECONDS: Final = 90.0
AGAIN_SECONDS: Final = 0.2
"""Between two attempts to reach a receiver that is being started again."""


@dataclass(frozen=True)
class Stack:
    """Files that go to one AE title over one association after the other.

    Attributes:
        what: For the report.
    """

    ae_title: str
    what: str
    files: Sequence[Path]


@dataclass
class Sent:
    """What has become of a stack.

    Attributes:
        acknowledged: SOP Instance UIDs that were answered 0000.
        instances: How many files were acknowledged; more than UIDs when some have the same.
        doubtful: Those that were sent again because their first answer was lost with the association.
    """

    stack: Stack
    acknowledged: set[str] = field(default_factory=set[str])
    instances: int = 0
    bytes: int = 0
    associations: int = 0
    seconds: float = 0.0
    doubtful: set[str] = field(default_factory=set[str])
    refused: dict[str, str] = field(default_factory=dict[str, str])


class Modality:
    """Sends stacks, each in a thread of its own; progress may be awaited."""

    def __init__(self, address: Callable[[], tuple[str, int]]) -> None:
        """Args:
        address: Where the receiver is now.
        """
        self._address = address
        self._changed = threading.Condition()
        self._stopped = False

    def send(self, sent: Sent) -> None:
        """Send until every file has a final answer; raises TransientError when that takes too long."""
        stack = sent.stack
        uids = [read_meta(path).sop_instance_uid for path in stack.files]
        open_files = list(range(len(stack.files)))
        started = time.monotonic()
        while open_files and not self._stopped:
            if time.monotonic() - started > PATIENCE_SECONDS:
                raise TransientError(f"{len(open_files)} instances for {stack.ae_title} were never acknowledged")
            done = self._attempt(sent, [stack.files[index] for index in open_files], open_files, uids)
            left = [index for index in open_files if index not in done]
            if left and len(left) < len(open_files):
                sent.doubtful.add(uids[left[0]])  # it may have arrived, only its answer did not
            if left and len(left) == len(open_files):
                time.sleep(AGAIN_SECONDS)
            open_files = left
        sent.seconds = time.monotonic() - started

    def _attempt(self, sent: Sent, files: Sequence[Path], indexes: Sequence[int], uids: Sequence[str]) -> set[int]:
        """One association; places of the files that have a final answer."""
        done: set[int] = set()

        def note(result: ObjectResult) -> None:
            index = indexes[result.index]
            with self._changed:
                if result.delivered:
                    done.add(index)
                    sent.acknowledged.add(uids[index])
                    sent.instances += 1
                    sent.bytes += result.bytes
                elif result.status is not None or result.verdict in {"context-refused", "unreadable"}:
                    done.add(index)
                    sent.refused[uids[index]] = result.reason
                self._changed.notify_all()

        limits = TimeLimits(connect=5, association=15, response=30)
        settings = SendSettings(CALLING_AE_TITLE, limits, retries=0, retry_delay=0)
        try:
            host, port = self._address()
            sent.associations += send(files, Peer(sent.stack.ae_title, host, port), settings, note).associations
        except (AdapterError, KeyError):
            return done  # the receiver is being started again
        return done

    @contextmanager
    def sending(self, stacks: Sequence[Sent]) -> Iterator[None]:
        """Send several side by side; leaving waits for all, and raises what went wrong."""
        problems: list[BaseException] = []

        def work(sent: Sent) -> None:
            try:
                self.send(sent)
            except BaseException as error:
                problems.append(error)

        threads = [threading.Thread(target=work, args=(sent,), daemon=True) for sent in stacks]
        for thread in threads:
            thread.start()
        try:
            yield
        except BaseException:
            self._stopped = True
            raise
        for thread in threads:
            thread.join()
        if problems:
            raise problems[0]

    def wait_for(self, condition: Callable[[], bool], seconds: float) -> bool:
        """Wait until a condition over what was acknowledged holds; False when it did not in time."""
        with self._changed:
            return self._changed.wait_for(condition, seconds)
