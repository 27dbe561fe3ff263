"""``clara dicom spool``: what lies on this node's disk and whose it is, and taking over an orphaned spool."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import duration, print_json, print_table, say, size
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.errors import SpoolUnusable

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
