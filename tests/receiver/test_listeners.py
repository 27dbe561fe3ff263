"""Listener processes: they share the port, the limit and the configuration, and die alone."""

import os
import re
import signal
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import Any, cast

import pytest
from prometheus_client.parser import text_string_to_metric_families
from support.authority import Issued
from support.listener_site import listening
from support.receiver_wire import established, store_message
from support.receiving import associate, instance
from support.site import wait_until
from support.tls_peers import Hospital, associate_securely, common_name

from clara_dicom_adapter.part_status import StatusServer
from clara_dicom_adapter.receiver.places import Places
from clara_dicom_adapter.spool import AssociationFolder
from clara_dicom_adapter.workflows.models import AssociationOutcome


def test_connections_are_shared_out_however_idle_the_listeners_are(tmp_path: Path) -> None:
    """The kernel would wake the same one as long as that waits; so sixteen that come one after the other are shared."""
    with listening(tmp_path) as site, ExitStack() as stack:
        for number in range(16):
            stack.enter_context(established(site.service.port))
            wait_until("it is known", lambda: len(site.service.associations()) == number + 1)  # noqa: B023
        served = [live.listener for live in site.service.associations()]
        assert min(served.count(listener) for listener in range(2)) >= 4


def test_one_that_dies_costs_only_its_own_associations_and_is_replaced(tmp_path: Path) -> None:
    with listening(tmp_path) as site:
        open_associations = []
        while len({live.listener for live in site.service.associations()}) < 2:
            assoc = associate(site.service.port)
            open_associations.append(assoc)
            wait_until("it is known", lambda: len(site.service.associations()) == len(open_associations))
        for assoc in open_associations:
            assert assoc.send_c_store(instance()).Status == 0
        before = site.listeners.pids
        health = site.service.health()
        assert (health.listeners, health.listening, list(health.listener_pids)) == (2, 2, before)
        assert (health.ready, health.warnings) == (True, [])
        served = [live.listener for live in site.service.associations()]
        os.kill(before[0], signal.SIGKILL)
        wait_until(
            "its associations are over",
            lambda: all(live.listener == 1 for live in site.service.associations()),
            10,
        )
        assert len(site.service.associations()) == served.count(1)
        survivor = open_associations[served.index(1)]
        assert survivor.send_c_store(instance()).Status == 0
        outcomes = [folder.outcome.outcome for folder in site.spool.associations() if folder.outcome is not None]
        assert outcomes == [AssociationOutcome.ADAPTER_STOPPED] * served.count(0)
        wait_until("another has taken its place", lambda: site.listeners.listening == 2)
        assert site.listeners.pids[0] != before[0]
        assert site.listeners.pids[1] == before[1]
        survivor.release()
        for assoc in open_associations:
            assoc.abort()
    assert "adapter-stopped 1" in site.ended()
    assert "released 2" in site.ended()


def test_who_comes_back_does_not_overtake_what_broke_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The broken association is in the index before the next one of its sender, however long it takes to be found."""
    with listening(tmp_path) as site:
        first = associate(site.service.port)
        wait_until("it is known", lambda: len(site.service.associations()) == 1)
        recovery, close_abandoned = site.service._recovery, site.service._recovery.close_abandoned

        def late() -> list[AssociationFolder]:
            wait_until("the next one has ended", lambda: "released 1" in site.ended())
            return close_abandoned()

        assert first.send_c_store(instance()).Status == 0
        (broken,) = site.service.associations()
        monkeypatch.setattr(recovery, "close_abandoned", late)
        os.kill(site.listeners.pids[broken.listener], signal.SIGKILL)
        again = associate(site.service.port)
        assert again.send_c_store(instance()).Status == 0
        again.release()
        wait_until("both are batched", lambda: site.spool.usage().unhanded == 2)
        pending = site.spool.batches_to_hand_over()
        assert [batch.ref.association_id == broken.association_id for batch in pending] == [True, False]
        first.abort()


def test_the_limit_holds_over_all_of_them_and_the_places_of_a_dead_one_are_free(tmp_path: Path) -> None:
    with listening(tmp_path, maximum_number_of_associations=3) as site:
        taken = [associate(site.service.port) for _ in range(3)]
        assert all(assoc.is_established for assoc in taken)
        assert associate(site.service.port).is_rejected
        for pid in site.listeners.pids:
            os.kill(pid, signal.SIGKILL)
        wait_until("both are replaced", lambda: site.listeners.listening == 2)
        again = [associate(site.service.port) for _ in range(3)]
        assert all(assoc.is_established for assoc in again)
        assert associate(site.service.port).is_rejected
        for assoc in (*taken, *again):
            assoc.abort()


def test_a_change_of_the_configuration_reaches_all_and_who_takes_the_place_of_a_dead_one(tmp_path: Path) -> None:
    with listening(tmp_path) as site:
        assert associate(site.service.port, called="LATER").is_rejected
        site.configured.added.append("LATER")
        served: set[int] = set()

        def accepted_by_both() -> bool:
            assoc = associate(site.service.port, called="LATER")
            if assoc.is_established:
                wait_until("it is known", lambda: bool(site.service.associations()))
                served.update(live.listener for live in site.service.associations())
                assoc.release()
                wait_until("it is over", lambda: not site.service.associations())
            return served == {0, 1}

        wait_until("both know it", accepted_by_both)
        served.clear()
        before = site.listeners.pids
        os.kill(before[0], signal.SIGKILL)
        wait_until("it is replaced", lambda: site.listeners.listening == 2 and before[0] not in site.listeners.pids)
        wait_until("both know it again", accepted_by_both)


def test_the_receiver_hears_of_what_is_stored_while_the_association_is_open(tmp_path: Path) -> None:
    with listening(tmp_path) as site, established(site.service.port) as peer:
        peer.sendall(store_message("1.2.3", 500))
        assert peer.recv(1024)[0] == 4
        wait_until("it is heard of", lambda: [live.instances for live in site.service.associations()] == [1])
        wait_until("it is batched", lambda: site.spool.usage().unhanded == 1)
        (live,) = site.service.associations()
        sample = site.service.metrics.registry.get_sample_value
        for listener in range(2):
            here = float(listener == live.listener)
            label = {"listener": str(listener)}
            assert sample("clara_dicom_associations_open", label) == here
            assert sample("clara_dicom_instances_received_total", label) == here
            assert sample("clara_dicom_instances_queued", label) == here, "nobody tells Temporal here"
            assert sample("clara_dicom_instance_flushes_total", label) == here
            assert (sample("clara_dicom_instance_flush_seconds_total", label) or 0) > 0 or not here


def test_what_is_exported_is_listed_as_what_it_is_and_what_is_listed_is_exported(tmp_path: Path) -> None:
    """Counters have no second series for when they were made."""
    with (
        listening(tmp_path) as site,
        StatusServer(dict, site.service.metrics.registry) as server,
        urllib.request.urlopen(f"http://127.0.0.1:{server.port}/metrics") as answer,
    ):
        families = list(text_string_to_metric_families(answer.read().decode()))
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text(encoding="utf-8")
    for family in families:
        name = f"{family.name}_total" if family.type == "counter" else family.name
        labels = sorted({label for sample in family.samples for label in sample.labels})
        listed = ", ".join(f"`{label}`" for label in labels)
        assert re.search(rf"^\| `{name}` \| {family.type} \| {listed}", page, re.MULTILINE), f"{name} is not listed so"
        assert {sample.name for sample in family.samples} <= {name}
    of_receiver = page.partition("\n## Receiver\n")[2].partition("\n## ")[0]
    told = set(re.findall(r"^\| `(\w+)` \|", of_receiver, re.MULTILINE))
    assert "clara_dicom_tls_certificate_expiry_timestamp_seconds" in told
    told -= {"clara_dicom_tls_certificate_expiry_timestamp_seconds"}  # missing without TLS
    assert told == {f"{family.name}_total" if family.type == "counter" else family.name for family in families}


def test_one_source_leaves_room_for_others(tmp_path: Path) -> None:
    with listening(
        tmp_path,
        maximum_number_of_associations=3,
        maximum_number_of_associations_per_source=2,
        reject_unknown_sources=False,
    ) as site:
        taken = [associate(site.service.port, calling="CT1") for _ in range(2)]
        assert all(assoc.is_established for assoc in taken)
        assert associate(site.service.port, calling="CT1").is_rejected
        wait_until("the reason is recorded", lambda: "too-many-associations-of-source" in site.rejected())
        taken.append(associate(site.service.port, calling="MR1"))
        assert taken[-1].is_established
        assert associate(site.service.port, calling="MR1").is_rejected, "all are taken"
        taken.pop(0).release()
        wait_until("its place is free", lambda: len(site.service.associations()) == 2)
        taken.append(associate(site.service.port, calling="CT1"))
        assert taken[-1].is_established
        for assoc in taken:
            assoc.abort()


def test_places_are_shared_and_bounded(tmp_path: Path) -> None:
    places = Places.make()
    assert [places.take(0, "A", 2, 2), places.take(1, "A", 2, 2), places.take(0, "A", 2, 2)] == [True, True, False]
    places.give_back(1, "A")
    assert places.take(0, "B", 2, 2)
    assert places.taken("B") == (2, 1)
    places.clear(0)
    assert places.taken("A") == (0, 0)
    places.give_back(0, "A")
    assert places.taken() == (0, 0)
    assert [places.take(number % 2, "A", 3, 2) for number in range(3)] == [True, True, False]
    assert places.take(1, "B", 3, 2)
    assert not places.take(1, "C", 3, 2)
    places.close()


def test_a_renewed_certificate_reaches_every_listener_and_those_begun_later(tmp_path: Path) -> None:
    hospital = Hospital(tmp_path / "hospital")
    both = tmp_path / "both.pem"

    def put(issued: Issued) -> None:
        partial = both.with_suffix(".part")
        partial.write_bytes(issued.certificate.read_bytes() + issued.key.read_bytes())
        partial.replace(both)

    def shown_by(listener: int) -> str:
        """The certificate that a listener shows; who serves a connection is left to the kernel."""
        while True:
            assoc = associate_securely(site.service.tls_port, hospital.client(hospital.modality))
            wait_until("it is known", lambda: len(site.service.associations()) == 1)
            (live,) = site.service.associations()
            name = common_name(cast(Any, assoc.dul.socket).socket)
            assoc.release()
            wait_until("it is over", lambda: not site.service.associations())
            if live.listener == listener:
                return name

    put(hospital.ours)
    tls = hospital.settings(certificateFile=both, keyFile=None)
    with listening(tmp_path, tls=tls) as site:
        assert {shown_by(0), shown_by(1)} == {"ours"}
        put(hospital.authority.issue("renewed", key=3))
        site.service.look_at_certificates()
        wait_until("both show it", lambda: {shown_by(0), shown_by(1)} == {"renewed"})
        both.write_text("no certificate")
        before = site.pid_of(0)
        assert before is not None
        os.kill(before, signal.SIGKILL)
        wait_until("another has taken its place", lambda: site.pid_of(0) not in (before, None))
        wait_until("it listens", lambda: site.listeners.listening == 2)
        assert shown_by(0) == "renewed"
        site.service.look_at_certificates()
        assert any(f"{both} holds no certificate" in warning for warning in site.service.health().warnings)
        assert shown_by(1) == "renewed"
