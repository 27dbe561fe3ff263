"""The spool as a process sees it that only receives: it adds associations, and knows nothing of index and owners."""

import threading
from pathlib import Path

from clara_dicom_adapter.spool.association import AssociationFolder
from clara_dicom_adapter.spool.filing import MakeFiles
from clara_dicom_adapter.spool.models import ASSOCIATIONS, AssociationFacts, is_association_id
from clara_dicom_adapter.spool.ways import Ways


class Arrivals:
    """Begins associations. Every method may be called from any thread."""

    def __init__(self, root: Path, *, durable: bool = True, elsewhere: MakeFiles | None = None) -> None:
        """Args:
        durable: False: nothing is flushed; a power cut may take back what was answered with 0000.
        elsewhere: Has the files of small instances made by another process; none: all are made in this one.
        """
        self._associations = root / ASSOCIATIONS
        self._durable = durable
        self._lock = threading.Lock()
        self._open: list[AssociationFolder] = []
        self._ways = Ways(root, durable=durable, elsewhere=elsewhere)

    def begin_association(self, facts: AssociationFacts) -> AssociationFolder:
        """Make an association's folder; whose its instances will be is durable when this returns."""
        if not is_association_id(facts.association_id):
            raise ValueError("an association id comes from new_association_id()")
        folder = AssociationFolder(
            self._associations / facts.association_id, facts, durable=self._durable, ways=self._ways
        )
        folder.create()
        with self._lock:
            self._open = [each for each in self._open if each.held]
            self._open.append(folder)
        return folder

    def settle(self) -> None:
        """Wait until all that was named has its name."""
        self._ways.settle()

    def close(self) -> None:
        """Receive no more; associations without an outcome get one from the receiver, when it starts again."""
        self._ways.close()
        with self._lock:
            for folder in self._open:
                folder.close()
            self._open.clear()
