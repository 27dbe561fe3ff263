"""``clara dicom spool``: what lies on this node's disk and whose it is; copies of it; taking over an orphaned spool."""

from __future__ import annotations

from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import duration, print_json, print_table, say, size, to_stderr
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.errors import AdapterError, SpoolUnusable

if TYPE_CHECKING:
    from clara_dicom_adapter.spool.inventory import ListedAssociation

group = typer.Typer(no_args_is_help=True)


def add_to(parent: typer.Typer) -> None:
    """Add these commands."""
    parent.add_typer(group, name="spool", help="What lies on this node's disk, and whose it is.")


@group.command()
def show(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show the spool in figures, and who owns what is in it."""
    from clara_dicom_adapter.spool import Spool, SpoolRole
    from clara_dicom_adapter.spool.space import StorageSpace

    place = Place(data_dir, config)
    if not (place.spool / "node.json").exists():
        raise SpoolUnusable(f"{place.spool} holds no spool; nothing was ever received here")
    with Spool.open(place.spool, SpoolRole.TOOL) as spool:
        node_id, usage, owners = spool.node_id, spool.usage(), spool.owners()
    space = StorageSpace(place.spool, place.settings.storage).measure()
    if as_json:
        told = [
            {"workflow_id": each.owner.workflow_id, "instances": each.instances, "bytes": each.bytes} for each in owners
        ]
        print_json(
            {
                "path": place.spool,
                "node_id": node_id,
                "usage": usage,
                "space": {**asdict(space), "available": space.available},
                "owners": told,
            }
        )
        return
    say(f"{place.spool}, node {node_id}")
    oldest = f", the oldest {duration(usage.oldest_seconds)} ago" if usage.instances else ""
    say(f"{usage.instances} instances, {size(usage.bytes)}{oldest}")
    say(f"{usage.unhanded} not handed over, {usage.unclaimed} not claimed, {usage.parked} parked")
    verdict = "accepts" if space.available else "refuses: the disk is beyond its watermark"
    say(f"disk: {size(space.free_bytes)} free, {size(space.reserved_bytes)} must stay free; {verdict}")
    print_table(
        ("owner", "instances", "size"),
        [(each.owner.workflow_id, each.instances, size(each.bytes)) for each in owners],
        empty="nobody owns anything",
    )


@group.command("list")
def list_associations(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """List the associations in the spool: what lies there of each, and what it waits for."""
    from clara_dicom_adapter.spool.inventory import Inventory

    with Inventory(Place(data_dir, config).spool) as inventory:
        listed = list(inventory.associations())
        set_aside = inventory.set_aside()
    if inventory.index_problem:
        to_stderr(f"{inventory.index_problem}; who owns what is not known")
    if set_aside:
        files = "damaged file lies" if len(set_aside) == 1 else "damaged files lie"
        to_stderr(f"{len(set_aside)} {files} in {set_aside[0].parent}; `clara dicom spool verify` names them")
    if as_json:
        print_json(listed)
        return
    now = datetime.now(UTC)
    print_table(
        ("association", "calling", "called", "peer", "age", "instances", "size", "state"),
        [
            (
                each.association_id,
                each.calling_ae_title,
                each.called_ae_title,
                each.peer,
                duration((now - each.started_at).total_seconds()) if each.started_at else "",
                each.instances,
                size(each.bytes),
                _state(each),
            )
            for each in listed
        ],
        empty="the spool is empty",
    )


def _state(association: ListedAssociation) -> str:
    """Who owns an association, or what it waits for; each with a count when instances differ."""
    parts: dict[str, int] = {stage: count for stage, count in association.stages.items() if stage != "owned"}
    parts |= {f"owned by {owner}": count for owner, count in association.owners.items()}
    if association.stage == "arriving":
        return ", ".join(["arriving", *(f"{count} {what}" for what, count in parts.items())])
    if len(parts) > 1:
        return ", ".join(f"{count} {what}" for what, count in parts.items())
    return next(iter(parts), association.stage)


@group.command()
def verify(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Read everything in the spool, and tell what is damaged, incomplete, or unknown to the index; then status 1."""
    from clara_dicom_adapter.spool import verification
    from clara_dicom_adapter.spool.inventory import Inventory

    with Inventory(Place(data_dir, config).spool) as inventory:
        found = verification.verify(inventory)
    if as_json:
        print_json(found)
    else:
        say(f"{found.instances} instances of {found.associations} associations read, {size(found.bytes)}")
        if found.on_their_way:
            say(f"{found.on_their_way} have just come, and are not in the index yet")
        for each in found.problems:
            say(f"{each.path}: {each.problem}")
        say("nothing is wrong" if not found.problems else f"{len(found.problems)} problems")
    raise typer.Exit(1 if found.problems else 0)


@group.command()
def export(
    *,
    data_dir: DataDir,
    to: Annotated[Path, typer.Option("--to", help="Folder, new or empty, that the copies go to.", file_okay=False)],
    what: Annotated[
        list[str] | None,
        typer.Argument(metavar="[ID]...", help="Associations, or UIDs of studies, series or SOP instances."),
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="Everything in the spool.")] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Copy instances out of the spool as DICOM files; nothing in it is changed or deleted."""
    from clara_dicom_adapter.spool.export import export as copy
    from clara_dicom_adapter.spool.inventory import Inventory

    if bool(what) == everything:
        raise typer.BadParameter("say what to export: ids, or --all")
    with Inventory(Place(data_dir, config).spool) as inventory:
        try:
            done = copy(inventory, to.absolute(), what or None)
        except OSError as error:
            raise AdapterError(f"cannot write to {to}: {error.strerror}") from error
    if as_json:
        print_json(done)
    else:
        say(f"{done.instances} instances copied to {to}, {size(done.bytes)}")
    for path, reason in done.failed.items():
        to_stderr(f"{path} was not copied: {reason}")
    for each in done.unknown:
        to_stderr(f"nothing of {each} is in the spool")
    raise typer.Exit(1 if done.failed or done.unknown else 0)


@group.command()
def adopt(
    data_dir: DataDir,
    path: Annotated[
        Path, typer.Argument(exists=True, file_okay=False, help="The other spool (the folder of node.json).")
    ],
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Take over everything in the spool of a node that will not come back.

    The running adapter hands it over at its next scan; a worker that runs answers for the other node after a restart.
    """
    from clara_dicom_adapter.spool import Spool, SpoolRole

    place = Place(data_dir, config)
    with Spool.open(place.spool, SpoolRole.TOOL) as spool:
        adopted = spool.adopt(path.absolute())
    if as_json:
        print_json(adopted)
    else:
        say(f"{adopted.instances} instances of {adopted.associations} associations of node {adopted.node_id} are ours")
        say("restart the adapter (`clara dicom stop`, then `start`) so that its worker answers for that node")
