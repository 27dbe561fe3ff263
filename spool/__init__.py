"""What is on a node's disk and whose it is: the durable store that receiver and activities share.

The format on disk is described in ``docs/spool.md``.
"""

from clara_dicom_adapter.spool.adoption import Adopted
from clara_dicom_adapter.spool.arrivals import Arrivals
from clara_dicom_adapter.spool.association import AssociationFolder
from clara_dicom_adapter.spool.incoming import IncomingInstance
from clara_dicom_adapter.spool.models import (
    AssociationFacts,
    AssociationOutcomeRecord,
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
    new_association_id,
)
from clara_dicom_adapter.spool.preparing import Preparer
from clara_dicom_adapter.spool.store import Spool

__all__ = [
    "Adopted",
    "Arrivals",
    "AssociationFacts",
    "AssociationFolder",
    "AssociationOutcomeRecord",
    "IncomingInstance",
    "InstanceHead",
    "InstanceKey",
    "OfSender",
    "OwnerSummary",
    "PendingBatch",
    "PendingEnd",
    "Preparer",
    "ReclaimTotals",
    "Spool",
    "SpoolRole",
    "SpoolUsage",
    "SpooledInstance",
    "StoredInstance",
    "Target",
    "Totals",
    "new_association_id",
]
