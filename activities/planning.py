"""From the instances of a closed group to the jobs that its processor wants: no I/O here."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from clara_dicom_adapter.configuration.processors import GroupedInstance, InstanceGroup, JobProcessor, JobRequest
from clara_dicom_adapter.workflows.models import JobPlan


@dataclass(frozen=True, slots=True)
class Plan:
    """Jobs, and the named sets of instances that they are made of.

    Attributes:
        selections: Name to instances; jobs with the same instances share one.
        declined: How many instances stand in no job: duplicates, and what the processor does not want.
    """

    jobs: Sequence[JobPlan]
    selections: Mapping[str, Sequence[GroupedInstance]]
    declined: int


def plan(processor: JobProcessor, group: InstanceGroup, *, overwrite_same_instance: bool) -> Plan:
    """Ask the processor about a group in which every SOP instance stands once."""
    once = without_duplicates(group.instances, overwrite_same_instance=overwrite_same_instance)
    asked = InstanceGroup(group.ae_title, group.calling_ae_title, group.incomplete, once)
    jobs: list[JobPlan] = []
    selections: dict[str, Sequence[GroupedInstance]] = {}
    names: dict[frozenset[tuple[str, int]], str] = {}
    for request in processor.jobs(asked):
        if not request.instances:
            continue
        members = frozenset((instance.association_id, instance.sequence) for instance in request.instances)
        name = names.setdefault(members, f"set-{len(names) + 1}")
        selections.setdefault(name, request.instances)
        jobs.append(_job(request, name, taken={job.key for job in jobs}))
    used = {(instance.association_id, instance.sequence) for chosen in selections.values() for instance in chosen}
    return Plan(jobs, selections, declined=len(group.instances) - len(used))


def without_duplicates(instances: Iterable[GroupedInstance], *, overwrite_same_instance: bool) -> list[GroupedInstance]:
    """Every SOP instance UID once: the first received, or the last when the AE title overwrites (DESIGN 4)."""
    ordered = sorted(instances, key=lambda each: (each.received_at, each.node_id, each.association_id, each.sequence))
    kept: dict[str, GroupedInstance] = {}
    for instance in ordered:
        if overwrite_same_instance or instance.sop_instance_uid not in kept:
            kept[instance.sop_instance_uid] = instance
    return list(kept.values())


def _job(request: JobRequest, selection: str, taken: set[str]) -> JobPlan:
    key, number = request.name, 2
    while key in taken:
        key, number = f"{request.name}-{number}", number + 1
    return JobPlan(
        key=key,
        pipeline=request.pipeline,
        priority=request.priority,
        selection=selection,
        instances=len(request.instances),
        bytes=sum(instance.bytes for instance in request.instances),
        nodes=tuple(sorted({instance.node_id for instance in request.instances})),
    )
