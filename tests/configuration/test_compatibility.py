"""What docs/compatibility.md says of settings, and that each key of the documents has a meaning."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from clara_dicom_adapter.configuration import files
from clara_dicom_adapter.configuration.document import Node
from clara_dicom_adapter.configuration.reader import load, read
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid

ROOT = Path(__file__).parents[2]
SAMPLES = Path(__file__).parent / "samples"
PAGE = (ROOT / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def test_the_defaults_are_those_of_the_documents_of_0_8(data: DataFolder) -> None:
    settings = load(None, data, {})
    assert settings == Settings()
    assert (settings.storage.watermark_percent, settings.storage.reserve_space_gb) == (75, 5)
    assert settings.dicom.scp.maximum_number_of_associations == 25
    assert settings.dicom.scu.maximum_number_of_associations == 8
    assert (settings.dicom.scp.port, settings.dicom.scu.ae_title) == (104, "ClaraSCU")
    assert (settings.services.platform.max_retries, settings.services.platform.retry_delay_seconds) == (3, 180)
    export = settings.dicom.scu.export
    assert (export.maximum_retries, export.failure_threshold, export.poll_frequency_ms) == (3, 0.5, 500)


def test_numbers_that_mean_nothing_are_refused(data: DataFolder) -> None:
    wrong = {
        "services__platform__maxRetries": "-1",
        "services__platform__retryDelaySeconds": "0",
        "storage__reserveSpaceGB": "-1",
        "dicom__scu__export__pollFrequencyMs": "0",
        "dicom__scu__export__failureThreshold": "1.5",
    }
    with pytest.raises(ConfigurationInvalid) as caught:
        load(None, data, {f"DicomAdapter__{key}": value for key, value in wrong.items()})
    assert len(caught.value.problems) == len(wrong)


def test_a_file_for_an_environment_is_not_read(data: DataFolder) -> None:
    (data.root / "appsettings.Production.json").write_text('{"DicomAdapter": {"dicom": {"scp": {"port": 1}}}}')
    (data.root / "appsettings.json").write_text('{"DicomAdapter": {}}')
    environ = {"ASPNETCORE_ENVIRONMENT": "Production", "DOTNETCORE_ENVIRONMENT": "Production"}
    assert load(None, data, environ).dicom.scp.port == 104


def test_relative_paths_are_in_the_data_folder(data: DataFolder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    file = data.root / "settings.json"
    file.write_text(
        json.dumps(
            {
                "DicomAdapter": {"storage": {"temporary": "./storage"}, "services": {"platform": {"pipelines": "p"}}},
                "Logging": {"File": {"path": "logs/x.log"}},
            }
        )
    )
    settings = load(file, data, {})
    assert settings.storage.temporary == data.root / "storage"
    assert settings.services.platform.pipelines == data.root / "p"
    assert settings.logging.file.path == data.root / "logs" / "x.log"


# ---- every key of the documents ----


def leaves(node: Node, above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Node]]:
    """Each value that is no object, with its keys; list elements share the key of their list."""
    if isinstance(node.value, dict):
        for key, below in node.members.items():
            yield from leaves(below, (*above, key))
    elif any(isinstance(each.value, dict) for each in node.items):
        for each in node.items:
            yield from leaves(each, above)
    else:
        yield above, node


@pytest.mark.parametrize(
    "name", ["setup-0.8.json", "schema-0.8.json", "setup-0.7-whole.json", "mapping-0.6.yaml", "schema-0.6.yaml"]
)
def test_every_key_of_the_documents_is_honoured_or_named_with_the_reason(data: DataFolder, name: str) -> None:
    path = SAMPLES / name
    reading = read(path, data, {})
    without_effect = PAGE.partition("### Keys without effect")[2].partition("\n## ")[0]
    file = files.read(path)
    honoured = 0
    for keys, node in leaves(file.root):
        of_a_list = any(kind in keys for kind in files.LISTS.values())
        if f"file {path}, line {node.line}" in reading.origins.values():
            honoured += 1
        elif keys[0] == "Serilog":
            assert keys[1] in {"MinimumLevel"} or keys[-1] in without_effect or "Name" in keys, keys
        elif not of_a_list and node.value is not None and node.plain() != [[]]:
            assert f"`{'>'.join(keys)}`" in without_effect, keys
        # of lists: test_every_key_of_an_ae_title_of_0_6_is_taken, and an unknown key there is refused
        # without a value: an unknown key without one is refused as well
    assert honoured >= 3


@pytest.mark.parametrize("key", ["dicomPort", "apiPort", "volumeSize", "hostPath"])
def test_keys_of_the_chart_are_named_as_what_they_are(key: str) -> None:
    assert f"`{key}`" in PAGE


def test_every_name_of_the_documents_variables_is_on_the_page() -> None:
    for variable in (
        "CLARA_SERVICE_HOST",
        "CLARA_SERVICE_PORT_API",
        "CLARA_RESULTSSERVICE_SERVICE_HOST",
        "CLARA_RESULTSSERVICE_SERVICE_PORT",
        "ConnectionStrings__DicomAdapterDatabase",
        "DicomAdapter__dicom__scp__port",
    ):
        assert variable in PAGE
