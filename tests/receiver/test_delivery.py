"""Letters to ReceiveWorkflows: a real Temporal server records them in the workflow's history."""

import uuid

import pytest
from support.receiving import Temporal
from temporalio.client import Client
from temporalio.contrib.pydantic import pydantic_data_converter

from clara_dicom_adapter.receiver.delivery import Delivery
from clara_dicom_adapter.receiver.metrics import ReceiverMetrics
from clara_dicom_adapter.workflows.models import (
    AssociationEnd,
    AssociationOutcome,
    BatchRef,
    HandOver,
    PinnedAeTitle,
    ReceiveInput,
)

START = ReceiveInput(
    ae=PinnedAeTitle(ae_title="CLARA", name="c", processor="p", timeout_seconds=0),
    calling_ae_title="CT1",
    association_id="a1",
)
END = AssociationEnd(
    association_id="a1", node_id="n1", sender_key="k", outcome=AssociationOutcome.RELEASED, instances=3
)


def batch(number: int) -> BatchRef:
    return BatchRef(batch_id=f"b{number}", node_id="n1", association_id="a1", number=number, instances=1, bytes=10)


@pytest.fixture
async def temporal(temporal_server: str) -> Temporal:
    return Temporal(await Client.connect(temporal_server, data_converter=pydantic_data_converter))


@pytest.fixture
def workflow_id() -> str:
    return f"receive-CLARA-{uuid.uuid4().hex}"


async def test_batches_and_end_ride_in_one_signal_that_starts_the_workflow(
    temporal: Temporal, workflow_id: str
) -> None:
    told: list[tuple[str, HandOver]] = []
    delivery = Delivery(temporal.connect, lambda one, letter: told.append((one, letter)), ReceiverMetrics())
    delivery.post(workflow_id, START, [batch(1), batch(2)], END)
    assert await delivery.wait_until_idle(20)
    assert await temporal.letters(workflow_id) == [HandOver(batches=(batch(1), batch(2)), ended=END)]
    assert told == [(workflow_id, HandOver(batches=(batch(1), batch(2)), ended=END))]
    assert delivery.waiting == 0


async def test_a_burst_becomes_few_signals_and_the_end_comes_last(temporal: Temporal, workflow_id: str) -> None:
    delivery = Delivery(temporal.connect, lambda one, letter: None, ReceiverMetrics())
    for number in range(250):
        delivery.post(workflow_id, START, [batch(number)], None)
    delivery.post(workflow_id, START, [], END)
    assert await delivery.wait_until_idle(20)
    letters = await temporal.letters(workflow_id)
    assert [one.batch_id for letter in letters for one in letter.batches] == [f"b{n}" for n in range(250)]
    assert len(letters) == 3
    assert [letter.ended for letter in letters] == [None, None, END]


async def test_what_cannot_be_told_waits_and_is_told_when_temporal_is_back(
    temporal: Temporal, workflow_id: str
) -> None:
    temporal.gone = True
    delivery = Delivery(temporal.connect, lambda one, letter: None, ReceiverMetrics())
    others = [f"{workflow_id}-{n}" for n in range(20)]
    for other in others:
        delivery.post(other, START, [batch(1)], END)
    assert not await delivery.wait_until_idle(1.5)
    assert not delivery.reachable
    assert temporal.attempts < 60  # they wait behind one gate instead of each knocking
    temporal.gone = False
    assert await delivery.wait_until_idle(20)
    assert delivery.reachable
    for other in others:
        assert len(await temporal.letters(other)) == 1


async def test_an_end_without_batches_does_not_start_a_workflow(temporal: Temporal, workflow_id: str) -> None:
    """Its batches went before; a workflow that is not there any more has closed."""
    delivery = Delivery(temporal.connect, lambda one, letter: None, ReceiverMetrics())
    delivery.post(workflow_id, START, [], END)
    assert await delivery.wait_until_idle(20)
    await delivery.keep_alive(workflow_id)
    executions = [e async for e in temporal.client.list_workflows(f"WorkflowId = '{workflow_id}'")]
    assert executions == []


async def test_a_failure_to_note_acceptance_does_not_stop_the_next_letter(temporal: Temporal, workflow_id: str) -> None:
    def disk_full(_workflow_id: str, _letter: HandOver) -> None:
        raise OSError(28, "No space left on device")

    delivery = Delivery(temporal.connect, disk_full, ReceiverMetrics())
    delivery.post(workflow_id, START, [batch(1)], None)
    assert await delivery.wait_until_idle(20)
    delivery.post(workflow_id, START, [batch(2)], None)
    assert await delivery.wait_until_idle(20)
    assert len(await temporal.letters(workflow_id)) == 2
