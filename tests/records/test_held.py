"""A held group is merged exactly once or expires exactly once, whoever asks at the same time."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from sqlalchemy import Engine

from clara_dicom_adapter.records.held import HeldGroups
from clara_dicom_adapter.workflows.models import HeldGroup, HeldNode, Owner

NODES = (HeldNode(node_id="n1", instances=3, bytes=30),)


def owner(name: str) -> Owner:
    return Owner(workflow_id=f"receive-CT-{name}", run_id=f"run-{name}", group=1)


def test_who_comes_back_gets_what_it_left_and_the_holder_is_told(engine: Engine) -> None:
    held = HeldGroups(engine)
    held.register(owner("a"), "sender", frozenset({"s1", "s2"}), NODES)
    expected = [HeldGroup(owner=owner("a"), nodes=NODES)]
    assert held.take(owner("b"), "sender", frozenset({"s2"})) == expected
    assert held.take(owner("b"), "sender", frozenset({"s2"})) == expected
    assert held.take(owner("c"), "sender", frozenset({"s2"})) == []
    assert held.expire(owner("a")) == owner("b")
    held.register(owner("a"), "sender", frozenset({"s1"}), NODES)
    assert held.take(owner("c"), "sender", frozenset({"s1"})) == []


def test_another_sender_another_study_and_oneself_get_nothing(engine: Engine) -> None:
    held = HeldGroups(engine)
    held.register(owner("a"), "sender", frozenset({"s1"}), NODES)
    assert held.take(owner("b"), "other", frozenset({"s1"})) == []
    assert held.take(owner("b"), "sender", frozenset({"s2"})) == []
    assert held.take(owner("a"), "sender", frozenset({"s1"})) == []
    assert held.expire(owner("a")) is None
    assert held.take(owner("b"), "sender", frozenset({"s1"})) == []
    assert held.expire(owner("a")) is None


def test_a_group_is_known_from_its_hold_on_whatever_became_of_it(engine: Engine) -> None:
    held = HeldGroups(engine)
    assert not held.knows(owner("a"))
    held.register(owner("a"), "sender", frozenset({"s1"}), NODES)
    assert held.knows(owner("a"))
    held.expire(owner("a"))
    assert held.knows(owner("a"))
    assert not held.knows(Owner(workflow_id=owner("a").workflow_id, run_id="another", group=1))


def test_a_hold_that_was_never_registered_ends_without_a_taker(engine: Engine) -> None:
    assert HeldGroups(engine).expire(owner("x")) is None


def test_of_many_who_ask_at_once_exactly_one_has_each_group(engine: Engine) -> None:
    """Eight takers and the expiry race for each of ten groups."""
    held = HeldGroups(engine)
    study = frozenset({"s"})
    for number in range(10):
        held.register(owner(f"a{number}"), f"sender{number}", study, NODES)
    takers = 8
    start = Barrier(takers + 1)

    def take(taker: int) -> list[str]:
        start.wait()
        return [
            group.owner.workflow_id
            for number in range(10)
            for group in held.take(owner(f"t{taker}"), f"sender{number}", study)
            if group.owner == owner(f"a{number}")
        ]

    def expire() -> list[Owner | None]:
        start.wait()
        return [held.expire(owner(f"a{number}")) for number in reversed(range(10))]

    with ThreadPoolExecutor(takers + 1) as pool:
        taking = [pool.submit(take, taker) for taker in range(takers)]
        expired = pool.submit(expire).result()
        taken = [set(future.result()) for future in taking]
    for number, taker in enumerate(reversed(expired)):
        who_has_it = [
            f"receive-CT-t{index}" for index, got in enumerate(taken) if owner(f"a{number}").workflow_id in got
        ]
        assert who_has_it == ([taker.workflow_id] if taker else [])
