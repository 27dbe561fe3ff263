"""The Kubernetes API server, as this room needs it: one kind of resource in one namespace.

The only module that imports the library; what it and its transport raise becomes an error of ours.
"""

import json
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, NoReturn, cast

from kubernetes import client, config, watch
from kubernetes.client.exceptions import ApiException
from kubernetes.config import incluster_config
from urllib3.exceptions import HTTPError

from clara_dicom_adapter.configuration.settings import KubernetesSettings
from clara_dicom_adapter.errors import AlreadyExists, ConfigurationInvalid, KubernetesUnavailable, NotFound
from clara_dicom_adapter.resources.kinds import API_VERSION, GROUP, VERSION, Kind, Resource
from clara_dicom_adapter.resources.watching import Gap

CONNECT_SECONDS: Final = 5.0
CALL_SECONDS: Final = 30.0
WATCH_SECONDS: Final = 300
"""How long one watch lasts before the API server ends it; the next goes on where it was."""
ACCOUNT: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where the kubelet puts a pod's service account."""
_KEEP_ALIVE: Final = (
    # a watch says nothing for minutes; a peer that has vanished without a word is noticed within half a minute
    (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1),
    (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 10),
    (socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 5),
    (socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3),
    (socket.IPPROTO_TCP, socket.TCP_NODELAY, 1),
)


class Cluster:
    """Where the resources are, and as whom we speak there."""

    def __init__(self, settings: KubernetesSettings) -> None:
        """Raises KubernetesUnavailable: there is neither a service account nor a usable kubeconfig."""
        configuration = client.Configuration()
        try:
            self.namespace = settings.namespace or _namespace(settings)
            if settings.kubeconfig is None and ACCOUNT.exists():
                # its hook reads the token anew, which the kubelet replaces before it expires
                loader = incluster_config.InClusterConfigLoader(  # type: ignore[no-untyped-call]
                    token_filename=str(ACCOUNT / "token"), cert_filename=str(ACCOUNT / "ca.crt")
                )
                loader.load_and_set(configuration)  # type: ignore[no-untyped-call]
            else:
                file = None if settings.kubeconfig is None else str(settings.kubeconfig)
                context = settings.context
                config.load_kube_config(file, context, configuration)  # type: ignore[no-untyped-call]
        except (config.ConfigException, OSError) as error:
            raise KubernetesUnavailable(
                "(no address)",
                f"{error}; set DicomAdapter>kubernetes>kubeconfig, or run in a pod with a service account",
            ) from error
        configuration.retries = False  # who calls knows better when to try again
        configuration.socket_options = list(_KEEP_ALIVE)
        self.address = str(configuration.host)
        self.objects = client.CustomObjectsApi(client.ApiClient(configuration))


def _namespace(settings: KubernetesSettings) -> str:
    if settings.kubeconfig is None and ACCOUNT.exists():
        return (ACCOUNT / "namespace").read_text(encoding="utf-8").strip()
    file = None if settings.kubeconfig is None else str(settings.kubeconfig)
    known: Any = config.list_kube_config_contexts(file)  # type: ignore[no-untyped-call]
    contexts, current = known
    context = current
    if settings.context is not None:
        context = next((each for each in contexts if each["name"] == settings.context), None)
    return str(context["context"].get("namespace", "default")) if context else "default"


class ResourceServer:
    """The resources of one kind; every call raises KubernetesUnavailable when it gets no answer."""

    def __init__(self, cluster: Cluster, kind: Kind[Any]) -> None:
        self._cluster = cluster
        self._kind = kind
        self._where = (GROUP, VERSION, cluster.namespace, kind.plural)
        self._watch: watch.Watch | None = None

    @property
    def address(self) -> str:
        return self._cluster.address

    def listed(self) -> tuple[list[Resource], str]:
        """All of them, and the version from which to watch."""
        with self._errors("list"):
            found = cast(
                Resource,
                self._cluster.objects.list_namespaced_custom_object(
                    *self._where, _request_timeout=(CONNECT_SECONDS, CALL_SECONDS)
                ),
            )
        return list(found["items"]), str(found["metadata"]["resourceVersion"])

    def events(self, version: str) -> Iterator[tuple[str, Resource]]:
        """What happens after a version: ``ADDED``, ``MODIFIED``, ``DELETED`` or ``BOOKMARK``, with the resource.

        Raises:
            Gap: The version is too old.
        """
        self._watch = watch.Watch()  # type: ignore[no-untyped-call]
        with self._errors("watch"):
            events: Any = self._watch.stream(  # type: ignore[no-untyped-call]
                self._cluster.objects.list_namespaced_custom_object,
                *self._where,
                resource_version=version,
                allow_watch_bookmarks=True,
                timeout_seconds=WATCH_SECONDS,
                _request_timeout=(CONNECT_SECONDS, WATCH_SECONDS + CALL_SECONDS),
            )
            for event in events:
                yield str(event["type"]), cast(Resource, event["raw_object"])

    def stop(self) -> None:
        """End a watch that another thread waits for."""
        if self._watch is not None:
            self._watch.stop()  # type: ignore[no-untyped-call]

    def create(self, name: str, spec: dict[str, Any]) -> Resource:
        """Make one; raises AlreadyExists when the name is taken, ConfigurationInvalid when it is refused."""
        body = {"apiVersion": API_VERSION, "kind": self._kind.name, "metadata": {"name": name}, "spec": spec}
        with self._errors("create"):
            return cast(
                Resource,
                self._cluster.objects.create_namespaced_custom_object(
                    *self._where, body, _request_timeout=(CONNECT_SECONDS, CALL_SECONDS)
                ),
            )

    def replace(self, resource: Resource, spec: dict[str, Any]) -> Resource:
        """Give a resource another spec; raises ConfigurationInvalid when somebody else has changed it meanwhile."""
        name = str(resource["metadata"]["name"])
        with self._errors("update", name):
            return cast(
                Resource,
                self._cluster.objects.replace_namespaced_custom_object(
                    *self._where, name, {**resource, "spec": spec}, _request_timeout=(CONNECT_SECONDS, CALL_SECONDS)
                ),
            )

    def delete(self, resource: Resource) -> None:
        """Remove it; raises NotFound when it is gone, or another has its name."""
        name = str(resource["metadata"]["name"])
        options = client.V1DeleteOptions(preconditions=client.V1Preconditions(uid=resource["metadata"]["uid"]))
        with self._errors("delete", name):
            self._cluster.objects.delete_namespaced_custom_object(
                *self._where, name, body=options, _request_timeout=(CONNECT_SECONDS, CALL_SECONDS)
            )

    def report(self, resource: Resource, conditions: list[dict[str, Any]]) -> Resource:
        """Write the status conditions; raises ConfigurationInvalid when the resource has changed meanwhile."""
        metadata = resource["metadata"]
        body = {"metadata": {"resourceVersion": metadata["resourceVersion"]}, "status": {"conditions": conditions}}
        with self._errors("patch the status of", str(metadata["name"])):
            return cast(
                Resource,
                self._cluster.objects.patch_namespaced_custom_object_status(
                    *self._where,
                    metadata["name"],
                    body,
                    _content_type="application/merge-patch+json",
                    _request_timeout=(CONNECT_SECONDS, CALL_SECONDS),
                ),
            )

    @contextmanager
    def _errors(self, verb: str, name: str = "") -> Iterator[None]:
        try:
            yield
        except ApiException as error:
            self._refused(verb, name, error)
        except (HTTPError, OSError) as error:
            raise KubernetesUnavailable(
                self.address, f"{type(error).__name__} at {verb} {self._kind.plural}"
            ) from error

    def _refused(self, verb: str, name: str, error: ApiException) -> NoReturn:
        status = _status(error)
        said = str(status.get("message") or error.reason)
        match error.status:
            case HTTPStatus.GONE:
                raise Gap from error
            case HTTPStatus.CONFLICT if status.get("reason") == "AlreadyExists":
                raise AlreadyExists(said) from error
            case HTTPStatus.CONFLICT:
                raise ConfigurationInvalid(
                    [f"{self._kind.name} {name} was changed by somebody else at the same time; try again."]
                ) from error
            case HTTPStatus.BAD_REQUEST | HTTPStatus.UNPROCESSABLE_ENTITY:
                causes = (status.get("details") or {}).get("causes") or []
                lines = [f"{each.get('field')}: {each.get('message')}" for each in causes]
                raise ConfigurationInvalid(lines or [said]) from error
            case HTTPStatus.NOT_FOUND if name:
                raise NotFound(self._kind.words, name) from error
            case HTTPStatus.NOT_FOUND:
                remedy = "are the definitions of deploy/chart/crds applied?"
                raise KubernetesUnavailable(self.address, f"it does not know {self._kind.plural}; {remedy}") from error
            case HTTPStatus.UNAUTHORIZED | HTTPStatus.FORBIDDEN:
                raise KubernetesUnavailable(self.address, f"{said}; give our account the chart's role") from error
        raise KubernetesUnavailable(self.address, f"HTTP status {error.status} at {verb}: {said[:300]}") from error


def _status(error: ApiException) -> dict[str, Any]:
    """The ``Status`` object in an answer; empty when it holds none."""
    try:
        found = json.loads(error.body or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
