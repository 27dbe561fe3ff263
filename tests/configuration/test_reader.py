"""appsettings.json as the documents of 0.8 print it, the environment, and everything wrong told at once."""

from pathlib import Path

import pytest

from clara_dicom_adapter.configuration.reader import load
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid

# the setup page of 0.8, as printed
SETUP_PAGE = """{
"ConnectionStrings": {
"DicomAdapterDatabase": "Data Source=dicomadapter.db"
},
"DicomAdapter": {
"dicom": {
"scp": {
"port": 104,
"logDimseDatasets": false,
"rejectUnknownSources": true
},
"scu": {
"aeTitle": "ClaraSCU",
"logDimseDatasets": false,
"logDataPDUs": false
}
},
"storage" : {
"temporary" : "/payloads",
"watermarkPercent": 75,
"reserveSpaceGB": 5
}
},
"Logging": {
"LogLevel": {
"Default": "Information",
"System": "Warning",
"Microsoft": "Warning",
"Microsoft.Hosting.Lifetime": "Warning",
"Microsoft.AspNetCore.Mvc.Infrastructure.ControllerActionInvoker": "Error"
}
},
"AllowedHosts": "*"
}
"""

# the schema page of 0.8, with its two slips: no comma after "verification", no colon after "failureThreshold"
SCHEMA_PAGE = """{
"DicomAdapter": {
"dicom": {
"scp": {
"port": 104, // DICOM SCP listening port. (default 104)
"maximumNumberOfAssociations": 25, // maximum number of concurrent associations. (range: 1-1000, default: 25)
"verification": {
"enabled": true, // respond to c-ECHO commands (default: true)
"transferSyntaxes": [
"1.2.840.10008.1.2.1", // Explicit VR Little Endian
"1.2.840.10008.1.2" , // Implicit VR Little Endian
"1.2.840.10008.1.2.2", // Explicit VR Big Endian
]
}
"logDimseDatasets": false, // whether or not to write command and dataset to log (default false)
"rejectUnknownSources": true // whether to reject unknown sources not listed in the source section. (default true)
},
"scu": {
"export": {
"maximumRetries": 4, // number of retries the exporter shall perform before reporting failure to Results Service.
"failureThreshold" 0.25, // failure threshold for a task to be marked as failure.
"pollFrequencyMs": 500 // number of milliseconds each exporter shall poll tasks from Results Service,
},
"aeTitle": "ClaraSCU", // AE Title of the SCU service
"maximumNumberOfAssociations": 8, // maximum number of outbound DICOM associations (range: 1-100, default: 8)
}
},
"services": {
"platform": {
"maxRetries": 3,
"retryDelaySeconds": 180,
"uploadMetadata": false,
"metadataDicomSource": [
"0008,0020",
"0008,103E",
"0020,000D"
]
}
},
"storage" : {
"temporary" : "/payloads", // storage path used for storing received instances before uploading to Clara Platform.
"watermarkPercent": 75,
"reserveSpaceGB": 5
}
},
"Logging": {
"LogLevel": {
"Default": "Information",
"Nvidia.Clara.DicomAdapter.Server.Services.Scp": "Debug"
},
"Console": {
"disableColors": true
}
},
"AllowedHosts": "*"
}
"""


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
    assert settings.log_levels["System"] == "Warning"
    assert settings.dicom == Settings().dicom


def test_the_schema_pages_sample_is_told_by_line_and_read_when_it_is_corrected(data: DataFolder) -> None:
    path = written(data, SCHEMA_PAGE)
    assert problems(path, data) == (f'{path}: line 15, column 1: Unexpected """',)
    once = SCHEMA_PAGE.replace(']\n}\n"logDimse', ']\n},\n"logDimse')
    assert problems(written(data, once), data) == (f'{path}: line 21, column 20: Unexpected "0"',)
    settings = load(written(data, once.replace('"failureThreshold" ', '"failureThreshold": ')), data, {})
    assert settings.dicom.scu.export.maximum_retries == 4
    assert settings.dicom.scu.export.failure_threshold == 0.25
    assert settings.dicom.scp.verification.transfer_syntaxes[-1] == "1.2.840.10008.1.2.2"
    assert settings.services.platform.metadata_dicom_source == ("0008,0020", "0008,103E", "0020,000D")


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
            "dicom": {"scp": {"port": "x", "prot": 1, "verification": {"transferSyntaxes": []}},
                      "scu": {"aeTitle": "A TITLE THAT IS LONG"}},
            "services": {"platform": {"endpoint": "nowhere", "metadataDicomSource": ["0010,0020", "name"]},
                         "temporal": {"tlsKeyFile": "k", "apiKey": 7}},
            "storage": 5}, "Loging": {}, "Logging": {"LogLevel": {"Default": "Loud"}}}""",
    )
    variable = "DICOMADAPTER__DICOM__SCP__MAXIMUMNUMBEROFASSOCIATIONS"
    found = problems(path, data, {variable: "0", "DicomAdapter__storage__colour": "red", "CLARA_SERVICE_HOST": "h"})
    file = f"(file {path})"
    assert set(found) == {
        f"Loging is unknown {file}; did you mean Logging?",
        (
            "DicomAdapter>dicom>scp>port: 'x' is not allowed: "
            f"Input should be a valid integer, unable to parse string as an integer {file}"
        ),
        f"DicomAdapter>dicom>scp>prot is unknown {file}; did you mean port?",
        (
            f"DicomAdapter>dicom>scp>maximumNumberOfAssociations: '0' is not allowed: "
            f"Input should be greater than or equal to 1 (variable {variable})"
        ),
        (
            f"DicomAdapter>dicom>scp>verification>transferSyntaxes: [] is not allowed: "
            f"at least one transfer syntax UID is needed {file}"
        ),
        (
            f"DicomAdapter>dicom>scu>aeTitle: 'A TITLE THAT IS LONG' is not allowed: "
            f"String should have at most 16 characters {file}"
        ),
        f"DicomAdapter>services>platform>endpoint: 'nowhere' is not allowed: host:port is expected {file}",
        f"DicomAdapter>services>platform>metadataDicomSource: 'name' is not allowed: tags are written GGGG,EEEE {file}",
        f"DicomAdapter>services>temporal>apiKey: its value is not allowed: Input should be a valid string {file}",
        (
            f"DicomAdapter>services>temporal: one of two files is not allowed: "
            f"tlsCertificateFile and tlsKeyFile are given together {file}"
        ),
        (
            "DicomAdapter>storage>colour is unknown (variable DicomAdapter__storage__colour); "
            "known here: durability, preparedSpaceMB, quarantineRetentionHours, reconcileIntervalSeconds, "
            "reserveSpaceGB, temporary, watermarkPercent"
        ),
        (
            f"Logging>LogLevel>Default: 'Loud' is not allowed: "
            f"one of Trace, Debug, Information, Warning, Error, Critical, None {file}"
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
    assert settings.log_levels["Default"] == "Debug"
    assert settings.services.platform.endpoint == "clara:50051"
    assert settings.services.results_service_endpoint is None  # its port is missing
    both = {"CLARA_RESULTSSERVICE_SERVICE_HOST": "results", "CLARA_RESULTSSERVICE_SERVICE_PORT": "8088"}
    assert load(None, data, both).services.results_service_endpoint == "http://results:8088"
    own = both | {"DicomAdapter__services__resultsServiceEndpoint": "https://other/"}
    assert load(None, data, own).services.results_service_endpoint == "https://other/"
