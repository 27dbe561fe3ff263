"""The file of 0.8 as the documents print it, the environment, and everything wrong told at once."""

from pathlib import Path

import pytest

from clara_dicom_adapter.configuration.reader import load, read
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid

SAMPLES = Path(__file__).parent / "samples"
SETUP_PAGE = (SAMPLES / "setup-0.8.json").read_text(encoding="utf-8")
SCHEMA_PAGE = SAMPLES / "schema-0.8.json"


@pytest.fixture
def data(tmp_path: Path) -> DataFolder:
    return DataFolder(tmp_path)


def written(data: DataFolder, text: str) -> Path:
    path = data.root / "clara.json"
    path.write_text(text, encoding="utf-8-sig")
    return path


def problems(path: Path | None, data: DataFolder, environ: dict[str, str] | None = None) -> tuple[str, ...]:
    with pytest.raises(ConfigurationInvalid) as caught:
        load(path, data, environ or {})
    return caught.value.problems


def test_the_setup_pages_sample_is_read_as_it_is_printed(data: DataFolder) -> None:
    settings = load(written(data, SETUP_PAGE), data, {})
    assert settings.database == "Data Source=dicomadapter.db"
    assert settings.storage.temporary == Path("/payloads")
    assert settings.logging.levels["System"] == "Warning"
    assert settings.dicom == Settings().dicom


def test_the_schema_pages_sample_is_read_although_a_comma_and_a_colon_are_missing(data: DataFolder) -> None:
    reading = read(SCHEMA_PAGE, data, {})
    read_over = "; it is read as if it were there"
    assert reading.warnings == (
        f'{SCHEMA_PAGE}: line 14, column 2: a comma is missing before "logDimseDatasets"{read_over}',
        f"{SCHEMA_PAGE}: line 21, column 19: a colon is missing before 0.5{read_over}",
    )
    settings = reading.settings
    assert settings.dicom == Settings().dicom
    assert settings.services.platform.metadata_dicom_source[-2:] == ("0010,1010", "0020,000D")
    assert settings.services.platform.max_retries == 3
    assert (settings.storage.watermark_percent, settings.storage.reserve_space_gb) == (75, 5)
    assert settings.logging.console.disable_colors
    assert settings.logging.levels["Nvidia.Clara.DicomAdapter.Server.Services.Scp"] == "Information"


def test_every_value_of_the_schema_pages_sample_is_taken_and_not_the_default(data: DataFolder) -> None:
    """The sample has the defaults; with others in their places, none of them may be lost."""
    text = SCHEMA_PAGE.read_text(encoding="utf-8")
    for old, new in {
        "104": "11112",
        '"maximumNumberOfAssociations": 25': '"maximumNumberOfAssociations": 7',
        '"enabled": true': '"enabled": false',
        '"maximumRetries": 3': '"maximumRetries": 4',
        "0.5": "0.25",
        "500": "750",
        '"ClaraSCU"': '"OTHER"',
        '"logDataPDUs": false': '"logDataPDUs": true',
        '"maximumNumberOfAssociations": 8': '"maximumNumberOfAssociations": 9',
        '"logDimseDatasets": false': '"logDimseDatasets": true',
        '"rejectUnknownSources": true': '"rejectUnknownSources": false',
        '"maxRetries": 3': '"maxRetries": 5',
        "180": "181",
        '"uploadMetadata": false': '"uploadMetadata": true',
        '"watermarkPercent": 75': '"watermarkPercent": 76',
        '"reserveSpaceGB": 5': '"reserveSpaceGB": 6',
    }.items():
        assert old in text
        text = text.replace(old, new)
    settings = load(written(data, text), data, {})
    scp, scu, platform = settings.dicom.scp, settings.dicom.scu, settings.services.platform
    assert (scp.port, scp.maximum_number_of_associations, scp.verification.enabled) == (11112, 7, False)
    assert (scp.log_dimse_datasets, scp.reject_unknown_sources) == (True, False)
    assert (scu.ae_title, scu.maximum_number_of_associations) == ("OTHER", 9)
    assert (scu.log_dimse_datasets, scu.log_data_pdus) == (True, True)
    assert (scu.export.maximum_retries, scu.export.failure_threshold, scu.export.poll_frequency_ms) == (4, 0.25, 750)
    assert (platform.max_retries, platform.retry_delay_seconds, platform.upload_metadata) == (5, 181, True)
    assert (settings.storage.watermark_percent, settings.storage.reserve_space_gb) == (76, 6)


def test_the_data_folders_own_file_is_read_and_none_is_none(data: DataFolder) -> None:
    assert load(None, data, {}) == Settings()
    (data.root / "appsettings.json").write_text('{"dicomAdapter": {"DICOM": {"Scp": {"Port": 11112}}}}')
    assert load(None, data, {}).dicom.scp.port == 11112
    missing = data.root / "missing.json"
    assert problems(missing, data) == (f"{missing}: cannot be read: No such file or directory",)


def test_everything_wrong_is_told_with_its_key_its_value_what_is_allowed_and_where_it_stands(data: DataFolder) -> None:
    path = written(
        data,
        """{"DicomAdapter": {
            "dicom": {"scp": {"port": "x", "prot": 1,
                              "verification": {"transferSyntaxes": []}},
                      "scu": {"aeTitle": "A TITLE THAT IS LONG"}},
            "services": {"platform": {"endpoint": "nowhere", "metadataDicomSource": ["0010,0020",
                                                                                     "name"]},
                         "temporal": {"tlsKeyFile": "k", "apiKey": 7}},
            "storage": 5},
            "Loging": {}, "Logging": {"LogLevel": {"Default": "Loud"}},
            "ConnectionStrings": {"DicomAdapterDatabase": "mysql://me:secret@there/x"}}""",
    )
    variable = "DICOMADAPTER__DICOM__SCP__MAXIMUMNUMBEROFASSOCIATIONS"
    found = problems(path, data, {variable: "0", "DicomAdapter__storage__colour": "red", "CLARA_SERVICE_HOST": "h"})

    def line(number: int) -> str:
        return f"(file {path}, line {number})"

    assert set(found) == {
        f"Loging is unknown {line(9)}; did you mean Logging?",
        f"DicomAdapter>dicom>scp>port: 'x' is not allowed: whole number, at least 0, at most 65535 {line(2)}",
        f"DicomAdapter>dicom>scp>prot is unknown {line(2)}; did you mean port?",
        (
            f"DicomAdapter>dicom>scp>maximumNumberOfAssociations: '0' is not allowed: "
            f"whole number, at least 1, at most 1000 (variable {variable})"
        ),
        (
            f"DicomAdapter>dicom>scp>verification>transferSyntaxes: [] is not allowed: "
            f"at least one transfer syntax UID is needed {line(3)}"
        ),
        (
            f"DicomAdapter>dicom>scu>aeTitle: 'A TITLE THAT IS LONG' is not allowed: "
            f"AE title, 1 to 16 characters without backslash {line(4)}"
        ),
        f"DicomAdapter>services>platform>endpoint: 'nowhere' is not allowed: host:port is expected {line(5)}",
        (
            "DicomAdapter>services>platform>metadataDicomSource>1: 'name' is not allowed: "
            f"tags are written GGGG,EEEE {line(6)}"
        ),
        f"DicomAdapter>services>temporal>apiKey: its value is not allowed: text {line(7)}",
        (
            f"DicomAdapter>services>temporal: one of two files is not allowed: "
            f"tlsCertificateFile and tlsKeyFile are given together {line(7)}"
        ),
        f"DicomAdapter>storage: a value of another kind is not allowed: object {line(8)}",
        (
            "DicomAdapter>storage>colour is unknown (variable DicomAdapter__storage__colour); "
            "known here: durability, preparedSpaceMB, quarantineRetentionHours, reconcileIntervalSeconds, "
            "reserveSpaceGB, temporary, watermarkPercent"
        ),
        (
            f"Logging>LogLevel>Default: 'Loud' is not allowed: "
            f"one of Trace, Debug, Information, Warning, Error, Critical, None {line(9)}"
        ),
        (
            "ConnectionStrings>DicomAdapterDatabase: its value is not allowed: 'Data Source=FILE', "
            "'Host=HOST;Database=NAME;Username=USER;Password=PASSWORD', or a sqlite or postgresql URL "
            f"{line(10)}"
        ),
    }
    assert len(found) == len(set(found))


def test_the_environment_wins_over_the_file(data: DataFolder) -> None:
    settings = load(
        written(data, SETUP_PAGE),
        data,
        {
            "DicomAdapter__dicom__scp__port": "0",
            "DicomAdapter__dicom__scp__host": "0.0.0.0 ::1",
            "dicomadapter__DICOM__Scp__rejectunknownsources": "false",
            "DicomAdapter__dicom__scp__verification__transferSyntaxes": "1.2.840.10008.1.2, 1.2.840.10008.1.2.1",
            "DicomAdapter__services__platform__metadataDicomSource__0": "0010,0020",
            "DicomAdapter__services__platform__metadataDicomSource__1": "0008,0060",
            "DicomAdapter__services__temporal__address": "",
            "ConnectionStrings__DicomAdapterDatabase": "postgresql://host/name",
            "Logging__LogLevel__Default": "Debug",
            "CLARA_SERVICE_HOST": "clara",
            "CLARA_SERVICE_PORT_API": "50051",
            "CLARA_RESULTSSERVICE_SERVICE_HOST": "results",
            "DICOMADAPTER_HOME": "not ours",
        },
    )
    assert settings.dicom.scp.port == 0
    assert settings.dicom.scp.host == ("0.0.0.0", "::1")
    assert not settings.dicom.scp.reject_unknown_sources
    assert settings.dicom.scp.verification.transfer_syntaxes == ("1.2.840.10008.1.2", "1.2.840.10008.1.2.1")
    assert settings.services.platform.metadata_dicom_source == ("0010,0020", "0008,0060")
    assert settings.services.temporal.address is None
    assert settings.database == "postgresql://host/name"
    assert settings.logging.levels["Default"] == "Debug"
    assert settings.services.platform.endpoint == "clara:50051"
    assert settings.services.results_service_endpoint is None  # its port is missing
    both = {"CLARA_RESULTSSERVICE_SERVICE_HOST": "results", "CLARA_RESULTSSERVICE_SERVICE_PORT": "8088"}
    assert load(None, data, both).services.results_service_endpoint == "http://results:8088"
    own = both | {"DicomAdapter__services__resultsServiceEndpoint": "https://other/"}
    assert load(None, data, own).services.results_service_endpoint == "https://other/"
