"""A receiver on several addresses, IPv4 and IPv6: one port, one limit, and peers that are known by their address."""

import socket
from pathlib import Path

import pytest
from support.listener_site import listening
from support.receiving import associate, instance
from support.site import wait_until

from clara_dicom_adapter.configuration.entities import Source
from clara_dicom_adapter.configuration.settings import ScpSettings
from clara_dicom_adapter.receiver.listeners import listen


def test_every_listener_serves_every_address(tmp_path: Path) -> None:
    hosts = ["127.0.0.1", "127.0.0.2", "::1"]
    sources = [Source(ae_title="CT6", host_ip="0:0:0:0:0:0:0:1")]
    with listening(tmp_path, sources=sources, host=hosts, maximum_number_of_associations=4) as site:
        by_host = {"127.0.0.1": "CT1", "127.0.0.2": "CT1", "::1": "CT6"}
        served: dict[str, set[int]] = {host: set() for host in by_host}

        def served_by_both() -> bool:
            for host, calling in by_host.items():
                assoc = associate(site.service.port, host=host, calling=calling)
                assert assoc.send_c_store(instance()).Status == 0
                wait_until("it is known", lambda: bool(site.service.associations()), 10)
                served[host].update(live.listener for live in site.service.associations())
                assoc.release()
                wait_until("it is over", lambda: not site.service.associations(), 10)
            return all(listeners == {0, 1} for listeners in served.values())

        wait_until("both have served each", served_by_both, 60)
        taken = [associate(site.service.port, host=host, calling=by_host[host]) for host in [*by_host, "::1"]]
        assert all(assoc.is_established for assoc in taken)
        assert associate(site.service.port, host="::1", calling="CT6").is_rejected  # the limit is one for all
        for assoc in taken:
            assoc.abort()
    peers = {folder.facts.peer for folder in site.spool.associations()}
    assert peers == {"127.0.0.1", "::1"}


def test_a_source_is_known_by_its_address_of_either_family(tmp_path: Path) -> None:
    sources = [Source(ae_title="CT6", host_ip="::1")]
    with listening(tmp_path, sources=sources, host=["127.0.0.1", "::1"]) as site:
        assert associate(site.service.port, host="::1", calling="CT6").is_established
        assert associate(site.service.port, host="127.0.0.1", calling="CT6").is_rejected
        assert associate(site.service.port, host="::1", calling="CT1").is_rejected
        assert associate(site.service.port, host="127.0.0.1", calling="CT1").is_established


def test_a_peer_with_an_ipv4_address_keeps_it_over_a_socket_for_both_families(tmp_path: Path) -> None:
    with listening(tmp_path, host="::", receivers=1) as site:
        assoc = associate(site.service.port, host="127.0.0.1")
        assert assoc.send_c_store(instance()).Status == 0
        wait_until("it is known", lambda: bool(site.service.associations()), 10)
        assert [live.peer for live in site.service.associations()] == ["127.0.0.1"]
        assoc.release()
        assert associate(site.service.port, host="::1").is_rejected
        wait_until("it is over", lambda: not site.service.associations(), 10)
    (folder,) = site.spool.associations()
    assert folder.facts.peer == "127.0.0.1"


def test_a_receiver_that_cannot_have_one_address_listens_on_none(tmp_path: Path) -> None:
    taken = listen(("::1",), 0)[0]
    port = taken.getsockname()[1]
    try:
        with (
            pytest.raises(OSError, match="in use") as raised,
            listening(tmp_path, host=["127.0.0.1", "::1"], port=port),
        ):
            pytest.fail("it listens")
        assert raised.value.filename == f"[::1]:{port}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 5)
    finally:
        taken.close()


def test_one_address_may_stand_without_a_list() -> None:
    assert ScpSettings().host == ("0.0.0.0",)
    assert ScpSettings.model_validate({"host": "::1"}).host == ("::1",)
    assert ScpSettings.model_validate({"host": ["127.0.0.1", "::1"]}).host == ("127.0.0.1", "::1")
    with pytest.raises(ValueError, match="at least 1 item"):
        ScpSettings.model_validate({"host": []})
