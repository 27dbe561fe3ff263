"""A real API server with the chart's definitions and roles, and Helm."""

import os
import secrets
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from support import programs
from support.chart import CRDS
from support.kubernetes_cluster import Cluster
from support.kubernetes_place import Place
from support.site import wait_until

_HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put these tests last: their programs take longest to build, and CI builds them beside the other tests."""
    items.sort(key=lambda item: item.path.is_relative_to(_HERE))


@pytest.fixture(scope="session")
def helm() -> Path:
    """The Helm program."""
    return programs.program("helm")


@pytest.fixture(scope="session")
def compose() -> Path:
    """The program that reads compose files."""
    return programs.program("compose")


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """An API server, empty at first; tests use namespaces of their own."""
    program = programs.program("cluster")
    if shutil.which("etcd") is None:
        reason = "etcd is not installed (deploy/peers.sh)"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    cluster = Cluster(tmp_path_factory.mktemp("cluster"), program)
    try:
        cluster.start()
        yield cluster
    finally:
        cluster.close()


@pytest.fixture(scope="session")
def definitions(cluster: Cluster) -> Cluster:
    """The API server with the chart's definitions of resources."""
    for path in CRDS:
        cluster.apply(yaml.safe_load(path.read_text(encoding="utf-8")))
    root = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"

    def established() -> bool:
        conditions = [
            {each["type"]: each["status"] for each in item.get("status", {}).get("conditions") or []}
            for item in cluster.call("GET", root)["items"]
        ]
        return len(conditions) == len(CRDS) and all(each.get("Established") == "True" for each in conditions)

    wait_until("the definitions are established", established, 60)
    return cluster


@pytest.fixture
def place(definitions: Cluster, helm: Path, tmp_path: Path) -> Place:
    """A namespace with the chart's accounts and roles; it stays, because no controller is there to remove it."""
    place = Place(definitions, f"test-{secrets.token_hex(4)}", tmp_path)
    place.install_access(helm)
    return place
