"""What tests around the spool share: associations and instances that need no network."""

import os
import queue
from datetime import UTC, datetime

from clara_dicom_adapter.spool import (
    AssociationFacts,
    AssociationFolder,
    IncomingInstance,
    InstanceHead,
    Spool,
    StoredInstance,
    Target,
    new_association_id,
)
from clara_dicom_adapter.spool.segments import Segments
from clara_dicom_adapter.workflows.models import BatchRef, PinnedAeTitle

CT = "1.2.840.10008.5.1.4.1.1.2"
EXPLICIT_LITTLE_ENDIAN = "1.2.840.10008.1.2.1"
STUDY = "1.2.826.0.1.1"


def facts(association_id: str | None = None) -> AssociationFacts:
    """An association that begins now."""
    return AssociationFacts(
        association_id=association_id or new_association_id(),
        calling_ae_title="MODALITY",
        called_ae_title="CLARA",
        peer="192.0.2.7",
        started_at=datetime.now(UTC),
        ae=PinnedAeTitle(ae_title="CLARA", name="CLARA", processor="ae-title", timeout_seconds=0),
    )


def store(
    folder: AssociationFolder, count: int = 1, *, data: bytes = b"\x08\x00\x05\x00CS\x00\x00"
) -> list[StoredInstance]:
    """Commit some instances, each of one fragment."""
    stored = []
    for number in range(count):
        incoming = folder.begin_instance(
            sop_class_uid=CT,
            sop_instance_uid=f"{STUDY}.1.{number + 1}",
            transfer_syntax_uid=EXPLICIT_LITTLE_ENDIAN,
        )
        incoming.write(data)
        stored.append(incoming.commit())
        have_named(incoming)
    return stored


def have_named(incoming: IncomingInstance) -> None:
    """Give an instance its name; raises OSError when it has none."""
    told: queue.SimpleQueue[OSError | None] = queue.SimpleQueue()
    incoming.name(told.put)
    error = told.get(timeout=30)
    if error is not None:
        raise error


def heads(stored: list[StoredInstance]) -> list[InstanceHead]:
    """Their heads, all of one series."""
    return [InstanceHead(one, STUDY, f"{STUDY}.1") for one in stored]


def batched(
    spool: Spool, folder: AssociationFolder, count: int, workflow_id: str = "receive-1", receive_input: str = "{}"
) -> BatchRef:
    """Some instances in one batch."""
    return batch(spool, folder, heads(store(folder, count)), workflow_id, receive_input)


def batch(
    spool: Spool,
    folder: AssociationFolder,
    instances: list[InstanceHead],
    workflow_id: str = "receive-1",
    receive_input: str = "{}",
) -> BatchRef:
    """These instances in one batch."""
    (made,) = spool.make_batches(folder, [(Target(workflow_id, receive_input), instances)])
    return made.ref


def let_go(segments: Segments) -> None:
    """As the kernel does it for a process that dies."""
    in_use = [*segments._full, *([segments._current] if segments._current is not None else [])]
    for descriptor in [*(descriptor for _, descriptor in segments._blank), *(each.descriptor for each in in_use)]:
        os.close(descriptor)
    segments._full, segments._current, segments._closed = [], None, True
    segments._blank.clear()
