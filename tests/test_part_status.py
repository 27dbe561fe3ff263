"""What a part answers to probes."""

import json
import socket
import urllib.error
import urllib.request
from typing import Any

from clara_dicom_adapter.part_status import StatusServer


def get(url: str) -> tuple[int, Any]:
    try:
        with urllib.request.urlopen(url, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        with error:
            return error.code, json.loads(error.read())


def test_a_probe_learns_whether_the_part_is_ready_and_why_not() -> None:
    says: dict[str, Any] = {"ready": False, "reason": "Temporal does not answer"}
    with StatusServer(lambda: says) as server:
        url = f"http://127.0.0.1:{server.port}/health"
        assert get(f"{url}/live") == (200, {"status": "Healthy"})
        assert get(f"{url}/ready") == (503, {"status": "Unhealthy", "reason": "Temporal does not answer"})
        says["ready"] = True
        assert get(f"{url}/ready") == (200, {"status": "Healthy", "reason": ""})


def test_who_is_connected_is_told_on_loopback_only() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing; says which of our addresses would be used
        except OSError:
            return  # this machine has no other address
        address = probe.getsockname()[0]
    with StatusServer(lambda: {"ready": True, "associations": ["CT1"]}, host="0.0.0.0") as server:
        assert get(f"http://{address}:{server.port}/health/ready")[0] == 200
        assert get(f"http://{address}:{server.port}/status") == (404, {})
        assert get(f"http://127.0.0.1:{server.port}/status")[0] == 200
