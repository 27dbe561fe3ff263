"""``clara dicom config``: files are checked, shown and converted, and nothing is started."""

import json
from pathlib import Path

import pytest
from support.commands import Clara

from clara_dicom_adapter.configuration.reader import read
from clara_dicom_adapter.configuration.settings import DataFolder

SAMPLES = Path(__file__).parents[1] / "configuration" / "samples"


def test_a_file_that_is_right_is_told_with_its_version_and_what_it_lists(clara: Clara) -> None:
    file = SAMPLES / "mapping-0.6.yaml"
    done = clara("config", "check", str(file))
    assert done.status == 0
    assert done.out == (
        f"{file}: nothing is wrong; it is written for 0.6, and lists 2 AE titles, 1 source, 2 destinations, "
        "which are imported once\n"
    )


def test_everything_wrong_is_told_and_the_exit_status_is_1(clara: Clara, tmp_path: Path) -> None:
    file = tmp_path / "settings.json"
    file.write_text('{"DicomAdapter": {\n"dicom": {"scp": {"port": -1}},\n"storage": {"watermark": 1}}}')
    done = clara("config", "check", str(file))
    assert done.status == 1
    assert done.out.splitlines() == [
        (
            "DicomAdapter>dicom>scp>port: -1 is not allowed: whole number, at least 0, at most 65535 "
            f"(file {file}, line 2)"
        ),
        f"DicomAdapter>storage>watermark is unknown (file {file}, line 3); did you mean watermarkPercent?",
    ]
    as_json = clara("config", "check", str(file), "--json")
    assert as_json.status == 1
    assert json.loads(as_json.out)["problems"] == done.out.splitlines()
    assert not (tmp_path / "data").exists()


def test_warnings_are_no_reason_to_refuse(clara: Clara) -> None:
    done = clara("config", "check", str(SAMPLES / "schema-0.8.json"))
    assert done.status == 0
    assert "line 14, column 2: a comma is missing" in done.out


def test_every_setting_is_shown_with_where_it_came_from(
    clara: Clara, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "settings.json"
    file.write_text(
        '{"DicomAdapter": {"dicom": {\n"scp": {"port": 11112}}, "services": {"temporal": {"apiKey": "k"}}}}'
    )
    monkeypatch.setenv("DicomAdapter__api__port", "5001")
    rows = {
        row["setting"]: (row["value"], row["origin"])
        for row in json.loads(clara("config", "show", "--config", str(file), "--json").out)
    }
    assert rows["DicomAdapter>dicom>scp>port"] == (11112, f"file {file}, line 2")
    assert rows["DicomAdapter>api>port"] == (5001, "variable DicomAdapter__api__port")
    assert rows["DicomAdapter>dicom>scu>aeTitle"] == ("ClaraSCU", "default")
    assert rows["DicomAdapter>services>temporal>apiKey"] == ("(not shown)", f"file {file}, line 2")
    assert rows["ConnectionStrings>DicomAdapterDatabase"] == ("", "default")
    assert rows["Logging>File>rollingInterval"] == ("Day", "default")
    assert len(rows) > 70
    changed = clara("config", "show", "--config", str(file), "--changed").out.splitlines()
    assert [line.split("\t")[0] for line in changed[1:]] == [
        "DicomAdapter>dicom>scp>port",
        "DicomAdapter>services>temporal>apiKey",
        "DicomAdapter>api>port",
    ]


@pytest.mark.parametrize("name", ["mapping-0.6.yaml", "schema-0.6.yaml", "setup-0.7-whole.json", "setup-0.8.json"])
def test_what_is_converted_means_the_same(clara: Clara, tmp_path: Path, name: str) -> None:
    new = tmp_path / "appsettings.json"
    done = clara("config", "convert", str(SAMPLES / name), "--to", str(new))
    assert done.status == 0
    data = DataFolder(tmp_path)
    before, after = read(SAMPLES / name, data, {}), read(new, data, {})
    assert after.settings == before.settings
    assert after.dialect == "0.8"


def test_what_a_file_listed_is_told_as_commands_that_work(clara: Clara, tmp_path: Path) -> None:
    file = SAMPLES / "mapping-0.6.yaml"
    done = clara("config", "convert", str(file))
    commands = [line.split()[2:] for line in done.err.splitlines() if line.startswith("clara dicom ")]
    assert len(commands) == 5
    for command in commands:
        assert clara(*command).status == 0
    listed = read(file, DataFolder(tmp_path), {}).given
    assert [ae["aeTitle"] for ae in json.loads(clara("list", "aetitle", "--json").out)] == [
        ae.ae_title for ae in listed.ae_titles
    ]
    assert json.loads(clara("list", "dest", "--json").out) == [
        each.model_dump(by_alias=True) for each in listed.destinations
    ]


def test_converting_overwrites_nothing(clara: Clara, tmp_path: Path) -> None:
    new = tmp_path / "there"
    new.write_text("mine")
    done = clara("config", "convert", str(SAMPLES / "mapping-0.6.yaml"), "--to", str(new))
    assert done.status == 2
    assert new.read_text() == "mine"


def test_commands_see_what_a_0_6_file_lists(clara: Clara, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CLARA_DICOM_CONFIG", str(SAMPLES / "mapping-0.6.yaml"))
    assert clara("create", "src", "-a", "X", "-i", "h").status == 0
    done = clara("list", "aetitle", "--json")
    assert [ae["aeTitle"] for ae in json.loads(done.out)] == ["NVIDIADGX100", "NVIDIADGX101"]


def test_levels_are_changed_shown_and_taken_back(clara: Clara) -> None:
    assert clara("config", "levels", "Default=debug", "Nvidia=None").status == 0
    assert json.loads(clara("config", "levels", "--json").out) == {"Default": "Debug", "Nvidia": "None"}
    assert json.loads(clara("config", "levels", "Nvidia=", "--json").out) == {"Default": "Debug"}
    done = clara("config", "levels", "Default=Loud")
    assert done.status == 1
    assert "one of Trace, Debug" in done.err
    assert clara("config", "levels", "Default").status == 2
