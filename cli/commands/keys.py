"""``clara dicom key create|list|revoke``: who may use the REST interface."""

from __future__ import annotations

import os
from datetime import timedelta
from typing import Annotated

import typer

from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table, say, to_stderr
from clara_dicom_adapter.cli.place import Place
from clara_dicom_adapter.configuration.roles import Role

keys = typer.Typer(no_args_is_help=True)


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    group.add_typer(keys, name="key", help="Make, show and revoke keys to the REST interface.")


@keys.command(epilog=examples("key", "create"))
def create(
    data_dir: DataDir,
    *,
    name: Annotated[str, typer.Argument(help="Whose it is; in logs and lists.")],
    role: Annotated[Role, typer.Option(help="What it may do: each may do what those before it may.")] = Role.READ,
    days: Annotated[
        float | None, typer.Option(min=0, help="How long it counts; without it, until it is revoked.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Also keep it in the data folder, for commands with --url.")
    ] = False,
    config: Config = None,
    as_json: Json = False,
) -> None:
    """Make a key; it is shown this once."""
    from clara_dicom_adapter.cli.remote import KEY_FILE
    from clara_dicom_adapter.configuration.api_keys import ApiKeys

    place = Place(data_dir, config)
    with place.database(create=True) as engine:
        key, text = ApiKeys(engine).create(name, role, timedelta(days=days) if days else None)
    if save:
        file = place.data.root / KEY_FILE
        file.unlink(missing_ok=True)
        descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
            stream.write(f"{text}\n")
        to_stderr(f"kept in {file}")
    if as_json:
        print_json({"name": key.name, "role": key.role, "key": text, "expiresAt": key.expires_at})
    else:
        say(text)
        to_stderr(f"this is the key of {key.name}, with the role {key.role.value}; it is not shown again")


@keys.command("list")
def list_keys(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show who has a key."""
    from clara_dicom_adapter.configuration.api_keys import ApiKeys

    with Place(data_dir, config).database() as engine:
        found = ApiKeys(engine).all()
    if as_json:
        print_json(
            [
                {"name": key.name, "role": key.role, "createdAt": key.created_at, "expiresAt": key.expires_at}
                for key in found
            ]
        )
        return
    print_table(
        ("name", "role", "made", "expires"),
        [(key.name, key.role.value, key.created_at, "expired" if key.expired else key.expires_at) for key in found],
        empty="no keys: `clara dicom key create NAME --role configure` makes one",
    )


@keys.command()
def revoke(data_dir: DataDir, name: Annotated[str, typer.Argument()], config: Config = None) -> None:
    """Let a key count no longer, at once."""
    from clara_dicom_adapter.configuration.api_keys import ApiKeys

    with Place(data_dir, config).database() as engine:
        key = ApiKeys(engine).revoke(name)
    say(f"key {key.name} revoked")
