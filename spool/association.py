"""The folder of one association: its facts, its instances, its outcome. Files only, as ``docs/spool.md`` describes."""

import fcntl
import os
import re
import threading
from collections.abc import Iterator, Set
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import structlog
from pydantic import ValidationError

from clara_dicom_adapter.dicom import part10
from clara_dicom_adapter.errors import InvalidInstance, SpoolUnusable
from clara_dicom_adapter.spool.durable import sync_folder, write_all, write_file
from clara_dicom_adapter.spool.incoming import Arriving, IncomingInstance, NewFile
from clara_dicom_adapter.spool.models import AssociationFacts, AssociationOutcomeRecord, StoredInstance
from clara_dicom_adapter.spool.ways import Ways
from clara_dicom_adapter.workflows.models import AssociationOutcome

log = structlog.get_logger("clara_dicom_adapter.spool")

FACTS: Final = "association.json"
OUTCOME: Final = "outcome.json"
GONE: Final = ".gone"
"""Behind the name of a folder that is being deleted."""
_INSTANCE: Final = re.compile(r"(\d{8,})-(\d+)\.dcm")


class AssociationFolder:
    """An association in the spool; open while it receives, and read again after a restart."""

    def __init__(self, path: Path, facts: AssociationFacts, *, durable: bool, ways: Ways | None = None) -> None:
        self.path = path
        self.facts = facts
        self.failed_instances = 0
        """Instances answered A700 so far; the receiver counts."""
        self._durable = durable
        self._ways = ways
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        self._lock_descriptor: int | None = None
        self._sequence = 0
        self._instances = 0
        self._bytes = 0
        self._outcome: AssociationOutcomeRecord | None = None

    def create(self) -> None:
        """Make the folder with its facts, locked; whose its instances will be is durable when this returns.

        Raises:
            OSError: Nothing is left of it, so that it can be tried again.
        """
        self.path.mkdir(mode=0o750)
        try:
            self._descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            # locked before it has its name, and until the outcome is written; the kernel lets go of it when this
            # process dies. The file and not the folder, because NFS locks only what is open for writing.
            part = self.path / f"{FACTS}.part"
            self._lock_descriptor = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o640)
            fcntl.flock(self._lock_descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            write_all(self._lock_descriptor, self.facts.model_dump_json().encode())
            part.rename(self.path / FACTS)
            if self._durable:
                # all three at the end: the first commits the journal, and the others find little left to do. Facts that
                # a power cut has torn before are those of an association without instances
                os.fsync(self._lock_descriptor)
                os.fsync(self._descriptor)
                sync_folder(self.path.parent)
        except BaseException:
            self._take_back()
            raise

    def _take_back(self) -> None:
        """Remove what was begun; no descriptor is needed, for there may be none."""
        gone = self.path.with_name(self.path.name + GONE)
        try:
            # at one stroke, and while it is locked: nobody takes it for an association whose receiver has died
            self.path.rename(gone)
            for name in (f"{FACTS}.part", FACTS):
                (gone / name).unlink(missing_ok=True)
            gone.rmdir()
        except FileNotFoundError:  # who deletes such folders was faster
            pass
        except OSError as error:
            log.warning("association_folder_left", association_id=self.association_id, error=str(error))
        self._close()

    @classmethod
    def read(cls, path: Path, *, durable: bool) -> "AssociationFolder":
        """An association that is on disk.

        Raises:
            FileNotFoundError: It is not there (any more).
            SpoolUnusable: Its facts are damaged.
        """
        try:
            facts = AssociationFacts.model_validate_json((path / FACTS).read_bytes())
        except ValidationError as error:
            raise SpoolUnusable(f"{path} does not say whose its instances are: {type(error).__name__}") from error
        return cls(path, facts, durable=durable)

    @property
    def association_id(self) -> str:
        return self.facts.association_id

    @property
    def held(self) -> bool:
        """Whether it is received, or owed its outcome, by means of this object; no other process is asked."""
        return self._descriptor is not None

    @property
    def receiving(self) -> bool:
        """Whether a process, this or another one, receives it or owes it its outcome."""
        if self._descriptor is not None:
            return True
        try:
            descriptor = os.open(self.path / FACTS, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(descriptor)
        return False

    # ---- receiving ----

    def begin_instance(
        self, *, sop_class_uid: str, sop_instance_uid: str, transfer_syntax_uid: str
    ) -> IncomingInstance:
        """Open the next instance; the part-10 header goes in front of its dataset."""
        with self._lock:
            if self._descriptor is None or self._outcome is not None:
                raise OSError("the association is over")
            self._sequence += 1
            arriving = Arriving(
                association_id=self.association_id,
                folder=self.path,
                folder_descriptor=self._descriptor,
                sequence=self._sequence,
                sop_class_uid=sop_class_uid,
                sop_instance_uid=sop_instance_uid,
                transfer_syntax_uid=transfer_syntax_uid,
                calling_ae_title=self.facts.calling_ae_title,
            )
            if self._ways is None:
                return NewFile(arriving, durable=self._durable, stored=self._count)
            return self._ways.begin(arriving, self._count)

    def end(self, outcome: AssociationOutcome) -> None:
        """Make the outcome durable; safe to repeat, and the first outcome stands.

        Raises:
            OSError: It could not be written; the folder stays locked, so that it can be tried again.
        """
        with self._lock:
            if self._outcome is None:
                self._outcome = self.outcome or AssociationOutcomeRecord(
                    outcome=outcome,
                    instances=self._instances,
                    bytes=self._bytes,
                    failed_instances=self.failed_instances,
                    ended_at=datetime.now(UTC),
                )
            write_file(self.path / OUTCOME, self._outcome.model_dump_json().encode(), durable=self._durable)
            self._close()

    def close(self) -> None:
        """Receive no more, without an outcome; the next start gives it one."""
        with self._lock:
            self._close()

    def _close(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
        if self._lock_descriptor is not None:
            os.close(self._lock_descriptor)
            self._lock_descriptor = None

    def _count(self, instance: StoredInstance) -> None:
        self._instances += 1
        self._bytes += instance.bytes

    # ---- reading ----

    @property
    def outcome(self) -> AssociationOutcomeRecord | None:
        """How it ended; None while it is open, or when the receiver died before it could write it."""
        try:
            return AssociationOutcomeRecord.model_validate_json((self.path / OUTCOME).read_bytes())
        except (FileNotFoundError, ValidationError):
            return None

    def files(self) -> dict[int, tuple[int, str]]:
        """Sequence to receive time and file name, of every instance that has its final name."""
        return files_in(self.path)

    def stored(self, skip: Set[int] = frozenset()) -> Iterator[StoredInstance]:
        """The instances on disk, in the order received; one that is damaged is left where it is, with a log line.

        Args:
            skip: Sequences that are not wanted.
        """
        for sequence, (received_ns, name) in self.files().items():
            if sequence in skip:
                continue
            path = self.path / name
            try:
                meta = part10.read_meta(path)
                size = path.stat().st_size
            except FileNotFoundError:
                continue  # reclaimed meanwhile
            except (InvalidInstance, OSError) as error:
                log.error("stored_instance_damaged", path=str(path), error=str(error))
                continue
            yield StoredInstance(
                association_id=self.association_id,
                sequence=sequence,
                received_ns=received_ns,
                bytes=size,
                folder=self.path,
                name=name,
                sop_class_uid=meta.sop_class_uid,
                sop_instance_uid=meta.sop_instance_uid,
                transfer_syntax_uid=meta.transfer_syntax_uid,
            )

    def end_abandoned(self) -> None:
        """The receiver died while this was open: count what it stored, remove the rest, and say so."""
        remove_parts(self.path)
        if self._outcome is None:
            sizes = [(self.path / name).stat().st_size for _, name in self.files().values()]
            self._instances, self._bytes = len(sizes), sum(sizes)
        self.end(AssociationOutcome.ADAPTER_STOPPED)


def files_in(folder: Path) -> dict[int, tuple[int, str]]:
    """Sequence to receive time and file name, of every instance in the folder of an association."""
    found: dict[int, tuple[int, str]] = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            match = _INSTANCE.fullmatch(entry.name)
            if match:
                found[int(match[1])] = (int(match[2]), entry.name)
    return dict(sorted(found.items()))


def remove_parts(folder: Path) -> int:
    """Delete the parts of an association that receives no more."""
    removed = 0
    for part in folder.glob("[0-9]*.part"):
        with suppress(FileNotFoundError):
            part.unlink()
            removed += 1
    return removed
