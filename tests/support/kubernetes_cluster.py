"""A real Kubernetes API server on an etcd of its own, with RBAC on; no kubelet and no controllers behind it."""

import base64
import json
import os
import secrets
import shutil
import ssl
import subprocess
import urllib.error
import urllib.request
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from clara_dicom_adapter.temporal.children import kill_group, spawn
from clara_dicom_adapter.temporal.ports import ReservedPort
from support.site import wait_until

ADMINISTRATOR = "system:masters"
_ETCD_OPERATIONS = 128
"""As many as etcd takes in one transaction."""


class Refused(Exception):
    """An HTTP status that is none of success; with the answer's ``Status``."""

    def __init__(self, code: int, answer: Mapping[str, Any]) -> None:
        super().__init__(f"{code}: {answer.get('message')}")
        self.code = code
        self.answer = answer


class Cluster:
    """etcd and the API server; the server can be stopped and started again on the same port."""

    def __init__(self, folder: Path, api_server: Path) -> None:
        self._folder = folder
        self._api_server = api_server
        self._token = secrets.token_hex(16)
        self._ports = [ReservedPort() for _ in range(3)]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # it makes a certificate of its own at its first start
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self._opener = urllib.request.build_opener(
            urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=context)
        )
        self._kinds: dict[tuple[str, str], tuple[str, bool]] = {}
        self._etcd: subprocess.Popen[bytes] | None = None
        self._server: subprocess.Popen[bytes] | None = None
        self.url = f"https://127.0.0.1:{self._ports[2].port}"

    # ---- processes ----

    def start(self) -> None:
        """Start both and wait until the API server is ready."""
        self._write_keys()
        client, peer = (f"http://127.0.0.1:{port.port}" for port in self._ports[:2])
        self._etcd = self._spawn(
            "etcd",
            [
                shutil.which("etcd") or "etcd",
                "--unsafe-no-fsync",
                f"--data-dir={self._folder / 'etcd'}",
                f"--listen-client-urls={client}",
                f"--advertise-client-urls={client}",
                f"--listen-peer-urls={peer}",
                f"--initial-advertise-peer-urls={peer}",
                f"--initial-cluster=default={peer}",
            ],
        )
        self.start_server()

    def start_server(self) -> None:
        keys = self._folder / "sa.key"
        self._server = self._spawn(
            "kube-apiserver",
            [
                str(self._api_server),
                f"--etcd-servers=http://127.0.0.1:{self._ports[0].port}",
                "--bind-address=127.0.0.1",
                f"--secure-port={self._ports[2].port}",
                f"--cert-dir={self._folder / 'certificates'}",
                f"--token-auth-file={self._folder / 'tokens.csv'}",
                "--authorization-mode=RBAC",
                "--service-account-issuer=https://localhost",
                f"--service-account-key-file={keys}",
                f"--service-account-signing-key-file={keys}",
                "--service-cluster-ip-range=10.0.0.0/24",
                "--disable-admission-plugins=ServiceAccount",
            ],
        )
        wait_until("the API server is ready", self.is_ready)

    def stop_server(self) -> None:
        """Kill the API server alone, as a machine that goes down does; etcd keeps everything."""
        assert self._server is not None
        kill_group(self._server)
        self._server = None

    def close(self) -> None:
        for process in (self._server, self._etcd):
            if process is not None:
                kill_group(process)
        for port in self._ports:
            port.close()

    def is_ready(self) -> bool:
        assert self._server is not None
        assert self._server.poll() is None, (self._folder / "kube-apiserver.log").read_text()[-2000:]
        try:
            return bool(self.call("GET", "/readyz", raw=True))
        except (Refused, OSError):
            return False

    def _spawn(self, name: str, command: Sequence[str]) -> subprocess.Popen[bytes]:
        with (self._folder / f"{name}.log").open("ab") as log:
            return spawn(command, stdout=log.fileno(), stderr=log.fileno(), cwd=self._folder)

    def _write_keys(self) -> None:
        key = self._folder / "sa.key"
        subprocess.run(["openssl", "genrsa", "-traditional", "-out", str(key), "2048"], check=True, capture_output=True)
        (self._folder / "tokens.csv").write_text(f'{self._token},administrator,1,"{ADMINISTRATOR}"\n')

    # ---- calls of the administrator ----

    def call(
        self, method: str, path: str, body: object = None, *, content: str = "application/json", raw: bool = False
    ) -> Any:
        """One call of the API; raises Refused, or OSError without an answer."""
        request = urllib.request.Request(self.url + path, method=method)
        request.add_header("Authorization", f"Bearer {self._token}")
        if body is not None:
            request.data = json.dumps(body).encode()
            request.add_header("Content-Type", content)
        try:
            with self._opener.open(request, timeout=20) as answer:
                text = answer.read()
        except urllib.error.HTTPError as error:
            with error:
                said = error.read()
            try:
                answer_object = json.loads(said)
            except ValueError:
                answer_object = {"message": said.decode(errors="replace")}
            raise Refused(error.code, answer_object) from None
        return text if raw else json.loads(text)

    def apply(self, document: Mapping[str, Any], namespace: str = "default", *, dry_run: bool = False) -> Any:
        """Server-side apply with strict validation of fields."""
        path = f"{self.path_of(document, namespace)}/{document['metadata']['name']}"
        options = "?fieldManager=tests&force=true&fieldValidation=Strict" + ("&dryRun=All" if dry_run else "")
        return self.call("PATCH", path + options, document, content="application/apply-patch+yaml")

    def store(self, group: str, plural: str, documents: Iterable[Mapping[str, Any]]) -> None:
        """Put custom resources straight into etcd, where nothing looks at them: thousands in a second or two."""
        puts = [
            {"requestPut": {"key": _encoded(f"/registry/{group}/{plural}/{name}"), "value": _encoded(json.dumps(each))}}
            for each in documents
            for name in [f"{each['metadata']['namespace']}/{each['metadata']['name']}"]
        ]
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        url = f"http://127.0.0.1:{self._ports[0].port}/v3/kv/txn"
        for start in range(0, len(puts), _ETCD_OPERATIONS):
            few = puts[start : start + _ETCD_OPERATIONS]
            with opener.open(url, json.dumps({"success": few}).encode(), timeout=20) as answer:
                assert json.loads(answer.read())["succeeded"]

    def path_of(self, document: Mapping[str, Any], namespace: str) -> str:
        """The collection that an object belongs to, as the server's own discovery names it."""
        version, kind = str(document["apiVersion"]), str(document["kind"])
        root = f"/api/{version}" if "/" not in version else f"/apis/{version}"
        if (version, kind) not in self._kinds:
            found = next(each for each in self.call("GET", root)["resources"] if each["kind"] == kind)
            self._kinds[version, kind] = found["name"], found["namespaced"]
        plural, namespaced = self._kinds[version, kind]
        where = f"/namespaces/{document['metadata'].get('namespace', namespace)}" if namespaced else ""
        return f"{root}{where}/{plural}"

    # ---- access for others ----

    def token_of(self, account: str, namespace: str = "default") -> str:
        """A token of a service account, such as a pod gets."""
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": {"expirationSeconds": 3600}}
        path = f"/api/v1/namespaces/{namespace}/serviceaccounts/{account}/token"
        return str(self.call("POST", path, body)["status"]["token"])

    def kubeconfig(self, path: Path, token: str | None = None, namespace: str = "default") -> Path:
        """A kubeconfig for a token, the administrator's by default."""
        authority = base64.b64encode((self._folder / "certificates" / "apiserver.crt").read_bytes()).decode()
        content = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": self.url, "certificate-authority-data": authority}}],
            "users": [{"name": "test", "user": {"token": token or self._token}}],
            "contexts": [
                {"name": "test", "context": {"cluster": "test", "user": "test", "namespace": namespace}},
            ],
        }
        path.write_text(yaml.safe_dump(content))
        path.chmod(0o600)
        return path


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def without_proxy() -> dict[str, str]:
    """The environment for a program that speaks to the API server here."""
    return {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
