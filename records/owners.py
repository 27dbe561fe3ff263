"""How an owner of the spool is named in the records."""

from typing import Protocol

from clara_dicom_adapter.workflows.models import Owner


class StoredInstance(Protocol):
    """What the records need of an instance in a spool (``spool.SpooledInstance``, which stands above this room)."""

    @property
    def association_id(self) -> str: ...
    @property
    def sequence(self) -> int: ...
    @property
    def received_ns(self) -> int: ...
    @property
    def sop_class_uid(self) -> str: ...
    @property
    def sop_instance_uid(self) -> str: ...
    @property
    def study_instance_uid(self) -> str: ...
    @property
    def series_instance_uid(self) -> str: ...
    @property
    def bytes(self) -> int: ...


def owner_id(owner: Owner) -> str:
    """The id of a reception; a submission, which has no run, is named by its workflow id alone.

    The end of the run id tells runs apart: its beginning is a time, equal in runs that follow each other closely.
    """
    if not owner.run_id:
        return owner.workflow_id
    return f"{owner.workflow_id}.{owner.run_id[-12:]}.{owner.group}"
