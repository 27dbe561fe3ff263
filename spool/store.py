"""The spool as the rooms above see it: one object for files, index and ownership."""

import hashlib
import hmac
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import structlog

from clara_dicom_adapter.errors import SpoolUnavailable, SpoolUnusable
from clara_dicom_adapter.spool import node as nodes
from clara_dicom_adapter.spool.adoption import Adopted, adopt
from clara_dicom_adapter.spool.arrivals import Arrivals
from clara_dicom_adapter.spool.association import FACTS, AssociationFolder
from clara_dicom_adapter.spool.database import Database
from clara_dicom_adapter.spool.durable import make_folder
from clara_dicom_adapter.spool.filing import Filer, SegmentsInHand
from clara_dicom_adapter.spool.models import (
    ASSOCIATIONS,
    AssociationFacts,
    InstanceHead,
    InstanceKey,
    OfSender,
    OwnerSummary,
    PendingBatch,
    PendingEnd,
    ReclaimTotals,
    SpooledInstance,
    SpoolRole,
    SpoolUsage,
    StoredInstance,
    Target,
    Totals,
    is_association_id,
)
from clara_dicom_adapter.spool.ownership import Ownership
from clara_dicom_adapter.spool.preparing import Preparer
from clara_dicom_adapter.spool.reclaim import Reclaimer
from clara_dicom_adapter.spool.replay import Replay
from clara_dicom_adapter.spool.sealed import SealedFiles
from clara_dicom_adapter.workflows.models import ClaimResult, Owner

log = structlog.get_logger("clara_dicom_adapter.spool")

_NO_LIMIT: Final = -1
_OUTCOMES_KEPT: Final = 10_000


class Spool:
    """A node's spool. Every method may be called from any thread."""

    def __init__(
        self, root: Path, role: SpoolRole, node: nodes.NodeFacts, locks: list[nodes.FileLock], database: Database
    ) -> None:
        """Use :meth:`open`."""
        self.root = root
        self.role = role
        self.node_id = node.node_id
        self.node_ids = (node.node_id, *node.adopted)
        """The node's id and those of adopted ones: work addressed to any of them is done here."""
        self._associations = root / ASSOCIATIONS
        self._durable = database.durable
        self._locks = locks
        self._database = database
        self._arrivals = Arrivals(root, durable=database.durable)
        self._interrupted: dict[str, bool] = {}
        self._in_hand = SegmentsInHand()
        self._filers: list[Filer] = []
        self._sealed = SealedFiles(root, Replay(root, in_hand=self._in_hand))
        self._ownership = Ownership(database, self._associations, node.node_id)
        self._reclaimer = Reclaimer(database, self._associations, self._sealed)

    @classmethod
    def open(cls, root: Path, role: SpoolRole, *, durable: bool = True) -> Self:
        """Open a spool, creating it if need be.

        Args:
            durable: False: nothing is flushed; a power cut may take back what was answered with 0000.

        Raises:
            SpoolInUse: Another process has this role.
            SpoolUnusable: Made by a newer version, adopted by another node, or its files do not fit together.
        """
        root.mkdir(mode=0o750, parents=True, exist_ok=True)
        locks = [] if role is SpoolRole.TOOL else nodes.lock_roles(root, [role])
        try:
            node = nodes.find_or_make_node(root)
            if node.adopted_by is not None:
                raise SpoolUnusable(f"{root} has been taken over by node {node.adopted_by}")
            make_folder(root / ASSOCIATIONS, durable=durable)
            database = Database(root, durable=durable)
        except BaseException:
            for lock in locks:
                lock.release()
            raise
        return cls(root, role, node, locks, database)

    def close(self) -> None:
        """Let go of the spool; safe to repeat. Associations that are still open are ended by the next start."""
        self._arrivals.close()
        for filer in self._filers:
            filer.close()
        self._database.close()
        for lock in self._locks:
            lock.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _kind: type[BaseException] | None, _error: BaseException | None, _at: TracebackType | None
    ) -> None:
        self.close()

    # ---- files ----

    def begin_association(self, facts: AssociationFacts) -> AssociationFolder:
        """Make an association's folder; whose its instances will be is durable when this returns."""
        return self._arrivals.begin_association(facts)

    def associations(self) -> Iterator[AssociationFolder]:
        """Every association on disk, oldest first; one whose facts cannot be read is left alone, with a log line."""
        for path in sorted(self._associations.iterdir()):
            if not is_association_id(path.name) or not (path / FACTS).exists():
                continue  # not ours, on its way out, or not begun: nothing can have been answered with 0000 yet
            try:
                yield self.association(path.name)
            except FileNotFoundError:
                continue  # reclaimed meanwhile
            except SpoolUnusable as error:
                log.error("association_unusable", path=str(path), error=str(error))

    def association(self, association_id: str) -> AssociationFolder:
        """One association; raises FileNotFoundError when it is not (any more) there."""
        return AssociationFolder.read(self._associations / association_id, durable=self._durable)

    def end_abandoned(self) -> list[AssociationFolder]:
        """Give an outcome to every association that has none and that nobody receives; for the receiver only.

        What was sealed in them and had no name yet has one then; where that is refused, the association waits for it.
        """
        if self.role is not SpoolRole.RECEIVER:
            raise ValueError("only the receiver ends associations")
        # looked at again once nobody receives it: its receiver may just have ended it in order
        abandoned = [
            folder
            for folder in self.associations()
            if folder.outcome is None and not folder.receiving and folder.outcome is None
        ]
        left = self._sealed.place().left
        abandoned = [folder for folder in abandoned if folder.association_id not in left]
        ended: list[AssociationFolder] = []
        for folder in abandoned:
            if folder.receiving:  # it could not be begun, and was begun anew meanwhile
                continue
            with suppress(FileNotFoundError):  # it could not be begun, and has been taken back
                folder.end_abandoned()
                ended.append(folder)
        return ended

    def filer(self, *, durable: bool = True) -> Filer:
        """Who makes the files of what listeners have in segments; for the receiver only.

        Args:
            durable: False: nothing is flushed.
        """
        if self.role is not SpoolRole.RECEIVER:
            raise ValueError("only the receiver makes files for others")
        filer = Filer(self.root, durable=durable, in_hand=self._in_hand)
        self._filers.append(filer)
        return filer

    def preparer(self, most_bytes: int, *, room: Callable[[], int], listeners: int = 1) -> Preparer:
        """Who keeps files prepared, once the associations of an earlier run are ended; for the receiver only.

        Args:
            listeners: Processes that receive.
        """
        if self.role is not SpoolRole.RECEIVER:
            raise ValueError("only the receiver prepares files")
        return Preparer(self.root, most_bytes, self._sealed, room=room, listeners=listeners)

    def remove_unbegun(self) -> None:
        """Remove folders of associations that never began; for the receiver, before anything is received."""
        self._reclaimer.remove_unbegun()

    # ---- index, batches, hand-over ----

    def make_batches(
        self, folder: AssociationFolder, addressed: Iterable[tuple[Target, Sequence[InstanceHead]]]
    ) -> list[PendingBatch]:
        """Index instances of an association, in a batch for each target; what is indexed already is left out."""
        return self._ownership.make_batches(folder.association_id, addressed)

    def unindexed(self, folder: AssociationFolder) -> list[StoredInstance]:
        """Instances on disk that the index does not know; of an open association, also those just stored."""
        known = self._ownership.indexed(folder.association_id)
        return list(folder.stored(skip=known))

    def batches_to_hand_over(self, limit: int = _NO_LIMIT) -> list[PendingBatch]:
        """Batches that Temporal has not accepted, oldest first."""
        return self._ownership.batches_to_hand_over(limit)

    def batches_to_hand_over_of(self, association_id: str) -> list[PendingBatch]:
        """Those of one association."""
        return self._ownership.batches_to_hand_over_of(association_id)

    def handed_over(self, batch_ids: Collection[str]) -> None:
        """Temporal has accepted the signals for these batches."""
        self._ownership.handed_over(batch_ids)

    def unclaimed(self, older_than_seconds: float, limit: int = _NO_LIMIT) -> list[PendingBatch]:
        """Batches handed over that long ago and claimed by nobody: has Temporal forgotten them?"""
        return self._ownership.unclaimed(older_than_seconds, limit)

    def hand_over_again(self, batch_ids: Collection[str]) -> int:
        """Put batches that Temporal has forgotten back to be handed over; returns how many were."""
        return self._ownership.hand_over_again(batch_ids)

    def addressed(self, association_id: str) -> list[PendingEnd]:
        """The workflows that got batches of an association and have not been told of its end."""
        return [PendingEnd(*row) for row in self._ownership.addressed(association_id)]

    def ends_to_hand_over(self) -> list[PendingEnd]:
        """Ends that some workflow has not been told of, of associations that are over and all in batches."""
        ends = [PendingEnd(*row) for row in self._ownership.addressed(None)]
        complete = set(filter(self._is_all_indexed, {end.association_id for end in ends}))
        return [end for end in ends if end.association_id in complete]

    def end_handed_over(self, association_id: str, workflow_id: str) -> None:
        """A workflow has been told of an association's end; before that the association is not forgotten."""
        self._ownership.end_handed_over(association_id, workflow_id)

    def forget_end(self, association_id: str, workflow_id: str) -> None:
        """Temporal has forgotten that it was told of an association's end."""
        self._ownership.forget_end(association_id, workflow_id)

    def _is_all_indexed(self, association_id: str) -> bool:
        try:
            folder = self.association(association_id)
            return folder.outcome is not None and not self.unindexed(folder)
        except (FileNotFoundError, SpoolUnusable):
            return False

    # ---- ownership ----

    def claim(self, owner: Owner, batch_ids: Sequence[str]) -> ClaimResult:
        """Make batches the owner's; those that are someone else's, or gone, are refused."""
        return self._ownership.claim(owner, batch_ids)

    def outstanding(self, workflow_id: str) -> int:
        """Instances addressed to a workflow that nobody has claimed."""
        return self._ownership.outstanding(workflow_id)

    def studies(self, owner: Owner) -> frozenset[str]:
        """Keyed hashes of the Study Instance UIDs of what an owner owns; the same on every node of the site."""
        try:
            key = bytes.fromhex((self.root / nodes.SITE_KEY).read_text(encoding="ascii"))
        except (OSError, ValueError) as error:
            raise SpoolUnavailable(f"the site's key is not in {self.root} yet: the receiver puts it there") from error
        uids = {instance.study_instance_uid for instance in self.instances_of(owner)} - {""}
        return frozenset(hmac.new(key, b"study\x1f" + uid.encode(), hashlib.sha256).hexdigest()[:32] for uid in uids)

    def of_sender(self, owner: Owner, sender_key: str) -> list[OfSender]:
        """Other associations of a sender with a study of the owner's, of which nothing is submitted yet."""
        found: list[OfSender] = []
        for association_id, its_owner in self._ownership.of_sender(owner, sender_key):
            interrupted = self._was_interrupted(association_id)
            resent = interrupted is None and self._ownership.came_again(owner, association_id)
            found.append(OfSender(association_id, its_owner, interrupted, resent))
        return found

    def came_again_in(self, association_id: str, earlier: str) -> bool:
        """Whether the last instance of an earlier association is in another one, too."""
        return self._ownership.came_again_in(association_id, earlier)

    def _was_interrupted(self, association_id: str) -> bool | None:
        """None while an association has no outcome; a sender may have hundreds, and an outcome never changes."""
        if association_id not in self._interrupted:
            try:
                record = self.association(association_id).outcome
            except (FileNotFoundError, SpoolUnusable):
                return False  # reclaimed meanwhile, or nobody knows any more how it ended
            if record is None:
                return None
            if len(self._interrupted) >= _OUTCOMES_KEPT:
                self._interrupted.clear()
            self._interrupted[association_id] = record.outcome.interrupted
        return self._interrupted.get(association_id)

    def transfer(self, owner: Owner, new_owner: Owner, restart: str | None) -> Totals:
        """Give all that ``owner`` owns to ``new_owner``; asked again, the same totals.

        Args:
            restart: SubmissionInput as JSON, with which the reconciler can start a submission that got lost.
        """
        return self._ownership.transfer(owner, new_owner, restart)

    def instances_in(self, batch_ids: Collection[str]) -> list[SpooledInstance]:
        """What some batches hold that is not released, in the order received."""
        return self._ownership.instances_in(batch_ids)

    def instances_of(self, owner: Owner) -> list[SpooledInstance]:
        """What an owner owns and has not released, in the order received."""
        return self._ownership.instances_of(owner)

    def release(self, owner: Owner, only: Collection[InstanceKey] | None = None) -> int:
        """Let the reclaimer delete what an owner owns, or some of it; returns how many were not released before."""
        return self._ownership.release(owner, only)

    def owners(self) -> list[OwnerSummary]:
        """Everybody who owns something that is not released."""
        return self._ownership.owners()

    def disown(self, owner: Owner) -> int:
        """Put what an owner has not released back to be handed over; returns how many instances."""
        return self._ownership.disown(owner)

    # ---- space ----

    def reclaim(self) -> ReclaimTotals:
        """Delete what was released, parts of ended associations, and ended associations that are empty."""
        return self._reclaimer.reclaim()

    def adopt(self, other_root: Path) -> Adopted:
        """Take over the spool of a node that will not come back; a worker serves its id too once it is started again.

        Raises:
            SpoolInUse: It is being served.
            SpoolUnusable: It is no spool, or another node has taken it over.
        """
        return adopt(self.root, self._database, other_root)

    def usage(self) -> SpoolUsage:
        """The spool in figures."""
        return self._ownership.usage()
