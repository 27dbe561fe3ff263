"""Which resources are in force, without any server: the same whatever the order in which they come."""

import random
from typing import Any

from clara_dicom_adapter.resources.keeping import told, untold
from clara_dicom_adapter.resources.kinds import CLARA_AE_TITLE, DESTINATION, SOURCE
from clara_dicom_adapter.resources.verdicts import Judge, Reason


def made(name: str, age: int, generation: int = 1, /, **spec: Any) -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "uid": f"uid-{name}",
            "generation": generation,
            "creationTimestamp": f"2026-01-01T00:00:{age:02}Z",
        },
        "spec": spec,
    }


def test_the_verdict_does_not_depend_on_the_order() -> None:
    resources = [
        made("b", 1, aeTitle="CT1", hostIp="Host"),
        made("a", 2, aeTitle="CT1", hostIp="host"),
        made("d", 3, aeTitle="CT2", hostIp="host"),
        made("c", 3, aeTitle="CT2", hostIp="host"),
        made("e", 0, aeTitle="", hostIp="host"),
    ]
    for _ in range(20):
        random.shuffle(resources)
        verdicts = Judge(SOURCE).judge(resources)
        assert {name: verdict.reason for name, verdict in verdicts.items()} == {
            "b": Reason.ACCEPTED,
            "a": Reason.CONFLICT,
            "c": Reason.ACCEPTED,
            "d": Reason.CONFLICT,
            "e": Reason.INVALID,
        }


def test_what_is_not_accepted_claims_nothing() -> None:
    """The second claims the first's AE title and a name of its own, which is free for the third."""
    settings = {"pipeline-x": "p"}
    verdicts = Judge(CLARA_AE_TITLE).judge(
        [
            made("first", 1, aeTitle="A", processorSettings=settings),
            made("second", 2, aeTitle="A", name="n", processorSettings=settings),
            made("third", 3, aeTitle="B", name="n", processorSettings=settings),
        ]
    )
    assert [verdicts[name].reason for name in ("first", "second", "third")] == [
        Reason.ACCEPTED,
        Reason.CONFLICT,
        Reason.ACCEPTED,
    ]
    assert verdicts["second"].message == "AE title A belongs to ClaraAeTitle first already, which is older."


def test_a_resource_is_understood_anew_when_it_changes() -> None:
    judge = Judge(DESTINATION)
    assert judge.judge([made("x", 1, aeTitle="A", hostIp="h", port=0)])["x"].reason is Reason.INVALID
    assert judge.judge([made("x", 1, 2, aeTitle="A", hostIp="h", port=1)])["x"].reason is Reason.ACCEPTED


def test_a_condition_is_written_only_when_it_says_something_new() -> None:
    judge = Judge(SOURCE)
    resource = made("x", 1, aeTitle="CT1", hostIp="h")
    conditions = told(judge.judge([resource])["x"])
    assert conditions is not None
    [condition] = conditions
    assert (condition["type"], condition["status"], condition["observedGeneration"]) == ("Accepted", "True", 1)

    resource["status"] = {"conditions": [{**condition, "lastTransitionTime": "2025-01-01T00:00:00Z"}]}
    assert told(judge.judge([resource])["x"]) is None

    resource["metadata"]["generation"] = 2
    again = told(judge.judge([resource])["x"])
    assert again is not None
    assert again[0]["observedGeneration"] == 2
    assert again[0]["lastTransitionTime"] == "2025-01-01T00:00:00Z", "it was accepted all the time"


def test_who_has_just_changed_one_is_told_before_thousands_that_came_at_once() -> None:
    changed = made("changed", 0, 2, aeTitle="CT0", hostIp="h")
    changed["status"] = {"conditions": [{"type": "Accepted", "status": "True", "observedGeneration": 1}]}
    many = [made(f"s{number}", number, aeTitle=f"S{number}", hostIp="h") for number in range(3)]
    verdicts = Judge(SOURCE).judge([*many, changed])
    assert [verdict.name for verdict in untold(verdicts.values())] == ["changed", "s2", "s1", "s0"]


def test_a_thousand_are_judged_once_and_then_remembered() -> None:
    """A change of one costs no new understanding of the others."""
    understood = []

    def entity(resource: Any) -> Any:
        understood.append(resource["metadata"]["name"])
        return SOURCE.entity(resource)

    judge = Judge(type(SOURCE)(**{**vars(SOURCE), "entity": entity}))
    resources = [made(f"s{number}", 1, aeTitle=f"S{number}", hostIp="h") for number in range(1000)]
    judge.judge(resources)
    resources[7]["metadata"]["generation"] = 2
    judge.judge(resources)
    assert len(understood) == 1001
