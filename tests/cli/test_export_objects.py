"""``clara dicom list objects``, destinations with TLS, and sending to another destination, on a real database."""

import json
from pathlib import Path

import pytest
from support.commands import Clara
from support.recorded_export import TASK_ID, record

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.records.database import open_engine


@pytest.fixture
def recorded(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    engine = open_engine("", DataFolder(tmp_path / "data"))
    record(engine)
    engine.dispose()


@pytest.mark.usefixtures("recorded")
def test_the_objects_of_an_export_are_shown_with_what_became_of_each(clara: Clara) -> None:
    shown = clara("list", "objects", TASK_ID, "--destination", "PACS")
    assert shown.err == "clara: 2 objects, NeedsAttention, reported as failure: PACS: 1 of 2 not stored\n"
    first, second = shown.out.splitlines()[1:]
    assert first.split("\t")[:5] == ["0", "1.2.1", "PACS", "stored", "0000"]
    assert second.split("\t")[:7] == ["1", "1.2.2", "PACS", "refused", "A900", "status A900", "no such class"]
    failed = json.loads(clara("list", "objects", TASK_ID, "--failed", "--json").out)
    assert (failed["total"], failed["items"][0]["number"], failed["export"]["objects"]) == (1, 1, 2)
    none = clara("list", "objects", TASK_ID, "--failed", "--destination", "OTHER")
    assert len(none.out.splitlines()) == 1  # the headings
    unknown = clara("list", "objects", "unknown")
    assert unknown.status == 1
    assert "unknown" in unknown.err


@pytest.mark.usefixtures("recorded")
def test_sending_elsewhere_wants_one_export_and_a_destination_that_is_configured(clara: Clara) -> None:
    assert clara("retry", "--all", "--to", "BACKUP").status == 2
    unknown = clara("retry", TASK_ID, "--to", "typo")
    assert unknown.status == 1
    assert "typo" in unknown.err


def test_a_destination_with_tls(clara: Clara) -> None:
    command = ("create", "dest", "-n", "PACS", "-a", "PACS", "-i", "10.20.30.2", "-p", "2762")
    made = clara(*command, "--associations", "4", "--tls-ca", "/ca.pem", "--tls-name", "pacs.hospital")
    assert made.status == 0, made.err
    assert clara("create", "dest", "-n", "B", "-a", "B", "-i", "h", "-p", "2762", "--tls").status == 0
    assert clara("create", "dest", "-n", "C", "-a", "C", "-i", "h", "-p", "2762").status == 0
    b, c, pacs = json.loads(clara("list", "dest", "--json").out)
    assert pacs["maximumAssociations"] == 4
    assert pacs["tls"] == {
        "caFile": "/ca.pem",
        "certificateFile": None,
        "keyFile": None,
        "serverName": "pacs.hospital",
    }
    assert b["tls"] is not None
    assert c["tls"] is None
    assert "PACS\tPACS\t10.20.30.2\t2762\t4\tyes\n" in clara("list", "dest").out
    relative = clara("create", "dest", "-n", "D", "-a", "D", "-i", "h", "-p", "1", "--tls-ca", "ca.pem")
    assert relative.status == 1
    assert "absolute path" in relative.err


def test_a_dicomweb_destination(clara: Clara) -> None:
    command = ("create", "dicomweb", "-n", "ARCHIVE", "--url", "https://archive.hospital/dicom-web")
    grant = ("--token-url", "https://login/token", "--client-id", "us", "--client-secret-file", "/secret")
    made = clara(*command, *grant, "--token-tls-ca", "/login.pem")
    assert made.status == 0, made.err
    assert "warning" not in made.err
    (archive,) = json.loads(clara("list", "dicomweb", "--json").out)
    assert archive["authentication"]["kind"] == "oauth2"
    assert archive["authentication"]["tokenTls"]["caFile"] == "/login.pem"
    assert archive["tls"] is None
    assert "ARCHIVE\thttps://archive.hospital/dicom-web\toauth2\t2\n" in clara("list", "dicomweb").out
    assert clara("create", "dest", "-n", "archive", "-a", "A", "-i", "h", "-p", "1").status == 1
    assert clara("delete", "dicomweb", "-n", "archive").status == 0
    assert clara(*command, "--user", "us", "--token-file", "/token").status == 2
    incomplete = clara(*command, "--user", "us")
    assert incomplete.status == 1
    assert "passwordFile" in incomplete.err


@pytest.mark.parametrize(
    ("url", "options", "told"),
    [
        (
            "http://a.hospital/dicom-web",
            ("--user", "us", "--password-file", "/p"),
            ["the password to http://a.hospital"],
        ),
        ("http://a.hospital/dicom-web", ("--token-file", "/t"), ["the token to http://a.hospital"]),
        ("https://a.hospital/dicom-web", ("--token-file", "/t"), []),
        ("http://a.hospital/dicom-web", (), []),
        ("http://127.0.0.1:8042/dicom-web", ("--token-file", "/t"), []),
        (
            "http://a.hospital/dicom-web",
            ("--token-url", "http://login/token", "--client-id", "us", "--client-secret-file", "/s"),
            ["the client secret to http://login/token", "the token to http://a.hospital"],
        ),
    ],
)
def test_a_secret_that_goes_out_in_the_clear_is_warned_of(
    clara: Clara, url: str, options: tuple[str, ...], told: list[str]
) -> None:
    made = clara("create", "dicomweb", "-n", "WEB", "--url", url, *options)
    assert made.status == 0
    assert all(each in made.err for each in told)
    assert ("clara: warning: " in made.err) is bool(told)
