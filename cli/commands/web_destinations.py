"""``clara dicom create``, ``list`` and ``delete`` ``dicomweb``: destinations that take results by STOW-RS."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from clara_dicom_adapter.cli.commands.entities import create, delete, lists
from clara_dicom_adapter.cli.examples import examples
from clara_dicom_adapter.cli.options import Config, DataDir, Json
from clara_dicom_adapter.cli.output import print_json, print_table, say, to_stderr
from clara_dicom_adapter.cli.place import Place

if TYPE_CHECKING:
    from pathlib import Path

    from clara_dicom_adapter.configuration.web_destinations import WebDestinations

Name = Annotated[str, typer.Option("--name", "-n", help="Name that pipelines send results to.")]


def add_to(group: typer.Typer) -> None:
    """Add these commands."""
    del group
    create.command("dicomweb", epilog=examples("create", "dicomweb"))(create_web_destination)
    lists.command("dicomweb")(list_web_destinations)
    delete.command("dicomweb")(delete_web_destination)


@contextmanager
def _store(data_dir: Path, config: Path | None, *, create_folder: bool = False) -> Iterator[WebDestinations]:
    from clara_dicom_adapter.configuration.web_destinations import WebDestinations

    with Place(data_dir, config).database(create=create_folder) as engine:
        yield WebDestinations(engine)


def create_web_destination(
    data_dir: DataDir,
    *,
    name: Name,
    url: Annotated[str, typer.Option("--url", help="Base of the service; /studies is added to it.")],
    user: Annotated[str | None, typer.Option(help="HTTP Basic: the user.")] = None,
    password_file: Annotated[str | None, typer.Option(help="HTTP Basic: file with the password.")] = None,
    token_file: Annotated[str | None, typer.Option(help="Bearer: file with the token.")] = None,
    token_url: Annotated[str | None, typer.Option(help="OAuth 2.0 client credentials: the token server.")] = None,
    client_id: Annotated[str | None, typer.Option(help="OAuth 2.0: who we are.")] = None,
    client_secret_file: Annotated[str | None, typer.Option(help="OAuth 2.0: file with the secret.")] = None,
    scope: Annotated[str | None, typer.Option(help="OAuth 2.0: what is asked for.")] = None,
    token_ca: Annotated[str | None, typer.Option("--token-tls-ca", help="The token server's authorities, PEM.")] = None,
    token_certificate: Annotated[
        str | None, typer.Option("--token-tls-certificate", help="Our certificate for the token server, PEM.")
    ] = None,
    token_key: Annotated[str | None, typer.Option("--token-tls-key", help="Its key, PEM.")] = None,
    token_name: Annotated[
        str | None, typer.Option("--token-tls-name", help="Name in the token server's certificate.")
    ] = None,
    ca_file: Annotated[str | None, typer.Option("--tls-ca", help="Authorities to trust, PEM.")] = None,
    certificate_file: Annotated[str | None, typer.Option("--tls-certificate", help="Our certificate, PEM.")] = None,
    key_file: Annotated[str | None, typer.Option("--tls-key", help="Its key, PEM.")] = None,
    server_name: Annotated[str | None, typer.Option("--tls-name", help="Name in its certificate.")] = None,
    requests: Annotated[int, typer.Option(help="How many it may be sent at once.")] = 2,
    config: Config = None,
) -> None:
    """Add a destination that takes results by DICOMweb (STOW-RS)."""
    from clara_dicom_adapter.configuration import checks, in_the_clear

    kinds: dict[str, dict[str, object]] = {
        "basic": {"user": user, "passwordFile": password_file},
        "bearer": {"tokenFile": token_file},
        "oauth2": {
            "tokenUrl": token_url,
            "clientId": client_id,
            "clientSecretFile": client_secret_file,
            "scope": scope,
            "tokenTls": _tls(token_ca, token_certificate, token_key, token_name),
        },
    }
    given = [kind for kind, values in kinds.items() if any(values.values())]
    if len(given) > 1:
        raise typer.BadParameter(f"say who we are in one way, not by {' and '.join(given)}")
    entity = checks.web_destination(
        {
            "name": name,
            "url": url,
            "authentication": {"kind": given[0], **kinds[given[0]]} if given else None,
            "tls": _tls(ca_file, certificate_file, key_file, server_name),
            "maximumRequests": requests,
        }
    )
    with _store(data_dir, config, create_folder=True) as store:
        store.add(entity)
    say(f"destination {entity.name} added: {entity.url}")
    if warning := in_the_clear.warning(entity):
        to_stderr(f"warning: {warning}")


def _tls(*values: str | None) -> dict[str, str | None] | None:
    names = ("caFile", "certificateFile", "keyFile", "serverName")
    return dict(zip(names, values, strict=True)) if any(values) else None


def list_web_destinations(data_dir: DataDir, config: Config = None, as_json: Json = False) -> None:
    """Show where results can be sent to by DICOMweb."""
    with _store(data_dir, config) as store:
        found = store.all()
    if as_json:
        print_json(found)
        return
    print_table(
        ("name", "url", "authentication", "requests"),
        [
            (each.name, each.url, each.authentication.kind if each.authentication else "none", each.maximum_requests)
            for each in found
        ],
        empty="no DICOMweb destinations: `clara dicom create dicomweb -n NAME --url URL` adds one",
    )


def delete_web_destination(data_dir: DataDir, name: Name, config: Config = None) -> None:
    """Remove a DICOMweb destination."""
    with _store(data_dir, config) as store:
        removed = store.remove(name)
    say(f"destination {removed.name} removed")
