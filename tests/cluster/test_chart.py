"""The chart: what Helm makes of it, judged by Helm's linter and by a real API server."""

import base64
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import typer.main
import yaml
from support.chart import CHART, KUBE_VERSION, Document, container, one, render, variables
from support.kubernetes_cluster import Cluster, Refused, without_proxy

from clara_dicom_adapter.cli.app import app
from clara_dicom_adapter.configuration import reader
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid

MONITORED = "monitoring.coreos.com/v1/ServiceMonitor"
EVERYTHING_IN_CLAIMS: Mapping[str, Any] = {
    "dicomAdapter": {"storage": {"hostPath": ""}, "database": {"hostPath": ""}},
    "platform": {"embedded": {"hostPath": ""}},
    "receiver": {"hostPort": False},
}
VALUES: Mapping[str, Mapping[str, Any]] = {
    "defaults": {},
    "claims": EVERYTHING_IN_CLAIMS,
    "resources": {
        "dicomAdapter": {
            "dicomPort": 11112,
            "readAeTitlesFromCrd": True,
            "readSourcesFromCrd": True,
            "readDestinationsFromCrd": True,
        },
        "platform": {"embedded": {"pipelinesConfigMap": "pipelines"}},
    },
    "cluster": {
        "dicomAdapter": {
            "apiPort": 8443,
            "database": {"existingSecret": "database"},
            "tls": {"existingSecret": "dicom", "port": 2762},
        },
        "image": {"repository": "registry.example/clara-dicom-adapter", "tag": "1"},
        "imagePullSecrets": [{"name": "registry"}],
        "receiver": {
            "replicas": 3,
            "hostPort": False,
            "service": {"type": "LoadBalancer", "nodePort": 30104, "tlsNodePort": 30276, "annotations": {"a": "b"}},
            "nodeSelector": {"disk": "fast"},
            "tolerations": [{"key": "dicom", "operator": "Exists"}],
        },
        "worker": {"replicas": 2},
        "api": {"existingSecret": "keys", "service": {"type": "ClusterIP"}},
        "temporal": {
            "address": "temporal.example:7233",
            "namespace": "clara",
            "webUiAddress": "https://temporal.example",
            "tls": {"enabled": True, "existingSecret": "tls", "clientCertificate": True, "serverName": "temporal"},
            "apiKeySecret": "temporal-key",
        },
        "platform": {
            "embedded": {"enabled": False},
            "endpoint": "clara.example:50051",
            "resultsServiceEndpoint": "http://clara.example:8088",
        },
        "settings": {"DicomAdapter__dicom__scp__maximumNumberOfAssociations": "50"},
        "networkPolicy": {
            "dicomSources": [{"ipBlock": {"cidr": "10.0.0.0/8"}}],
            "apiClients": [{"podSelector": {"matchLabels": {"app": "console"}}}],
            "monitoring": [{"namespaceSelector": {"matchLabels": {"name": "monitoring"}}}],
        },
        "serviceMonitor": {"labels": {"release": "prometheus"}},
    },
}


@pytest.fixture(scope="module", params=VALUES)
def documents(request: pytest.FixtureRequest, helm: Path) -> list[Document]:
    """The documents of one set of values."""
    return render(helm, VALUES[request.param], namespace="default")


# ---- Helm ----


@pytest.mark.parametrize("values", VALUES.values(), ids=VALUES)
def test_the_linter_finds_nothing(helm: Path, values: Mapping[str, Any], tmp_path: Path) -> None:
    file = tmp_path / "values.yaml"
    file.write_text(json.dumps(values))
    done = subprocess.run(
        [helm, "lint", CHART, "--strict", "--quiet", "--kube-version", KUBE_VERSION, "--values", file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"receiver": {"replicas": 2}}, "receiver.replicas above 1 needs PostgreSQL"),
        ({"worker": {"replicas": 2}}, "worker.replicas above 1 needs PostgreSQL"),
        ({"platform": {"embedded": {"enabled": False}}}, "platform.endpoint and platform.resultsServiceEndpoint"),
        ({"temporal": {"address": ""}}, "temporal.address is needed"),
        ({"dicomAdapter": {"dicomPort": 0}}, "dicomPort"),
        ({"dicomAdapter": {"tls": {"only": True}}}, "dicomAdapter.tls.only needs a secret"),
        ({"dicomAdapter": {"tls": {"existingSecret": "x", "port": 104}}}, "tls.port and dicomAdapter.dicomPort must"),
        ({"dicomAdapter": {"tls": {"clientCertificates": "perhaps"}}}, "clientCertificates"),
        ({"dicomAdapter": {"dicomport": 104}}, "dicomport"),
    ],
)
def test_values_that_cannot_work_are_refused_with_the_remedy(helm: Path, values: dict[str, Any], told: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as refused:
        render(helm, values)
    assert told in refused.value.stderr


def test_a_cluster_that_is_too_old_is_told_so(helm: Path) -> None:
    def on(version: str) -> subprocess.CompletedProcess[str]:
        command = [str(helm), "template", "clara", str(CHART), "--kube-version", version]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    assert on("1.25.0").returncode == 0
    refused = on("1.24.17")
    assert refused.returncode != 0
    assert "kubeVersion: >=1.25.0-0" in refused.stderr


def test_the_version_is_the_products() -> None:
    project = (CHART.parents[1] / "pyproject.toml").read_text(encoding="utf-8")
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text(encoding="utf-8"))
    assert f'version = "{chart["appVersion"]}"' in project


# ---- the API server ----


def test_the_api_server_takes_every_object_and_knows_every_field(
    definitions: Cluster, documents: list[Document]
) -> None:
    assert documents
    for document in documents:
        definitions.apply(document, dry_run=True)


def test_a_misspelt_field_would_be_refused(definitions: Cluster, helm: Path) -> None:
    """So that the test above can fail."""
    document = one(render(helm), "StatefulSet", "receiver")
    document["spec"]["template"]["spec"]["containers"][0]["readinesProbe"] = {}
    with pytest.raises(Refused, match="readinesProbe"):
        definitions.apply(document, dry_run=True)


@pytest.mark.parametrize("component", ["receiver", "worker", "platform"])
def test_with_claims_its_pods_pass_the_restricted_standard(
    definitions: Cluster, helm: Path, restricted: str, component: str
) -> None:
    documents = render(helm, EVERYTHING_IN_CLAIMS)
    workload = one(documents, "Deployment" if component == "worker" else "StatefulSet", component)
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": component},
        "spec": workload["spec"]["template"]["spec"],
    }
    claimed = [each["metadata"]["name"] for each in workload["spec"].get("volumeClaimTemplates", [])]
    pod["spec"]["volumes"] += [{"name": name, "persistentVolumeClaim": {"claimName": name}} for name in claimed]
    definitions.apply(pod, restricted, dry_run=True)
    pod["spec"]["containers"][0]["securityContext"]["allowPrivilegeEscalation"] = True
    with pytest.raises(Refused, match="violates PodSecurity"):
        definitions.apply(pod, restricted, dry_run=True)


@pytest.fixture(scope="module")
def restricted(definitions: Cluster) -> str:
    """A namespace in which only pods of the restricted standard may be."""
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    definitions.call("POST", "/api/v1/namespaces", {"metadata": {"name": "restricted", "labels": labels}})
    return "restricted"


def test_an_installation_can_be_upgraded_and_keeps_its_keys(definitions: Cluster, helm: Path, tmp_path: Path) -> None:
    """Helm's own way to the API server; nothing runs there, but everything is made."""
    definitions.call("POST", "/api/v1/namespaces", {"metadata": {"name": "installed"}})
    access = definitions.kubeconfig(tmp_path / "kubeconfig", namespace="installed")

    def run(*arguments: str) -> None:
        where = ["--namespace", "installed", "--kubeconfig", str(access)]
        command = [str(helm), *arguments, "clara", str(CHART), *where]
        done = subprocess.run(command, capture_output=True, text=True, check=False, env=without_proxy())
        assert done.returncode == 0, done.stderr

    def keys() -> dict[str, str]:
        secret = definitions.call("GET", "/api/v1/namespaces/installed/secrets/clara-dicom-adapter-api-keys")
        return {name: base64.b64decode(value).decode() for name, value in secret["data"].items()}

    run("install")
    before = keys()
    assert before["keys"] == f"configure {before['configure-key']}\nread {before['read-key']}\n"
    assert len(before["configure-key"]) == 48
    run("upgrade", "--set", "dicomAdapter.readAeTitlesFromCrd=true")
    assert keys() == before
    roles = definitions.call("GET", "/apis/rbac.authorization.k8s.io/v1/namespaces/installed/roles")["items"]
    assert len(roles) == 2


def test_the_service_monitor_is_made_where_its_resource_exists(helm: Path) -> None:
    assert not [each for each in render(helm) if each["kind"] == "ServiceMonitor"]
    documents = render(helm, knows=[MONITORED])
    monitor = one(documents, "ServiceMonitor")
    ports = {port["name"] for each in documents if each["kind"] == "Service" for port in each["spec"]["ports"]}
    assert {each["port"] for each in monitor["spec"]["endpoints"]} <= ports


# ---- what the parts are told ----


def settings_of(document: Mapping[str, Any], documents: list[Document], folder: Path) -> Settings:
    """The settings that a container reads, from the chart's file and its variables."""
    told = variables(document)
    config = None
    if "CLARA_DICOM_CONFIG" in told:
        config = folder / "appsettings.json"
        config.write_text(one(documents, "ConfigMap")["data"]["appsettings.json"])
    try:
        return reader.load(config, DataFolder(folder), told)
    except ConfigurationInvalid as error:
        pytest.fail(str(error))


def test_every_container_runs_a_command_that_exists_with_settings_that_are_known(
    documents: list[Document], tmp_path: Path
) -> None:
    dicom: Any = typer.main.get_command(app).commands["dicom"]  # type: ignore[attr-defined]
    seen = set()
    for document in documents:
        if document["kind"] not in {"StatefulSet", "Deployment"}:
            continue
        for each in document["spec"]["template"]["spec"]["containers"]:
            group, part = each["args"]
            assert group == "dicom"
            assert part in dicom.commands
            settings = settings_of(each, documents, tmp_path)
            assert settings.services.temporal.address
            seen.add(part)
    assert {"receiver", "worker", "api"} <= seen


def test_the_port_of_the_values_wins_over_the_files(helm: Path, tmp_path: Path) -> None:
    """Seed 000: who uses the chart changes dicomPort instead of the file."""
    documents = render(helm, {"dicomAdapter": {"dicomPort": 11112}})
    receiver = container(documents, "StatefulSet", "receiver", "receiver")
    assert '"port": 104' in one(documents, "ConfigMap")["data"]["appsettings.json"]
    assert settings_of(receiver, documents, tmp_path).dicom.scp.port == 11112
    assert {"name": "dicom", "containerPort": 11112, "hostPort": 11112} in receiver["ports"]
    sysctls = one(documents, "StatefulSet", "receiver")["spec"]["template"]["spec"]["securityContext"].get("sysctls")
    assert sysctls is None, "a high port needs none"


def test_port_104_is_had_without_root(helm: Path) -> None:
    pod = one(render(helm), "StatefulSet", "receiver")["spec"]["template"]["spec"]
    assert pod["securityContext"]["sysctls"] == [{"name": "net.ipv4.ip_unprivileged_port_start", "value": "104"}]
    assert pod["securityContext"]["runAsUser"] != 0


@pytest.mark.parametrize("only", [False, True])
def test_tls_has_a_port_of_its_own_and_the_receiver_alone_its_secret(helm: Path, tmp_path: Path, only: bool) -> None:
    tls = {"existingSecret": "dicom", "clientCertificates": "optional", "minimumVersion": "1.3", "only": only}
    documents = render(helm, {"dicomAdapter": {"tls": tls}})
    receiver = container(documents, "StatefulSet", "receiver", "receiver")
    told = settings_of(receiver, documents, tmp_path).dicom.scp
    folder = Path("/etc/dicom-tls")
    assert (told.tls.port, told.tls.only, told.plain) == (2762, only, not only)
    assert (told.tls.client_certificates, told.tls.minimum_version) == ("optional", "1.3")
    assert (told.tls.certificate_file, told.tls.key_file) == (folder / "tls.crt", folder / "tls.key")
    assert told.tls.ca_file == folder / "ca.crt"
    assert {"name": "dicom-tls", "mountPath": str(folder), "readOnly": True} in receiver["volumeMounts"]
    names = ["dicom-tls"] if only else ["dicom", "dicom-tls"]
    assert [port["name"] for port in receiver["ports"] if port["name"] != "health"] == names
    assert [port["name"] for port in one(documents, "Service", "dicom")["spec"]["ports"]] == names
    policy = one(documents, "NetworkPolicy", "receiver")["spec"]["ingress"][0]
    assert [port["port"] for port in policy["ports"]] == names
    pod = one(documents, "StatefulSet", "receiver")["spec"]["template"]["spec"]
    assert ("sysctls" in pod["securityContext"]) is not only, "port 2762 needs no leave"
    worker = container(documents, "StatefulSet", "receiver", "worker")
    assert not [mount for mount in worker["volumeMounts"] if mount["name"] == "dicom-tls"]
    assert not [name for name in variables(worker) if "__tls__" in name]


def test_receivers_that_share_a_folder_of_the_node_have_one_of_their_own_each(helm: Path) -> None:
    documents = render(helm, {"dicomAdapter": {"storage": {"hostPath": "/clara-io"}}})
    for part in ("receiver", "worker"):
        each = container(documents, "StatefulSet", "receiver", part)
        mount = next(mount for mount in each["volumeMounts"] if mount["name"] == "payloads")
        assert mount["subPathExpr"] == "clara-core/payloads/$(POD_NAME)"
        assert variables(each)["DicomAdapter__storage__temporary"] == mount["mountPath"] == "/payloads"


def test_senders_addresses_are_preserved(helm: Path) -> None:
    for kind in ("LoadBalancer", "NodePort"):
        documents = render(helm, {"receiver": {"service": {"type": kind}}})
        assert one(documents, "Service", "dicom")["spec"]["externalTrafficPolicy"] == "Local"


def test_the_platform_gets_neither_database_nor_spool_nor_a_token(documents: list[Document]) -> None:
    if not any(each["metadata"]["name"].endswith("-platform") for each in documents):
        return
    pod = one(documents, "StatefulSet", "platform")["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    told = variables(pod["containers"][0])
    assert not [name for name in told if "Database" in name or "storage" in name]
    assert {"payloads", "database"}.isdisjoint(each["name"] for each in pod["volumes"])


def test_nobody_has_a_token_who_needs_none(helm: Path) -> None:
    for kept, wanted in ((False, False), (True, True)):
        documents = render(helm, {"dicomAdapter": {"readSourcesFromCrd": kept}})
        for kind, component in (("StatefulSet", "receiver"), ("Deployment", "worker")):
            pod = one(documents, kind, component)["spec"]["template"]["spec"]
            assert pod["automountServiceAccountToken"] is wanted
        roles = [each for each in documents if each["kind"] == "Role"]
        assert [rule["resources"] for each in roles for rule in each["rules"]] == (
            [["sources"], ["sources"], ["sources/status"]] if kept else []
        )
