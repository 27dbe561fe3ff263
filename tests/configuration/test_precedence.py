"""What wins, as docs/configuration.md says, from the weakest to the strongest."""

import json
from pathlib import Path
from typing import Any

import pytest

from clara_dicom_adapter.configuration.reader import Reading, read
from clara_dicom_adapter.configuration.run_time_levels import RunTimeLevels
from clara_dicom_adapter.configuration.settings import DataFolder
from clara_dicom_adapter.errors import ConfigurationInvalid


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def reading(data: DataFolder, content: dict[str, Any], environ: dict[str, str] | None = None) -> Reading:
    file = data.root / "settings.json"
    file.write_text(json.dumps(content))
    return read(file, data, environ or {})


def test_a_log_level_comes_from_the_strongest_that_has_one(data: DataFolder) -> None:
    path = ("logging", "LogLevel", "Default")
    file: dict[str, Any] = {"DicomAdapter": {}}
    environ: dict[str, str] = {}

    def level() -> tuple[str, str]:
        found = reading(data, file, environ)
        return found.settings.logging.levels.get("Default", ""), found.origin(path).split()[0]

    assert level() == ("", "default")
    file["Serilog"] = {"MinimumLevel": "Fatal"}
    assert level() == ("Critical", "file")
    file["Logging"] = {"LogLevel": {"default": "error"}}
    assert level() == ("Error", "file")
    environ["Logging__LogLevel__Default"] = "Warning"
    assert level() == ("Warning", "variable")
    RunTimeLevels(data, dict).change({"Default": "Debug"})
    assert level() == ("Debug", "changed")


def test_an_endpoint_comes_from_the_strongest_that_has_one(data: DataFolder) -> None:
    file: dict[str, Any] = {"DicomAdapter": {"services": {"platform": {}}}}
    environ: dict[str, str] = {}

    def endpoint() -> str | None:
        return reading(data, file, environ).settings.services.platform.endpoint

    assert endpoint() is None
    file["DicomAdapter"]["services"]["platform"]["endpoint"] = "file:1"
    assert endpoint() == "file:1"
    environ |= {"CLARA_SERVICE_HOST": "clara", "CLARA_SERVICE_PORT_API": "2"}
    assert endpoint() == "clara:2"
    environ["DicomAdapter__services__platform__endpoint"] = "own:3"
    assert endpoint() == "own:3"
    environ["DicomAdapter__services__platform__endpoint"] = ""
    assert endpoint() is None


def test_the_config_option_wins_over_the_files_of_the_data_folder(data: DataFolder) -> None:
    (data.root / "appsettings.json").write_text('{"DicomAdapter": {"dicom": {"scp": {"port": 1}}}}')
    assert reading(data, {"DicomAdapter": {"dicom": {"scp": {"port": 2}}}}).settings.dicom.scp.port == 2


def test_variables_may_have_the_names_of_older_versions(data: DataFolder) -> None:
    environ = {
        "DicomAdapter__readAeTitlesFromCrd": "true",
        "DicomAdapter__dicom__scp__max-associations": "7",
        "DicomAdapter__dicom__scp__reject-unknown-sources": "false",
        "DicomAdapter__services__platform-endpoint": "h:1",
    }
    settings = reading(data, {}, environ).settings
    assert settings.dicom.scp.read_ae_titles_from_crd
    assert settings.dicom.scp.maximum_number_of_associations == 7
    assert not settings.dicom.scp.reject_unknown_sources
    assert settings.services.platform.endpoint == "h:1"


def test_a_section_that_is_no_object_is_told_although_a_variable_sets_a_key_of_it(data: DataFolder) -> None:
    with pytest.raises(ConfigurationInvalid, match="DicomAdapter>storage: a value of another kind is not allowed: obj"):
        reading(data, {"DicomAdapter": {"storage": 5}}, {"DicomAdapter__storage__watermarkPercent": "80"})


def test_patients_in_the_log_are_warned_of(data: DataFolder) -> None:
    scu = {"logDimseDatasets": True, "logPatientAttributes": True}
    (warning,) = reading(data, {"DicomAdapter": {"dicom": {"scu": scu}}}).warnings
    assert "DicomAdapter>dicom>scu>logPatientAttributes: patients are named in the log (file" in warning
    assert reading(data, {"DicomAdapter": {"dicom": {"scu": {"logPatientAttributes": True}}}}).warnings == ()
