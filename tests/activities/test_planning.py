"""Jobs of a group: duplicates, shared sets of instances, what is declined."""

from collections.abc import Iterable

from clara_dicom_adapter.activities.planning import plan, without_duplicates
from clara_dicom_adapter.configuration.processors import (
    GroupedInstance,
    InstanceGroup,
    JobProcessor,
    JobRequest,
    find,
)


def instance(number: int, uid: str, received_at: float = 0, node: str = "n1") -> GroupedInstance:
    return GroupedInstance(node, "a1", number, received_at or number, "1.2", uid, "1.3", "1.4", 10)


def group(*instances: GroupedInstance) -> InstanceGroup:
    return InstanceGroup("CLARA", "CT1", incomplete=False, instances=instances)


def test_the_first_of_a_duplicate_is_kept_and_with_overwrite_the_last() -> None:
    twice = [instance(3, "x"), instance(1, "x"), instance(2, "y")]
    assert [i.sequence for i in without_duplicates(twice, overwrite_same_instance=False)] == [1, 2]
    assert {i.sequence for i in without_duplicates(twice, overwrite_same_instance=True)} == {2, 3}


def test_equal_receive_times_are_decided_by_node_so_that_every_attempt_decides_alike() -> None:
    twice = [instance(1, "x", 5, "n2"), instance(9, "x", 5, "n1")]
    for order in (twice, twice[::-1]):
        assert [i.node_id for i in without_duplicates(order, overwrite_same_instance=False)] == ["n1"]


def test_pipelines_share_one_set_of_instances() -> None:
    processor = find("ae-title")({"pipeline-a": "A", "pipeline-b": "B"})
    made = plan(processor, group(instance(1, "x"), instance(2, "x"), instance(3, "y")), overwrite_same_instance=False)
    assert [(job.key, job.pipeline, job.selection, job.instances, job.bytes) for job in made.jobs] == [
        ("a", "A", "set-1", 2, 20),
        ("b", "B", "set-1", 2, 20),
    ]
    assert [i.sequence for i in made.selections["set-1"]] == [1, 3]
    assert made.declined == 1


class Picky(JobProcessor):
    """Asks for the same name twice, and leaves something out."""

    def jobs(self, group: InstanceGroup) -> Iterable[JobRequest]:
        yield JobRequest("same", "P", group.instances[:1])
        yield JobRequest("same", "P", group.instances[1:2])
        yield JobRequest("empty", "P", [])


def test_job_keys_are_unique_and_what_nobody_wants_is_declined() -> None:
    made = plan(Picky({}), group(*(instance(n, f"u{n}") for n in range(5))), overwrite_same_instance=False)
    assert [(job.key, job.selection) for job in made.jobs] == [("same", "set-1"), ("same-2", "set-2")]
    assert made.declined == 3
