"""The chart, rendered by the real Helm."""

import json
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

CHART = Path(__file__).parents[2] / "deploy" / "chart"
CRDS = sorted((CHART / "crds").glob("*.yaml"))
KUBE_VERSION = "1.32.0"
"""Told to Helm, which asks no cluster when it renders."""

Document = dict[str, Any]


def render(
    helm: Path,
    values: Mapping[str, Any] | None = None,
    *,
    namespace: str = "default",
    knows: Sequence[str] = (),
    chart: Path = CHART,
) -> list[Document]:
    """The documents of a release ``clara``; raises CalledProcessError with Helm's words in ``stderr``.

    Args:
        knows: API versions beyond Kubernetes' own that the cluster has.
    """
    command = [str(helm), "template", "clara", str(chart), "--namespace", namespace, "--kube-version", KUBE_VERSION]
    command += [word for version in knows for word in ("--api-versions", version)]
    done = subprocess.run(
        [*command, "--values", "-"], input=json.dumps(values or {}), capture_output=True, text=True, check=True
    )
    return [document for document in yaml.safe_load_all(done.stdout) if document]


def one(documents: Sequence[Document], kind: str, component: str | None = None) -> Document:
    """The only document of a kind, and of a component."""
    [found] = [
        each
        for each in documents
        if each["kind"] == kind
        and component in (None, each["metadata"].get("labels", {}).get("app.kubernetes.io/component"))
    ]
    return found


def container(documents: Sequence[Document], kind: str, component: str, name: str) -> Document:
    """A container of a component's pods."""
    containers = one(documents, kind, component)["spec"]["template"]["spec"]["containers"]
    return dict(next(each for each in containers if each["name"] == name))


def variables(of: Mapping[str, Any]) -> dict[str, str]:
    """A container's variables that have values of their own."""
    return {each["name"]: each["value"] for each in of["env"] if "value" in each}
