"""A namespace of a test's own, with the chart's accounts and roles in it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.configuration.settings import (
    DataFolder,
    DicomSettings,
    KubernetesSettings,
    ScpSettings,
    ScuSettings,
    Settings,
)
from clara_dicom_adapter.resources.kinds import API_VERSION, GROUP, VERSION
from clara_dicom_adapter.resources.opening import open_configuration
from support.chart import render
from support.kubernetes_cluster import Cluster
from support.site import wait_until

EVERY_KIND = {"readAeTitlesFromCrd": True, "readSourcesFromCrd": True, "readDestinationsFromCrd": True}
KIND_OF = {"claraaetitles": "ClaraAeTitle", "sources": "Source", "destinations": "Destination"}


class Place:
    """One namespace."""

    def __init__(self, cluster: Cluster, namespace: str, folder: Path) -> None:
        self.cluster = cluster
        self.namespace = namespace
        self.folder = folder
        cluster.call("POST", "/api/v1/namespaces", {"metadata": {"name": namespace}})

    def install_access(self, helm: Path, values: Mapping[str, Any] | None = None) -> None:
        """Apply the accounts and roles of the chart, nothing else."""
        given = {"dicomAdapter": {**EVERY_KIND, **(values or {})}}
        for document in render(helm, given, namespace=self.namespace):
            if document["kind"] in {"ServiceAccount", "Role", "RoleBinding"}:
                self.cluster.apply(document, self.namespace)

    def kubeconfig(self, component: str) -> Path:
        """To speak as the chart's account of a component; made once, as a pod's token is there before it is needed."""
        path = self.folder / f"{component}.kubeconfig"
        if path.exists():
            return path
        token = self.cluster.token_of(f"clara-dicom-adapter-{component}", self.namespace)
        return self.cluster.kubeconfig(path, token, self.namespace)

    def settings(self, component: str = "worker") -> Settings:
        """Everything is kept as resources, and read as a component."""
        return Settings(
            dicom=DicomSettings(
                scp=ScpSettings(read_ae_titles_from_crd=True, read_sources_from_crd=True),
                scu=ScuSettings(read_destinations_from_crd=True),
            ),
            kubernetes=KubernetesSettings(kubeconfig=self.kubeconfig(component)),
        )

    @contextmanager
    def configuration(
        self, component: str = "worker", *, report: bool = False, watch: bool = True, data: str = "data"
    ) -> Iterator[Configuration]:
        """As a part opens it, without any database."""
        opened = open_configuration(
            self.settings(component), no_database, DataFolder(self.folder / data), watch=watch, report=report
        )
        try:
            yield opened.configuration
        finally:
            opened.close()

    # ---- the administrator's hand ----

    def path(self, plural: str, name: str = "") -> str:
        return f"/apis/{GROUP}/{VERSION}/namespaces/{self.namespace}/{plural}{'/' if name else ''}{name}"

    def declare(self, plural: str, name: str, spec: Mapping[str, Any]) -> dict[str, Any]:
        """Make a resource, or give it another spec."""
        document = {"apiVersion": API_VERSION, "kind": KIND_OF[plural], "metadata": {"name": name}, "spec": spec}
        return dict(self.cluster.apply(document, self.namespace))

    def withdraw(self, plural: str, name: str) -> None:
        self.cluster.call("DELETE", self.path(plural, name))

    def read(self, plural: str, name: str) -> dict[str, Any]:
        return dict(self.cluster.call("GET", self.path(plural, name)))

    def names(self, plural: str) -> list[str]:
        return [each["metadata"]["name"] for each in self.cluster.call("GET", self.path(plural))["items"]]

    def accepted(self, plural: str, name: str) -> tuple[str, str, str]:
        """Status, reason and message of the condition, once it is about the resource as it is now."""
        found: list[dict[str, Any]] = []

        def told() -> bool:
            resource = self.read(plural, name)
            found[:] = [
                each
                for each in resource.get("status", {}).get("conditions", [])
                if each["type"] == "Accepted" and each["observedGeneration"] == resource["metadata"]["generation"]
            ]
            return bool(found)

        wait_until(f"{plural}/{name} has its condition", told, 60)
        return found[0]["status"], found[0]["reason"], found[0]["message"]


def no_database() -> Configuration:
    raise AssertionError("nothing here is kept in the database")
