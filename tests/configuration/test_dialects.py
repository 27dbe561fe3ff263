"""Files of 0.7 and 0.6, recognised by what stands in them, and the entities that they list."""

from pathlib import Path

import pytest

from clara_dicom_adapter.configuration.files import Dialect
from clara_dicom_adapter.configuration.reader import Reading, read
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid

SAMPLES = Path(__file__).parent / "samples"
MAPPING = (SAMPLES / "mapping-0.6.yaml").read_text(encoding="utf-8")


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def reading_of(data: DataFolder, text: str) -> Reading:
    path = data.root / "any-name"
    path.write_text(text, encoding="utf-8")
    return read(path, data, {})


def problems(data: DataFolder, text: str) -> list[str]:
    with pytest.raises(ConfigurationInvalid) as caught:
        reading_of(data, text)
    return [problem.replace(f"file {data.root / 'any-name'}, ", "") for problem in caught.value.problems]


# ---- 0.7 ----


def test_the_0_7_sample_is_read_when_it_has_its_braces(data: DataFolder) -> None:
    reading = read(SAMPLES / "setup-0.7-whole.json", data, {})
    settings = reading.settings
    assert reading.dialect is Dialect.V0_7
    assert reading.warnings == ()
    assert settings.dicom.scp.read_ae_titles_from_crd
    assert not settings.dicom.scp.read_sources_from_crd
    assert (settings.dicom.scp.port, settings.dicom.scp.reject_unknown_sources) == (104, True)
    assert settings.dicom.scu.ae_title == "ClaraSCU"
    assert settings.storage.temporary == Path("/payloads")
    assert settings.logging.file.path == data.root / "logs" / "clara-dicom.log"
    assert settings.logging.file.rolling_interval == "Day"
    assert settings.logging.file.roll_on_file_size_limit
    assert settings.logging.levels["Microsoft.Hosting.Lifetime"] == "Information"
    assert reading.given.ae_titles == ()


def test_the_0_7_sample_as_printed_is_told_by_its_place(data: DataFolder) -> None:
    text = (SAMPLES / "setup-0.7.json").read_text(encoding="utf-8")
    path = data.root / "any-name"
    assert problems(data, text) == [f'{path}: line 1, column 3: {{ is expected at the beginning, not "DicomAdapter"']
    assert problems(data, "{" + text) == [
        f'{path}: line 7, column 39: a comma is missing before "scu"',
        f'{path}: line 11, column 31: a comma is missing before "storage"',
        f'{path}: line 13, column 32: a comma is missing before "Serilog"',
        f"{path}: line 16, column 19: a comma or ] is expected in the list of line 15, not :",
    ]


def test_every_kebab_case_key_of_0_7_is_taken(data: DataFolder) -> None:
    settings = reading_of(
        data,
        """{"DicomAdapter": {"dicom": {
            "scp": {"port": 1, "log-dimse-datasets": true, "reject-unknown-sources": false, "max-associations": 3,
                    "verification": {"transfer-syntaxes": ["1.2.840.10008.1.2"]}},
            "scu": {"ae-title": "X", "log-dimse-datasets": true, "log-data-pdus": true, "max-associations": 4}}}}""",
    ).settings
    scp, scu = settings.dicom.scp, settings.dicom.scu
    assert (scp.port, scp.log_dimse_datasets, scp.reject_unknown_sources) == (1, True, False)
    assert scp.maximum_number_of_associations == 3
    assert scp.verification.transfer_syntaxes == ("1.2.840.10008.1.2",)
    assert (scu.ae_title, scu.log_dimse_datasets, scu.log_data_pdus) == ("X", True, True)
    assert scu.maximum_number_of_associations == 4


def test_serilog_levels_count_where_logging_has_none(data: DataFolder) -> None:
    text = """{"DicomAdapter": {}, "Serilog": {"MinimumLevel": {"Default": "Verbose",
        "Override": {"Microsoft": "Fatal", "Nvidia": "Debug"}}}, "Logging": {"LogLevel": {"Nvidia": "error"}}}"""
    levels = reading_of(data, text).settings.logging.levels
    assert levels == {"Default": "Trace", "Microsoft": "Critical", "Nvidia": "Error"}


# ---- 0.6 ----


def test_the_0_6_sample_gives_its_settings_and_its_entities(data: DataFolder) -> None:
    reading = reading_of(data, MAPPING)
    assert reading.dialect is Dialect.V0_6
    assert reading.warnings == ()
    dicom = reading.settings.dicom
    assert (dicom.scp.port, dicom.scp.maximum_number_of_associations) == (104, 2)
    assert (dicom.scu.ae_title, dicom.scu.maximum_number_of_associations) == ("ClaraSCU", 2)
    assert [(ae.name, ae.ae_title, ae.processor_settings) for ae in reading.given.ae_titles] == [
        (
            "NVIDIADGX100",
            "NVIDIADGX100",
            {"timeout": "0", "groupBy": "none", "pipeline-ct_ai_pipeline": "0fcdcdea89c6456fb20abc7379c54ef2"},
        ),
        (
            "NVIDIADGX101",
            "NVIDIADGX101",
            {"timeout": "0", "groupBy": "none", "pipeline-mammo_ai_pipeline": "3c9d3b9386d44bc2b89b7a12de9f7bda"},
        ),
    ]
    assert [(source.ae_title, source.host_ip) for source in reading.given.sources] == [("DCM4CHEE", "1.2.3.4")]
    assert [(each.name, each.ae_title, each.host_ip, each.port) for each in reading.given.destinations] == [
        ("MyOrthanc", "ORTHANC", "1.2.3.5", 104),
        ("PACS", "DCM4CHEE", "1.2.3.6", 104),
    ]


def test_the_0_6_sample_as_printed_in_one_line_is_told_by_its_place(data: DataFolder) -> None:
    path = SAMPLES / "mapping-0.6-one-line.yaml"
    with pytest.raises(ConfigurationInvalid) as caught:
        read(path, data, {})
    told = "mapping values are not allowed here: a key begins a line of its own"
    assert caught.value.problems == (f"{path}: line 1, column 11: {told}",)


@pytest.mark.parametrize(
    ("text", "line", "expected"),
    [
        ("dicom:\n\tscp: 1\n", 2, "blanks are expected instead of the tab"),
        ("dicom:\n  scp:\n    port: 1\n   host: x\n", 4, "begin in the same column"),
        ("dicom:\n  scp: {}\nstorage\nservices: {}\n", 4, "a colon and a blank are expected after a key"),
        ('dicom: {scu: {ae-title: "X}}\n', 2, "a quotation mark, a bracket or a brace is expected before the end"),
        ("dicom: [1, 2\nstorage: x\n", 2, "expected ',' or ']'"),
    ],
)
def test_what_yaml_expects_is_told_with_its_line(data: DataFolder, text: str, line: int, expected: str) -> None:
    file = data.root / "app.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationInvalid) as caught:
        read(file, data, {})
    (problem,) = caught.value.problems
    assert problem.startswith(f"{file}: line {line}, column ")
    assert expected in problem


def test_the_0_6_schema_with_its_values_left_out_is_the_defaults(data: DataFolder) -> None:
    reading = read(SAMPLES / "schema-0.6.yaml", data, {})
    settings = reading.settings
    assert settings.dicom.scp == Settings().dicom.scp.model_copy(
        update={"read_ae_titles_from_crd": True, "read_sources_from_crd": True}
    )
    assert settings.dicom.scu == Settings().dicom.scu
    assert settings.storage.temporary == data.root / "storage"
    assert settings.services.platform.endpoint == "localhost:50051"
    assert settings.services.results_service_endpoint == "http://localhost:50080"
    assert list(reading.given) == []
    assert [warning.split()[0] for warning in reading.warnings] == [
        "dicom>scp>ae-titles",
        "pipeline-mappings",
        "dicom>scp>sources",
    ]


def test_every_key_of_an_ae_title_of_0_6_is_taken(data: DataFolder) -> None:
    (entity,) = reading_of(
        data,
        """
dicom:
  scp:
    ae-titles:
      - ae-title: NO
        timeout: 12
        overwrite-same-instance: true
        ignored-sop-classes: [1.2.840.10008.5.1.4.1.1.7]
        processors: ["Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomAdapter"]
pipeline-mappings:
  - {name: lung, clara-ae-title: NO, pipeline-id: 01234567890123456789012345678901}
  - {name: liver, clara-ae-title: NO}
""",
    ).given.ae_titles
    assert entity.ae_title == "NO"
    assert entity.overwrite_same_instance
    assert entity.ignored_sop_classes == ("1.2.840.10008.5.1.4.1.1.7",)
    assert entity.processor == "Nvidia.Clara.Dicom.Processors.JobProcessor,Nvidia.Clara.DicomAdapter"
    assert entity.processor_settings == {
        "timeout": "12",
        "groupBy": "none",
        "pipeline-lung": "01234567890123456789012345678901",
        "pipeline-liver": "liver",
    }


def test_a_0_6_file_without_ae_titles_has_clara_scp_which_waits_for_a_pipeline(data: DataFolder) -> None:
    reading = reading_of(data, "dicom:\n  scp:\n    port: 104\n")
    (entity,) = reading.given.ae_titles
    assert (entity.ae_title, entity.processor_settings) == ("ClaraSCP", {"timeout": "0", "groupBy": "none"})
    assert reading.warnings == (
        "AE title ClaraSCP has no pipeline: what is sent to it is kept and waits until it gets one (default of 0.6)",
    )
    mapped = "dicom:\n  scp:\n    port: 104\npipeline-mappings:\n  - name: x\n    clara-ae-title: ClaraSCP\n"
    (entity,) = reading_of(data, mapped).given.ae_titles
    assert entity.processor_settings["pipeline-x"] == "x"
    from_resources = "dicom:\n  scp:\n    read-aetitles-from-crd: true\n"
    assert reading_of(data, from_resources).given.ae_titles == ()


def test_the_list_counts_unless_the_file_says_resources(data: DataFolder) -> None:
    assert len(reading_of(data, MAPPING).given.sources) == 1
    said_no = MAPPING.replace("    port: 104\n    ae", "    port: 104\n    read-sources-from-crd: false\n    ae")
    assert len(reading_of(data, said_no).given.sources) == 1
    reading = reading_of(data, said_no.replace("crd: false", "crd: true"))
    assert reading.given.sources == ()
    assert len(reading.given.ae_titles) == len(reading.given.destinations) == 2
    assert reading.settings.dicom.scp.read_sources_from_crd
    assert "dicom>scp>sources is not used" in reading.warnings[0]


def test_everything_wrong_with_lists_is_told_at_once_by_line(data: DataFolder) -> None:
    text = """
dicom:
  scp:
    prot: 104
    max-associations: 0
    ae-titles:
      - ae-title: THIS IS MUCH TOO LONG
      - ae-title: A
        timeout: soon
        timout: 3
      - ae-title: A
        processors: [Nope]
      - B
    sources: x
  scu:
    destinations:
      - {name: P, host-ip: h, ae-title: P, port: 0}
      - {name: Q, host-ip: h, ae-title: Q, port: 1}
      - {name: q, host-ip: h, ae-title: Q, port: 1}
pipeline-mappings:
  - {name: x, clara-ae-title: NOBODY, pipeline-id: p}
  - {name: x, pipeline-id: p}
storge: {}
"""
    found = problems(data, text)
    too_long = "THIS IS MUCH TOO LONG"
    for words in (
        "dicom>scp>prot is unknown (line 4); did you mean port?",
        "dicom>scp>max-associations: '0' is not allowed: whole number, at least 1, at most 1000 (line 5)",
        "storge is unknown (line 23); did you mean storage?",
        "pipeline-mappings>1: clara-ae-title is missing (line 22)",
        f"dicom>scp>ae-titles>0: {too_long!r} is not a valid AE Title (source: ClaraApplicationEntity). (line 7)",
        "dicom>scp>ae-titles>1>timout is unknown (line 10); did you mean timeout?",
        "dicom>scp>ae-titles>1: [ERROR] Invalid processor setting 'timeout' specified for AE Title A. (line 8)",
        "dicom>scp>ae-titles>3 must be an object (line 13)",
        "dicom>scp>sources must be a list (line 14)",
        "dicom>scu>destinations>0: Invalid port number '0' specified for DestinationApplicationEntity. (line 17)",
        "dicom>scu>destinations>2 stands there twice (line 19)",
        "pipeline-mappings: 'NOBODY' is none of the AE titles that are listed (line 20)",
    ):
        assert words in found
    assert any("'Nope' is not installed" in line for line in found)
    assert len(found) == 13


def test_an_ae_title_that_is_listed_twice_is_told(data: DataFolder) -> None:
    text = "dicom: {scp: {ae-titles: [{ae-title: A}, {ae-title: A}]}}"
    assert problems(data, text) == ["dicom>scp>ae-titles>1: 'A' stands there twice (line 1)"]


# ---- neither ----


def test_what_is_of_no_version_is_told(data: DataFolder) -> None:
    known = "DicomAdapter (0.8, 0.7), or dicom, pipeline-mappings, storage, services (0.6)"
    path = data.root / "any-name"
    assert problems(data, '{"other": 1}') == [f"{path}: no section of any version stands there; expected is {known}"]
    assert problems(data, "- a\n- b\n") == [f"{path}: line 1, column 1: sections with keys are expected"]
    assert reading_of(data, "").settings == Settings()
    assert reading_of(data, "{}").dialect is Dialect.V0_8


def test_a_0_6_file_may_be_written_as_json(data: DataFolder) -> None:
    reading = reading_of(data, '{"dicom": {"scp": {"port": 1, "ae-titles": [{"ae-title": "A"}]}}} // by a program')
    assert (reading.dialect, reading.settings.dicom.scp.port) == (Dialect.V0_6, 1)
    assert [ae.ae_title for ae in reading.given.ae_titles] == ["A"]


def test_a_key_in_two_spellings_is_told(data: DataFolder) -> None:
    text = '{"DicomAdapter": {"dicom": {"scu": {"aeTitle": "A",\n "ae-title": "B"}}}}'
    assert problems(data, text) == [
        "DicomAdapter>dicom>scu>ae-title is the same as DicomAdapter>dicom>scu>aeTitle (line 2); only one is expected"
    ]


def test_a_0_6_file_lies_in_the_data_folder_under_its_own_names(data: DataFolder) -> None:
    (data.root / "app.yaml").write_text("dicom: {scp: {port: 1}}")
    assert read(None, data, {}).settings.dicom.scp.port == 1
    (data.root / "dicom-server-config.yaml").write_text("dicom: {scp: {port: 2}}")
    assert read(None, data, {}).settings.dicom.scp.port == 2
    (data.root / "appsettings.json").write_text('{"DicomAdapter": {"dicom": {"scp": {"port": 3}}}}')
    assert read(None, data, {}).settings.dicom.scp.port == 3
