"""What the chart's pods may do, are asked, and are protected by; and what its definitions show."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.chart import CRDS, Document, render

IN_A_CLUSTER: Mapping[str, Any] = {
    "dicomAdapter": {"storage": {"hostPath": ""}, "database": {"existingSecret": "database"}},
    "receiver": {"replicas": 2},
    "worker": {"replicas": 2},
}
ROUTES = {"/health/live", "/health/ready", "/health/ready?role=api"}


@pytest.fixture(scope="module", params=[{}, IN_A_CLUSTER], ids=["defaults", "cluster"])
def documents(request: pytest.FixtureRequest, helm: Path) -> list[Document]:
    return render(helm, request.param)


def workloads(documents: list[Document]) -> Iterator[tuple[str, Document]]:
    """Each with its component's name."""
    for each in documents:
        if each["kind"] in {"StatefulSet", "Deployment"}:
            yield each["metadata"]["labels"]["app.kubernetes.io/component"], each["spec"]["template"]


def selects(selector: Mapping[str, str], pod: Document) -> bool:
    return bool(selector.items() <= pod["metadata"]["labels"].items())


def test_no_container_can_write_anywhere_but_into_its_volumes(documents: list[Document]) -> None:
    for _, pod in workloads(documents):
        spec = pod["spec"]
        for each in [*spec["containers"], *spec.get("initContainers", [])]:
            security = each["securityContext"]
            assert security["readOnlyRootFilesystem"] is True
            assert security["allowPrivilegeEscalation"] is False
            assert security["capabilities"]["drop"] == ["ALL"]
        for each in spec["containers"]:
            assert "runAsUser" not in each["securityContext"], "it is the pod's, and not root"
            assert {"/data", "/tmp"} <= {mount["mountPath"] for mount in each["volumeMounts"]}
        assert spec["securityContext"]["runAsNonRoot"] is True


def test_every_part_is_asked_how_it_is_on_a_port_that_it_has(documents: list[Document]) -> None:
    for component, pod in workloads(documents):
        for each in pod["spec"]["containers"]:
            ports = {port["name"] for port in each["ports"]}
            probes = {name: each[name]["httpGet"] for name in each if name.endswith("Probe")}
            beside_a_receiver = (component, each["name"]) == ("receiver", "worker")
            assert set(probes) == {"startupProbe", "livenessProbe"} | (
                set() if beside_a_receiver else {"readinessProbe"}  # it must keep no sender away
            )
            assert {probe["port"] for probe in probes.values()} <= ports
            assert {probe["path"] for probe in probes.values()} <= ROUTES


def test_every_pod_has_a_network_policy_and_no_service_points_at_nothing(documents: list[Document]) -> None:
    of = {kind: [each for each in documents if each["kind"] == kind] for kind in ("NetworkPolicy", "Service")}
    pods = dict(workloads(documents))
    for pod in pods.values():
        policies = [each for each in of["NetworkPolicy"] if selects(each["spec"]["podSelector"]["matchLabels"], pod)]
        assert len(policies) == 1
        assert policies[0]["spec"]["policyTypes"] == ["Ingress"]
        served = {port["name"] for each in pod["spec"]["containers"] for port in each["ports"]}
        allowed = {port["port"] for rule in policies[0]["spec"]["ingress"] for port in rule["ports"]}
        assert allowed == served
    for service in of["Service"]:
        found = [pod for pod in pods.values() if selects(service["spec"]["selector"], pod)]
        assert len(found) == 1, service["metadata"]["name"]
        named = {port["name"] for each in found[0]["spec"]["containers"] for port in each["ports"]}
        assert {port["targetPort"] for port in service["spec"]["ports"]} <= named


def test_disruptions_are_limited_where_there_are_several(helm: Path) -> None:
    for component in ("receiver", "worker"):
        documents = render(helm, {**IN_A_CLUSTER, component: {"replicas": 2, "podDisruptionBudget": {"enabled": True}}})
        budgets = [each for each in documents if each["kind"] == "PodDisruptionBudget"]
        pod = dict(workloads(documents))[component]
        (budget,) = (each for each in budgets if selects(each["spec"]["selector"]["matchLabels"], pod))
        assert budget["spec"]["maxUnavailable"] == 1


@pytest.mark.parametrize("path", CRDS, ids=lambda path: path.stem)
def test_a_definition_has_short_names_columns_and_conditions(path: Path) -> None:
    definition = yaml.safe_load(path.read_text(encoding="utf-8"))
    names = definition["spec"]["names"]
    page = (Path(__file__).parents[2] / "docs" / "kubernetes.md").read_text(encoding="utf-8")
    for name in (names["kind"], names["plural"], *names["shortNames"], definition["spec"]["group"]):
        assert name in page
    (version,) = definition["spec"]["versions"]
    assert version["subresources"] == {"status": {}}
    columns = {column["name"]: column["jsonPath"] for column in version["additionalPrinterColumns"]}
    assert {"AE Title", "Accepted", "Reason", "Age"} <= set(columns)
    schema = version["schema"]["openAPIV3Schema"]["properties"]
    assert set(schema["spec"]["required"]) <= set(schema["spec"]["properties"])
    conditions = schema["status"]["properties"]["conditions"]
    assert set(conditions["items"]["required"]) >= {"type", "status"}
