"""Kubernetes' API server, Helm and the reader of compose files: built once with Go, kept in the user's cache folder."""

import os
from collections.abc import Mapping
from pathlib import Path

from clara_dicom_adapter.temporal import building
from clara_dicom_adapter.temporal.building import GoProgram, Progress

API_SERVER_VERSION = "v1.32.0"
HELM_VERSION = "v3.18.6"
COMPOSE_VERSION = "v2.4.9"
"""As in its go.mod."""
_RECIPES = Path(__file__).parents[2] / "deploy" / "servers"
API_SERVER = GoProgram(
    "kube-apiserver",
    f"the Kubernetes API server {API_SERVER_VERSION}",
    (
        "build",
        "-buildvcs=false",
        "-mod=readonly",
        "-ldflags",
        f"-s -w -X k8s.io/component-base/version.gitVersion={API_SERVER_VERSION}",
        "-o",
        "{bin}/kube-apiserver",
        ".",
    ),
    (1, 23),
    _RECIPES / "kube-apiserver",
)
HELM = GoProgram(
    "helm",
    f"Helm {HELM_VERSION}",
    ("install", "-ldflags", "-s -w", f"helm.sh/helm/v3/cmd/helm@{HELM_VERSION}"),
    (1, 24),
)
COMPOSE = GoProgram(
    "compose",
    f"the reader of compose files {COMPOSE_VERSION}",
    ("build", "-buildvcs=false", "-mod=readonly", "-ldflags", "-s -w", "-o", "{bin}/compose", "."),
    (1, 24),
    _RECIPES / "compose",
)


def find_api_server(progress: Progress = building.to_stderr, environ: Mapping[str, str] = os.environ) -> Path:
    """The API server; raises NotBuilt."""
    return _find(API_SERVER, API_SERVER_VERSION, progress, environ)


def find_helm(progress: Progress = building.to_stderr, environ: Mapping[str, str] = os.environ) -> Path:
    """Helm; raises NotBuilt."""
    return _find(HELM, HELM_VERSION, progress, environ)


def find_compose(progress: Progress = building.to_stderr, environ: Mapping[str, str] = os.environ) -> Path:
    """Prints what compose files amount to, or says what is wrong with them; raises NotBuilt."""
    return _find(COMPOSE, COMPOSE_VERSION, progress, environ)


def _find(wanted: GoProgram, version: str, progress: Progress, environ: Mapping[str, str]) -> Path:
    cache = building.cache_folder(wanted.name, version, environ)
    cache.mkdir(parents=True, exist_ok=True)
    program = cache / wanted.name
    if program.exists():  # it only ever gets there whole
        return program
    with building.alone(cache, wanted.title, progress):
        return program if program.exists() else building.build(wanted, cache, progress, environ)
