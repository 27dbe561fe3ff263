"""A C-ECHO to a destination, and what is told where it fails."""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import pytest
from pynetdicom import AE, evt
from pynetdicom.sop_class import CTImageStorage, Verification  # type: ignore[attr-defined]
from support.dicom_peers import free_port, storescp


async def tried(api: httpx.AsyncClient, port: int, ae_title: str = "STORESCP", seconds: float = 5) -> tuple[bool, str]:
    body = {"name": "pacs", "aeTitle": ae_title, "hostIp": "127.0.0.1", "port": port}
    await api.post("/api/config/destinationaetitle", json=body)
    answer = await api.post("/api/config/destinationaetitle/PACS/echo", params={"seconds": seconds})
    assert answer.status_code == 200
    found = answer.json()
    assert found["destination"] == "pacs"
    return found["answered"], found["message"]


async def test_dcmtk_answers(api: httpx.AsyncClient, tmp_path: Path) -> None:
    with storescp(tmp_path / "received") as peer:
        assert await tried(api, peer.port) == (True, "STORESCP answered the C-ECHO with Success.")


async def test_nobody_listens(api: httpx.AsyncClient) -> None:
    port = free_port()
    answered, message = await tried(api, port)
    assert not answered
    assert message.startswith("No association: cannot connect: Connection refused. Is 127.0.0.1, port")


@contextmanager
def scp(*classes: str, require: str = "", status: int = 0) -> Iterator[int]:
    """pynetdicom's, on a free port."""
    ae = AE("STORESCP")
    for each in classes:
        ae.add_supported_context(each)
    if require:
        ae.require_calling_aet = [require]
    server = ae.start_server(("127.0.0.1", 0), block=False, evt_handlers=[(evt.EVT_C_ECHO, lambda _: status)])
    assert server is not None
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()


async def test_a_peer_that_does_not_know_us_is_told_apart(api: httpx.AsyncClient) -> None:
    with scp(Verification, require="SOMEBODY") as port:
        answered, message = await tried(api, port)
    assert not answered
    assert "The association was rejected" in message
    assert "must know 'ClaraSCU' at our address" in message


async def test_a_peer_without_verification_may_store_all_the_same(api: httpx.AsyncClient) -> None:
    with scp(CTImageStorage) as port:
        answered, message = await tried(api, port)
    assert not answered
    assert "offers no Verification" in message


async def test_another_status_is_told(api: httpx.AsyncClient) -> None:
    with scp(Verification, status=0x0122) as port:
        assert await tried(api, port) == (False, "STORESCP answered the C-ECHO with status 0122 instead of 0000.")


@pytest.mark.parametrize("says", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n"])
async def test_what_is_no_dicom_peer_keeps_nobody_waiting(api: httpx.AsyncClient, says: bytes) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        done = threading.Event()

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(says)
                done.wait(20)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            answered, message = await tried(api, server.getsockname()[1], seconds=0.5)
        finally:
            done.set()
            thread.join()
    assert not answered
    assert message.startswith("No association")


async def test_an_unknown_destination_and_an_endless_limit_are_refused(api: httpx.AsyncClient) -> None:
    assert (await api.post("/api/config/destinationaetitle/none/echo")).status_code == 404
    assert (await api.post("/api/config/destinationaetitle/none/echo?seconds=1e9")).status_code == 422
