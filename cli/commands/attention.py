"""``clara dicom attention``, ``retry`` and ``discard``: what waits for a person, and the person's answer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table, say, to_stderr
from clara_dicom_adapter.cli.place import Place

if TYPE_CHECKING:
    from clara_dicom_adapter.api.workflows import Request
    from clara_dicom_adapter.cli.commands.parked import Outcome

Id = Annotated[
    str | None,
    typer.Argument(metavar="[ID]", help="Of a workflow, reception, submission or export task, as `attention` shows."),
]
All = Annotated[bool, typer.Option("--all", help="Everything that waits for a person.")]
Item = Annotated[str | None, typer.Option(help="Only this job (its key) or destination (its name).")]


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    group.command(rich_help_panel="Look")(attention)
    group.command(rich_help_panel="Look", epilog=examples("retry"))(retry)
    group.command(rich_help_panel="Look", epilog=examples("discard"))(discard)


def attention(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show what waits for a person: what the platform refused, what was quarantined, exports that failed for good."""
    from clara_dicom_adapter.cli.commands import parked

    found = parked.find(Place(data_dir, config))
    if as_json:
        print_json(found)
        return
    print_table(
        ("since", "kind", "id", "AE title", "instances", "item", "why"),
        [(each.since, each.kind, each.id, each.ae_title, each.instances, each.item, each.why) for each in found],
        empty="nothing waits for a person",
    )
    if found:
        to_stderr("`clara dicom retry ID` goes on with it, `clara dicom discard ID` gives it up; --all for everything")


def retry(
    data_dir: DataDir,
    identifier: Id = None,
    *,
    everything: All = False,
    item: Item = None,
    to: Annotated[
        str | None, typer.Option(help="Of an export: the destination that gets everything instead of the item.")
    ] = None,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Go on with what waits: what was refused is tried again, a quarantined group is submitted."""
    from clara_dicom_adapter.cli.commands import parked
    from clara_dicom_adapter.workflows.models import RetryInput, SendElsewhereInput

    place = Place(data_dir, config)
    request: RetryInput | SendElsewhereInput = RetryInput(item=item)
    if to is not None:
        if everything:
            raise typer.BadParameter("say which export with its ID", param_hint="--to")
        request = SendElsewhereInput(destination=parked.destination(place, to), instead_of=item)
    _answer(place, identifier, request, everything=everything, as_json=as_json)


def discard(
    data_dir: DataDir,
    identifier: Id = None,
    *,
    everything: All = False,
    item: Item = None,
    reason: Annotated[str, typer.Option(help="Why; kept in the history. Name no patient.")] = "",
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Give up what waits; its instances are deleted."""
    from clara_dicom_adapter.workflows.models import DiscardInput

    request = DiscardInput(item=item, reason=reason)
    _answer(Place(data_dir, config), identifier, request, everything=everything, as_json=as_json)


def _answer(place: Place, identifier: str | None, request: Request, *, everything: bool, as_json: bool) -> None:
    from clara_dicom_adapter.cli.commands import parked

    if everything is (identifier is not None):
        raise typer.BadParameter("say which with an ID, or --all")
    workflows: Sequence[str]
    workflows = parked.waiting_workflows(place) if identifier is None else [parked.workflow_of(place, identifier)]
    outcomes = parked.answer(place, workflows, request)
    if as_json:
        print_json(outcomes)
    else:
        _print(outcomes)
    raise typer.Exit(0 if all(outcome.done for outcome in outcomes) else 1)


def _print(outcomes: Sequence[Outcome]) -> None:
    if not outcomes:
        say("nothing waits for a person")
    for outcome in outcomes:
        line = f"{outcome.workflow_id}: {outcome.message}"
        if outcome.done:
            say(line)
        else:
            to_stderr(line)
