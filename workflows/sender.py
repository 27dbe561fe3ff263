"""The sender of a group whose association broke off may come back: the later group then takes the earlier one over."""

from collections.abc import Callable

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from clara_dicom_adapter.activities.reception import ReceptionActivities
    from clara_dicom_adapter.temporal.attributes import State
    from clara_dicom_adapter.workflows import policies
    from clara_dicom_adapter.workflows.models import (
        EndHoldInput,
        HoldInput,
        MergeHeldInput,
        Owner,
        ReceiveInput,
        SenderIsBackInput,
        TakeOverInput,
    )

from clara_dicom_adapter.workflows.group import LOOK_AGAIN_SECONDS, Group
from clara_dicom_adapter.workflows.nodes import happened, on_node


class Sender:
    """Who sends one group, and what that group has to do with the earlier and later ones of the same sender.

    Args:
        start: Says who it is.
        group: The group; what it takes over is counted in it.
        owner: As whom the group owns its instances.
        show: Shows operators the state of the group.

    Attributes:
        merged_away: A later group has taken this one over.
    """

    def __init__(self, start: ReceiveInput, group: Group, owner: Owner, show: Callable[[State], None]) -> None:
        self.merged_away = False
        self._key = start.sender_key
        self._association_id = start.association_id or ""
        self._group = group
        self._owner = owner
        self._show = show

    async def merge_held(self) -> None:
        """Take over what this sender left behind when an earlier association of the same study broke off."""
        if not self._key or not self._group.nodes:
            return
        node_id = next(iter(self._group.nodes))
        found = await on_node(
            ReceptionActivities.merge_held,
            MergeHeldInput(
                owner=self._owner, sender_key=self._key, association_id=self._association_id, node_id=node_id
            ),
            node_id,
            self._waiting_for_node,
        )
        self._group.awaited = found.awaited
        for held in found.groups:
            for node in held.nodes:
                now_mine = await on_node(
                    ReceptionActivities.take_over,
                    TakeOverInput(owner=held.owner, new_owner=self._owner, node_id=node.node_id),
                    node.node_id,
                    self._waiting_for_node,
                )
                self._group.owns(node.node_id, now_mine.instances, now_mine.bytes, now_mine.node_ids)
            try:
                await workflow.get_external_workflow_handle(held.owner.workflow_id).signal("merged")
            except FailureError:
                workflow.logger.debug("the held workflow has ended meanwhile")

    async def hold(self) -> bool:
        """Wait for the sender to come back; True when another group has taken over."""
        node_id = next(iter(self._group.nodes))
        await on_node(
            ReceptionActivities.hold,
            HoldInput(
                owner=self._owner,
                sender_key=self._key,
                node_id=node_id,
                nodes=tuple(self._group.nodes.values()),
            ),
            node_id,
            self._waiting_for_node,
        )
        self._show(State.HELD)
        await happened(lambda: self.merged_away, self._group.ae.interrupted_hold_seconds)
        await self._let_arrive(node_id)
        end = await workflow.execute_local_activity_method(
            ReceptionActivities.end_hold, EndHoldInput(owner=self._owner), **policies.LOCAL
        )
        if end.merged_into is None:
            return False
        for node_id in self._group.nodes:
            # usually done by the one who took over; not when it died in between
            await on_node(
                ReceptionActivities.take_over,
                TakeOverInput(owner=self._owner, new_owner=end.merged_into, node_id=node_id),
                node_id,
                self._waiting_for_node,
            )
        return True

    async def _let_arrive(self, node_id: str) -> None:
        """Give what has come back, and has not looked here yet, the time to do so: at most as long as another hold."""
        until = workflow.time() + self._group.ae.interrupted_hold_seconds
        while not self.merged_away and workflow.time() < until:
            back = await on_node(
                ReceptionActivities.sender_is_back,
                SenderIsBackInput(
                    owner=self._owner, sender_key=self._key, association_id=self._association_id, node_id=node_id
                ),
                node_id,
                lambda away: self._show(State.WAITING_FOR_NODE if away else State.HELD),
            )
            if not back.associations:
                return
            await happened(lambda: self.merged_away, LOOK_AGAIN_SECONDS)

    def _waiting_for_node(self, away: bool) -> None:
        self._show(State.WAITING_FOR_NODE if away else State.RECEIVING)
