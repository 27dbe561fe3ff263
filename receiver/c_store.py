"""The store session of one association: from the fragments of a C-STORE-RQ to a durable instance and its status.

This is the hot path: no data set is decoded here, nothing is asked of Temporal or a database, and nothing is logged per
instance. It knows nothing of pynetdicom: whatever reads the wire calls ``begin``, ``write`` and ``complete`` in
one thread; ``end`` may come from another. 0000 is a promise that the instance cannot be lost any more, so it is
returned only after the spool has committed it.
"""

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final, Protocol

import structlog

from clara_dicom_adapter.dicom import uids
from clara_dicom_adapter.errors import AdapterError
from clara_dicom_adapter.receiver import commands
from clara_dicom_adapter.receiver.acceptance import KnownAeTitle
from clara_dicom_adapter.receiver.contexts import VERIFICATION
from clara_dicom_adapter.receiver.live import LiveAssociation
from clara_dicom_adapter.receiver.naming import Naming
from clara_dicom_adapter.spool import AssociationFolder, IncomingInstance
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.receiver")

_NAME_AGAIN_SECONDS: Final = 1.0
"""At most so often, what the disk has refused to name is tried again while its association goes on."""


class Closed(Protocol):
    """Who hears that a session is over."""

    def __call__(self, live: LiveAssociation, outcome: AssociationOutcome, owed: AssociationFolder | None) -> None:
        """Called once, with its totals.

        Args:
            owed: The folder, when its outcome could not be written.
        """
        ...


class StoreSession:
    """Takes the instances of one association."""

    def __init__(
        self,
        live: LiveAssociation,
        ae: KnownAeTitle,
        *,
        open_folder: Callable[[], AssociationFolder],
        can_store: Callable[[], bool],
        naming: Naming,
        closed: Closed,
    ) -> None:
        self.live = live
        self._ignored_sop_classes = frozenset(ae.entity.ignored_sop_classes)
        self._open_folder = open_folder
        self._can_store = can_store
        self._naming = naming
        self._closed = closed
        self._lock = threading.Lock()
        self._folder: AssociationFolder | None = None
        self._incoming: IncomingInstance | None = None
        self._unnamed: tuple[IncomingInstance, int] | None = None
        self._path: Path | None = None
        self._to_be_named = 0
        self._not_named: list[tuple[IncomingInstance, int]] = []
        self._name_again_at = 0.0
        self._counting = threading.Lock()
        self._answer: tuple[int, str] = (commands.SUCCESS, "")
        self._size = 0
        self._ended = False
        self._warned_of_uids = False
        self._warned_of_failure = False
        self._warned_of_naming = False

    def begin(self, request: commands.StoreRequest, abstract_syntax: str, transfer_syntax: str) -> None:
        """A C-STORE-RQ has come."""
        with self._lock:
            self._discard()
            self._have_named()
            self._size = 0
            self.live.arriving_since = self.live.last_fragment_at = time.monotonic()
            refusal = self._refusal(request, abstract_syntax)
            self._answer = refusal or (commands.SUCCESS, "")
            if refusal is None and request.sop_class_uid not in self._ignored_sop_classes and not self._ended:
                self._open(request, transfer_syntax)

    def write(self, fragments: list[memoryview]) -> None:
        """Some fragments of the data set; of an instance that is not kept, nothing is."""
        self._size += sum(map(len, fragments))
        self.live.last_fragment_at = time.monotonic()
        with self._lock:
            if self._incoming is None:
                return
            try:
                self._incoming.write(*fragments)
                if self._incoming.path is not self._path:  # it is larger than it could be expected to be
                    self._arriving_in(self._incoming.path)
            except (OSError, AdapterError) as error:
                self._fail(error)

    def complete(self) -> tuple[int, str]:
        """The data set is complete; the status is final when this returns."""
        with self._lock:
            self.live.arriving_since = None
            if self._incoming is not None:
                self._commit()
            elif self._answer[0] == commands.SUCCESS and self._ended:
                # from outside, while it arrived: what had been written of it is gone
                self._answer = (commands.OUT_OF_RESOURCES, "the association is over")
            elif self._answer[0] == commands.SUCCESS:
                self.live.ignored += 1
            if self._answer[0] == commands.OUT_OF_RESOURCES:
                self.live.failed += 1
                if self._folder is not None:
                    self._folder.failed_instances = self.live.failed
            elif self._answer[0] != commands.SUCCESS:
                status = f"{self._answer[0]:04X}"
                self.live.refused_with[status] = self.live.refused_with.get(status, 0) + 1
            return self._answer

    def answered(self) -> None:
        """The reply has been sent; the instance gets its name soon, if it has none."""
        with self._lock:
            self._have_named()

    def end(self, outcome: AssociationOutcome) -> None:
        """The association is over; only the first call counts. What is incomplete leaves nothing behind."""
        with self._lock:
            if self._ended:
                return
            self._ended = True
            self.live.arriving_since = None
            self._discard()
            self._have_named()
            if self._to_be_named:  # the outcome counts them, and who reads it looks for their names
                self._naming.wait()
                self._name_again()
            written = self._folder is None or self._write_outcome(self._folder, outcome)
        self._closed(self.live, outcome, None if written else self._folder)
        log.info(
            "association_ended",
            association_id=self.live.association_id,
            calling_ae_title=self.live.calling_ae_title,
            called_ae_title=self.live.called_ae_title,
            outcome=outcome.value,
            instances=self.live.instances,
            bytes=self.live.bytes,
            failed_instances=self.live.failed,
            seconds=round((datetime.now(UTC) - self.live.started_at).total_seconds(), 3),
        )

    def _refusal(self, request: commands.StoreRequest, abstract_syntax: str) -> tuple[int, str] | None:
        """Status and comment when the object cannot be accepted, PS3.4 table B.2-1."""
        if abstract_syntax == VERIFICATION:
            return commands.SOP_CLASS_NOT_SUPPORTED, "Verification stores nothing"
        for name, uid in (("SOP class", request.sop_class_uid), ("SOP instance", request.sop_instance_uid)):
            if uids.is_valid(uid):
                continue
            if not uids.is_usable(uid):
                return commands.CANNOT_UNDERSTAND, f"{name} UID is {'unusable' if uid else 'missing'}"
            if not self._warned_of_uids:
                self._warned_of_uids = True
                log.warning("odd_uid", association_id=self.live.association_id, uid_problem=name)
        if request.sop_class_uid != abstract_syntax:
            return commands.DATA_SET_DOES_NOT_MATCH_SOP_CLASS, "SOP class is not that of the presentation context"
        if not request.has_data_set:
            return commands.CANNOT_UNDERSTAND, "there is no data set"
        return None

    def _open(self, request: commands.StoreRequest, transfer_syntax: str) -> None:
        if not self._can_store():
            self._answer = (commands.OUT_OF_RESOURCES, "storage space is short")
            return
        try:
            if self._folder is None:
                self._folder = self._open_folder()
                self._folder.failed_instances = self.live.failed
                self.live.spooled = True
            self._incoming = self._folder.begin_instance(
                sop_class_uid=request.sop_class_uid,
                sop_instance_uid=request.sop_instance_uid,
                transfer_syntax_uid=transfer_syntax,
            )
            self._arriving_in(self._incoming.path)
        except (OSError, AdapterError) as error:
            self._fail(error)

    def _arriving_in(self, path: Path | None) -> None:
        self._path = path
        self.live.arriving_in = str(path or "")

    def _commit(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is None or self._folder is None:
            return
        try:
            incoming.commit()
        except (OSError, AdapterError) as error:
            self._incoming = incoming
            self._fail(error)
            return
        self._unnamed = incoming, self._size
        if incoming.flush_seconds is not None:
            self.live.flushes += 1
            self.live.flush_seconds += incoming.flush_seconds

    def _have_named(self) -> None:
        unnamed, self._unnamed = self._unnamed, None
        if unnamed is None:
            return
        if self._not_named and time.monotonic() >= self._name_again_at:
            self._name_again_at = time.monotonic() + _NAME_AGAIN_SECONDS
            self._try_again()
        incoming, size = unnamed
        with self._counting:
            self._to_be_named += 1
        if incoming.waits_for_the_journal:
            self._naming.put(partial(self._name, incoming, size))
        else:
            self._name(incoming, size)

    def _name(self, incoming: IncomingInstance, size: int) -> None:
        incoming.name(partial(self._named, incoming, size))

    def _named(self, incoming: IncomingInstance, size: int, error: OSError | None) -> None:
        if error is None:
            self._count(size)
        else:
            with self._counting:
                self._not_named.append((incoming, size))
            if not self._warned_of_naming:  # a full disk refuses thousands, again and again
                self._warned_of_naming = True
                log.warning("naming_delayed", association_id=self.live.association_id, error=str(error))

    def _try_again(self) -> None:
        with self._counting:
            again, self._not_named = self._not_named, []
        for number, (incoming, size) in enumerate(again, start=1):
            self._name(incoming, size)
            if self._not_named:  # the disk still refuses
                with self._counting:
                    self._not_named += again[number:]
                return

    def _name_again(self) -> None:
        if not self._not_named:
            return
        self._try_again()
        self._naming.wait()
        if self._not_named:  # they are safe, and the reconciler names them
            log.error("instances_not_named", association_id=self.live.association_id, count=len(self._not_named))
        for incoming, size in self._not_named:
            incoming.discard()
            self._count(size)
        self._not_named.clear()

    def _count(self, size: int) -> None:
        # only when it has its name, for who is told of it looks for that
        with self._counting:
            self._to_be_named -= 1
            self.live.instances += 1
            self.live.bytes += size

    def _fail(self, error: Exception) -> None:
        self._discard()
        self._answer = (commands.OUT_OF_RESOURCES, "the instance could not be stored")
        if not self._warned_of_failure:  # a full disk fails thousands; the totals are in the last line
            self._warned_of_failure = True
            log.error("storing_failed", association_id=self.live.association_id, error=str(error))

    def _discard(self) -> None:
        incoming, self._incoming = self._incoming, None
        if incoming is None:
            return
        try:
            incoming.discard()
        except OSError as error:
            # it has no final name, so it will never be taken for an instance; the reclaimer removes it
            log.warning("partial_file_left", association_id=self.live.association_id, error=str(error))

    def _write_outcome(self, folder: AssociationFolder, outcome: AssociationOutcome) -> bool:
        try:
            folder.end(outcome)
        except (OSError, AdapterError) as error:
            log.error("outcome_not_written", association_id=self.live.association_id, error=str(error))
            return False
        return True
