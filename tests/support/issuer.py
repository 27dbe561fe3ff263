"""A little OpenID Connect provider on a loopback port: discovery, keys, and tokens signed with a key made here."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import jwt
from cryptography.hazmat.primitives.asymmetric import rsa
from jwt.algorithms import RSAAlgorithm


class Issuer:
    """Issues tokens, and can change its key as providers do."""

    def __init__(self) -> None:
        self.url = ""
        self.served: list[str] = []
        """Paths that were asked for."""
        self.rotate("first")

    def rotate(self, key_id: str) -> None:
        """From now on sign with a new key, and know no other."""
        self.key_id = key_id
        self.key = rsa.generate_private_key(public_exponent=65537, key_size=2048)

    def token(
        self, *, headers: dict[str, Any] | None = None, key: Any = None, alg: str = "RS256", **claims: Any
    ) -> str:
        """A token of the claims that are usual, and those given; a claim of None is left out."""
        now = int(time.time())
        usual = {"iss": self.url, "aud": "clara-dicom", "sub": "alice", "iat": now, "exp": now + 300}
        payload = {name: value for name, value in (usual | claims).items() if value is not None}
        return jwt.encode(payload, key or self.key, algorithm=alg, headers={"kid": self.key_id} | (headers or {}))

    def document(self, path: str) -> object | None:
        """What is answered to a GET."""
        if path == "/.well-known/openid-configuration":
            return {"issuer": self.url, "jwks_uri": f"{self.url}/keys"}
        if path == "/keys":
            public = json.loads(RSAAlgorithm.to_jwk(self.key.public_key()))
            return {"keys": [public | {"kid": self.key_id, "use": "sig"}]}
        return None


@contextmanager
def issuing() -> Iterator[Issuer]:
    """A provider that answers until the end of the block."""
    issuer = Issuer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            issuer.served.append(self.path)
            document = issuer.document(self.path)
            content = json.dumps(document).encode()
            self.send_response(200 if document is not None else 404)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *_: object) -> None:  # noqa: A002 - the base class calls it so
            del format

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    issuer.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield issuer
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
