"""AE titles, sources and destinations on the command line, on a real database."""

import json
from pathlib import Path

import pytest
from support.commands import Clara

from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.records.database import open_engine


def test_an_ae_title_with_everything_is_stored_and_listed(clara: Clara) -> None:
    made = clara(
        *("create", "aetitle", "-a", "COVIDAET", "pipeline-covid=abc", "pipeline-lung=def", "timeout=2.5"),
        *("groupBy=0010,0020", "priority=higher", "jobRetryDelay=100", "--name", "covid", "--processor", "ae-title"),
        *("--ignore-sop-class", "1.2.840.10008.5.1.4.1.1.7", "--allowed-source", "CT1", "--allowed-source", "CT2"),
        *("--interrupted", "quarantine", "--overwrite"),
    )
    assert (made.status, made.out) == (0, "AE title COVIDAET added\n")
    assert json.loads(clara("list", "aetitle", "--json").out) == [
        {
            "name": "covid",
            "aeTitle": "COVIDAET",
            "overwriteSameInstance": True,
            "ignoredSopClasses": ["1.2.840.10008.5.1.4.1.1.7"],
            "allowedSources": ["CT1", "CT2"],
            "processor": "ae-title",
            "processorSettings": {
                "pipeline-covid": "abc",
                "pipeline-lung": "def",
                "timeout": "2.5",
                "groupBy": "0010,0020",
                "priority": "higher",
                "jobRetryDelay": "100",
            },
            "interrupted": "quarantine",
        }
    ]


def test_the_commands_of_the_documents_work_as_they_stand_there(clara: Clara) -> None:
    assert clara("create", "aetitle", "-a", "COVIDAET", "pipeline-covid=abc").status == 0
    assert clara("create", "src", "-a", "MYPACS", "-i", "10.20.30.1").status == 0
    assert clara("create", "dest", "-n", "MYPACS", "-a", "MYPACSAET", "-i", "10.20.30.2", "-p", "1104").status == 0
    assert "MYPACS\t10.20.30.1\n" in clara("list", "src").out
    assert "MYPACS\tMYPACSAET\t10.20.30.2\t1104\t2\tno\n" in clara("list", "dest").out
    assert clara("delete", "aet", "-n", "COVIDAET").status == 0
    assert clara("delete", "src", "-a", "MYPACS").status == 0
    assert clara("delete", "dest", "-n", "MYPACS").status == 0
    for kind in ("aetitle", "src", "dest"):
        assert json.loads(clara("list", kind, "--json").out) == []


def test_a_running_adapter_can_see_that_something_changed(clara: Clara, tmp_path: Path) -> None:
    clara("create", "src", "-a", "CT1", "-i", "127.0.0.1")
    engine = open_engine("", DataFolder(tmp_path / "data"))
    store = ConfigurationStore(engine)
    before = store.revision()
    clara("create", "src", "-a", "CT1", "-i", "127.0.0.2")
    assert store.revision() > before
    assert [source.host_ip for source in store.sources()] == ["127.0.0.1", "127.0.0.2"]
    engine.dispose()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "aetitle", "-a", "A"), ["No pipeline defined for AE Title A"]),
        (("create", "aetitle", "-a", "A", "pipeline-x=1", "timeout"), ["'timeout' is not of the form KEY=VALUE"]),
        (("create", "aetitle", "-a", "A", "pipeline-x=1", "timeout=1", "Timeout=2"), ["'timeout' is given more"]),
        (
            ("create", "aetitle", "-a", "A" * 17, "pipeline-x=1", "timeout=soon", "priority=high"),
            ["is not a valid AE Title", "'timeout'", "'priority'", "1 to 16 characters"],
        ),
        (("create", "dest", "-n", "P", "-a", "P", "-i", "h", "-p", "70000"), ["Invalid port number '70000'"]),
        (("create", "src", "-a", "A", "-i", "a host"), ["Invalid host name/IP address 'a host'"]),
        (("create", "aetitle", "-a", "A", "pipeline-x=1", "--interrupted", "maybe"), ["maybe"]),
    ],
)
def test_everything_wrong_is_told_and_nothing_stored(clara: Clara, arguments: tuple[str, ...], told: list[str]) -> None:
    done = clara(*arguments)
    assert done.status == 1
    assert done.out == ""
    for words in told:
        assert words in done.err
    assert "Traceback" not in done.err
    clara("create", "src", "-a", "OTHER", "-i", "h")  # so that there is something to list from
    assert json.loads(clara("list", "aetitle", "--json").out) == []
    assert json.loads(clara("list", "dest", "--json").out) == []


def test_what_exists_is_not_made_again_and_what_does_not_is_not_deleted(clara: Clara) -> None:
    clara("create", "dest", "-n", "PACS", "-a", "P", "-i", "h", "-p", "104")
    again = clara("create", "dest", "-n", "pacs", "-a", "P", "-i", "h", "-p", "104")
    assert (again.status, again.err) == (1, "clara: Destination with name pacs already exists.\n")
    missing = clara("delete", "dest", "-n", "OTHER")
    assert missing.status == 1
    assert "OTHER" in missing.err


def test_a_source_with_several_hosts_is_deleted_by_host(clara: Clara) -> None:
    for host in ("10.0.0.1", "10.0.0.2"):
        clara("create", "src", "-a", "CT1", "-i", host)
    assert "10.0.0.1, 10.0.0.2" in clara("delete", "src", "-a", "CT1").err
    assert clara("delete", "src", "-a", "CT1", "-i", "10.0.0.1").status == 0
    assert "CT1\t10.0.0.2\n" in clara("list", "src").out


def test_a_folder_that_is_not_there_is_told_instead_of_an_empty_list(clara: Clara, tmp_path: Path) -> None:
    done = clara("list", "aetitle")
    assert done.status == 1
    assert str(tmp_path / "data") in done.err
    assert not (tmp_path / "data").exists()


def test_commands_follow_the_settings_that_the_adapter_was_started_with(clara: Clara, tmp_path: Path) -> None:
    """Else they would configure another database than the adapter reads."""
    config = tmp_path / "appsettings.json"
    config.write_text('{"ConnectionStrings": {"DicomAdapterDatabase": "Data Source=other.db"}}')
    data = tmp_path / "data"
    data.mkdir()
    (data / "config.path").write_text(f"{config}\n")
    clara("create", "src", "-a", "CT1", "-i", "h")
    assert (data / "other.db").exists()
    assert not (data / "dicomadapter.db").exists()


def test_an_update_changes_what_is_said_and_leaves_the_rest(clara: Clara) -> None:
    clara("create", "aetitle", "-a", "LUNG", "pipeline-a=A", "pipeline-b=B", "Timeout=5", "--allowed-source", "CT1")
    assert clara("update", "aetitle", "-a", "LUNG", "timeout=9", "pipeline-b=", "--overwrite").out == (
        "AE title LUNG changed\n"
    )
    found = json.loads(clara("get", "aetitle", "-a", "LUNG", "--json").out)
    assert found["processorSettings"] == {"pipeline-a": "A", "timeout": "9"}
    assert (found["overwriteSameInstance"], found["allowedSources"]) == (True, ["CT1"])
    clara("update", "aet", "-n", "LUNG", "--new-aetitle", "LUNGS", "--allowed-source", "", "--no-overwrite")
    found = json.loads(clara("get", "aet", "-n", "LUNG", "--json").out)
    assert (found["aeTitle"], found["allowedSources"], found["overwriteSameInstance"]) == ("LUNGS", [], False)
    refused = clara("update", "aetitle", "-n", "LUNG", "pipeline-a=")
    assert (refused.status, "No pipeline defined" in refused.err) == (1, True)


def test_a_source_and_a_destination_are_changed(clara: Clara) -> None:
    clara("create", "src", "-a", "CT1", "-i", "10.0.0.1")
    assert clara("update", "src", "-a", "CT1", "--new-ip", "10.0.0.2").out == "source CT1 changed: at 10.0.0.2\n"
    clara("create", "dest", "-n", "PACS", "-a", "P", "-i", "h", "-p", "104")
    assert clara("update", "dest", "-n", "PACS", "-p", "11112").out == "destination PACS changed: P at h:11112\n"
    assert clara("get", "dest", "-n", "PACS").out.splitlines() == [
        "field\tvalue",
        "name\tPACS",
        "aeTitle\tP",
        "hostIp\th",
        "port\t11112",
        "maximumAssociations\t2",
        "tls\t",
    ]
    assert clara("get", "src", "-a", "CT1", "--json").status == 0
    assert clara("update", "dest", "-n", "OTHER", "-p", "1").status == 1


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (("-a", "MYPACS", "-i", "10.20.30.1"), "clara dicom create src -a MYPACS -i 10.20.30.1"),
        (("-a", "MYPACS", "-i"), "clara dicom create src -a MYPACS -i HOST"),
        (("-a",), "clara dicom create aetitle -a AET pipeline-NAME=ID"),
        (("-n", "P", "-a", "P", "-i", "h", "-p", "1104"), "clara dicom create dest -n P -a P -i h -p 1104"),
        (("-a", "COVIDAET"), "clara dicom create aetitle -a COVIDAET pipeline-NAME=ID"),
    ],
)
def test_without_a_kind_the_likely_one_is_named(clara: Clara, arguments: tuple[str, ...], meant: str) -> None:
    done = clara("create", *arguments)
    assert done.status == 2
    assert meant in " ".join(done.err.replace("\u2502", " ").split())


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("create", "dest", "-n", "MYPACS", "-a", "MYPACSAET", "-i", "-p", "1104"), "-i needs a value: -i HOST"),
        (("create", "src", "-a", "MYPACS", "-i"), "-i needs a value: -i HOST"),
        (("get", "aetitle", "-a", "--json"), "-a needs a value: -a AET"),
    ],
)
def test_a_value_that_the_page_has_lost_is_asked_for(clara: Clara, arguments: tuple[str, ...], told: str) -> None:
    """Seed 003 prints its commands without the addresses."""
    done = clara(*arguments)
    assert done.status == 2
    assert told in " ".join(done.err.replace("\u2502", " ").split())


def test_help_shows_how_the_documents_use_it(clara: Clara) -> None:
    for verb in ("create", "list", "get", "update", "delete"):
        for kind in ("aetitle", "src", "dest"):
            done = clara(verb, kind, "--help")
            assert done.status == 0
            assert f"clara dicom {verb} {'aet' if (verb, kind) == ('delete', 'aetitle') else kind}" in done.out
