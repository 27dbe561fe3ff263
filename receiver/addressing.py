"""From stored instances to batches: reads their heads, decides where they belong, and makes that durable."""

import errno
from collections.abc import Callable, Sequence
from pathlib import Path

import structlog

from clara_dicom_adapter.dicom.head import Head, read_head
from clara_dicom_adapter.receiver import grouping
from clara_dicom_adapter.spool import (
    AssociationFolder,
    InstanceHead,
    PendingBatch,
    Spool,
    StoredInstance,
    Target,
)
from clara_dicom_adapter.workflows.models import AssociationEnd, AssociationOutcome, PinnedAeTitle

log = structlog.get_logger("clara_dicom_adapter.receiver")


class Addressing:
    """Blocking work on files and the spool's index; runs beside the event loop."""

    def __init__(self, secret: Callable[[], bytes]) -> None:
        self._secret = secret

    def make_batches(
        self, spool: Spool, folder: AssociationFolder, instances: Sequence[StoredInstance]
    ) -> list[PendingBatch]:
        """Index instances and make one batch for each workflow they belong to; safe to repeat."""
        facts, secret = folder.facts, self._secret()
        addressed: dict[str, list[InstanceHead]] = {}
        for instance in instances:
            head = _head(instance, facts.ae)
            workflow_id = self._workflow_id(facts.ae, facts.association_id, head, secret)
            addressed.setdefault(workflow_id, []).append(_instance_head(instance, head))
        start = grouping.receive_input(facts.ae, facts.calling_ae_title, facts.association_id, secret).model_dump_json()
        return spool.make_batches(folder, [(Target(one, start), heads) for one, heads in addressed.items()])

    def end(
        self, node_id: str, folder: AssociationFolder, outcome: AssociationOutcome, instances: int
    ) -> AssociationEnd:
        """What a workflow is told of an association's end.

        Args:
            instances: All instances of the association that were addressed to this workflow.
        """
        facts, record = folder.facts, folder.outcome
        return AssociationEnd(
            association_id=facts.association_id,
            node_id=node_id,
            sender_key=grouping.sender_key(self._secret(), facts.calling_ae_title, facts.called_ae_title),
            outcome=outcome if record is None else record.outcome,
            instances=instances,
            failed_instances=folder.failed_instances if record is None else record.failed_instances,
        )

    def of_arriving(self, folder: AssociationFolder, file: Path) -> str | None:
        """The window of an arriving instance, by what is in its file yet; None when that tells nothing.

        Raises:
            FileNotFoundError: It has been stored meanwhile.
        """
        facts = folder.facts
        tags = _tags(facts.ae)
        head = read_head(file, tags)
        if tags and _value(head, facts.ae) is None:
            return None
        return self._workflow_id(facts.ae, facts.association_id, head, self._secret())

    def _workflow_id(self, ae: PinnedAeTitle, association_id: str, head: Head, secret: bytes) -> str:
        return grouping.workflow_id(ae, association_id, _value(head, ae), secret)


def _tags(ae: PinnedAeTitle) -> tuple[str, ...]:
    windowed = grouping.is_windowed(ae) and ae.group_by != grouping.NO_GROUPING
    return (ae.group_by,) if windowed else ()


def _value(head: Head, ae: PinnedAeTitle) -> str | None:
    values = head.values.get(ae.group_by, ())
    return "\\".join(values) or None


def _head(instance: StoredInstance, ae: PinnedAeTitle) -> Head:
    tags = _tags(ae)
    try:
        return read_head(instance.path, tags)
    except ValueError:  # a grouping tag that is none; checked where AE titles are configured, but not by us
        return read_head(instance.path)
    except OSError as error:
        if error.errno not in (errno.EIO, errno.ENOENT):
            raise  # may pass
        # a bad sector, or a file that somebody deleted: it must not keep the others back, so it goes on as unreadable
        log.error("stored_instance_damaged", path=str(instance.path), error=str(error))
        return Head(readable=False)


def _instance_head(instance: StoredInstance, head: Head) -> InstanceHead:
    return InstanceHead(
        stored=instance,
        study_instance_uid=head.study_instance_uid,
        series_instance_uid=head.series_instance_uid,
        readable=head.readable,
    )
