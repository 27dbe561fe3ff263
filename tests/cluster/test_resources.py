"""Entities kept as resources of a real API server, with the chart's definitions, accounts and roles."""

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.kubernetes_cluster import Refused
from support.kubernetes_place import Place
from support.site import wait_until

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.chosen import Configuration
from clara_dicom_adapter.configuration.entities import Destination, Source
from clara_dicom_adapter.configuration.settings import KubernetesSettings
from clara_dicom_adapter.errors import AlreadyExists, ConfigurationInvalid, KubernetesUnavailable, NotFound
from clara_dicom_adapter.receiver.known import KnownKeeper
from clara_dicom_adapter.resources.kept import KeptAsResources
from clara_dicom_adapter.resources.kinds import DESTINATION, SOURCE
from clara_dicom_adapter.resources.server import Cluster, ResourceServer

AE = {"aeTitle": "BrainTumorModel", "processorSettings": {"pipeline-brain": "7b9cda79"}}
CT = {"aeTitle": "CT1", "hostIp": "10.1.2.3"}


@pytest.fixture
def configuration(place: Place) -> Iterator[Configuration]:
    """As the API part has it: it writes, and reports."""
    with place.configuration(report=True) as configuration:
        yield configuration


def names(configuration: Configuration) -> list[str]:
    return [each.name for each in configuration.clara_ae_titles()]


# ---- reading ----


def test_what_is_declared_is_in_force_at_once_and_says_so(place: Place, configuration: Configuration) -> None:
    before = configuration.revision()
    place.declare("claraaetitles", "clara-brain-tumor", AE)
    wait_until("it is in force", lambda: names(configuration) == ["clara-brain-tumor"])
    assert place.accepted("claraaetitles", "clara-brain-tumor") == ("True", "Accepted", "In force.")
    assert configuration.revision() > before
    [(entity, pinned)] = configuration.ae_titles()
    assert (entity.ae_title, pinned.timeout_seconds, pinned.revision) == ("BrainTumorModel", 0.0, 1)

    place.declare("claraaetitles", "clara-brain-tumor", {**AE, "overwriteSameInstance": True})
    wait_until("the change is", lambda: configuration.ae_titles()[0][1].overwrite_same_instance)
    assert configuration.ae_titles()[0][1].revision == 2

    place.withdraw("claraaetitles", "clara-brain-tumor")
    wait_until("it is gone", lambda: names(configuration) == [])


def test_the_fields_of_0_6_mean_what_they_meant(place: Place, configuration: Configuration) -> None:
    """Seed 001: one pipeline, and a timeout that merges all associations of the AE title."""
    place.declare("claraaetitles", "old", {"aeTitle": "OLD", "pipelineId": "7b9c", "timeout": 30})
    wait_until("it is in force", lambda: names(configuration) == ["old"])
    [(entity, pinned)] = configuration.ae_titles()
    assert entity.processor_settings["pipeline-old"] == "7b9c"
    assert (pinned.timeout_seconds, pinned.group_by) == (30.0, "none")


def test_an_invalid_resource_is_told_why_and_stops_nobody(place: Place, configuration: Configuration) -> None:
    place.declare("claraaetitles", "no-pipeline", {"aeTitle": "EMPTY"})
    place.declare("claraaetitles", "odd", {**AE, "aeTitle": "ODD", "processor": "Unheard.Of, Anywhere"})
    place.declare("claraaetitles", "good", {**AE, "aeTitle": "GOOD"})
    wait_until("the good one is in force", lambda: names(configuration) == ["good"])
    status, reason, message = place.accepted("claraaetitles", "no-pipeline")
    assert (status, reason) == ("False", "Invalid")
    assert "No pipeline defined for AE Title EMPTY" in message
    assert "Unheard.Of" in place.accepted("claraaetitles", "odd")[2]


def test_of_two_that_claim_the_same_the_older_has_it_until_it_goes(place: Place, configuration: Configuration) -> None:
    place.declare("destinations", "b-first", {"name": "PACS", "aeTitle": "ONE", "hostIp": "h1", "port": 104})
    wait_until("the first is in force", lambda: len(configuration.destinations()) == 1)
    created = place.read("destinations", "b-first")["metadata"]["creationTimestamp"]

    def a_second_later() -> bool:
        """Resources tell their age in seconds."""
        place.declare("destinations", "a-second", {"name": "pacs", "aeTitle": "TWO", "hostIp": "h2", "port": 104})
        if place.read("destinations", "a-second")["metadata"]["creationTimestamp"] > created:
            return True
        place.withdraw("destinations", "a-second")
        return False

    wait_until("the second is younger", a_second_later)
    status, reason, message = place.accepted("destinations", "a-second")
    assert (status, reason) == ("False", "Conflict")
    assert "b-first" in message
    assert configuration.destination("Pacs").ae_title == "ONE"
    place.withdraw("destinations", "b-first")
    wait_until("the second has it", lambda: [each.ae_title for each in configuration.destinations()] == ["TWO"])
    wait_until("and says so", lambda: place.accepted("destinations", "a-second")[0] == "True")


def test_another_controllers_condition_is_left_alone(place: Place, configuration: Configuration) -> None:
    place.declare("sources", "ct1", CT)
    place.accepted("sources", "ct1")
    theirs = {"type": "Reviewed", "status": "True", "reason": "R", "message": "", "lastTransitionTime": _TIME}
    conditions = [*place.read("sources", "ct1")["status"]["conditions"], theirs]
    path = f"{place.path('sources', 'ct1')}/status"
    place.cluster.call("PATCH", path, {"status": {"conditions": conditions}}, content="application/merge-patch+json")
    place.declare("sources", "ct1", {**CT, "hostIp": "10.1.2.4"})
    assert place.accepted("sources", "ct1")[0] == "True"
    types = {each["type"] for each in place.read("sources", "ct1")["status"]["conditions"]}
    assert types == {"Accepted", "Reviewed"}
    assert configuration.source("CT1").host_ip == "10.1.2.4"


_TIME = "2024-01-01T00:00:00Z"


# ---- writing ----


def test_what_is_added_is_a_resource_and_can_be_read_at_once(place: Place, configuration: Configuration) -> None:
    covid = checks.clara_ae_title({"aeTitle": "COVIDAET", "processorSettings": {"pipeline-covid": "abc"}})
    added = configuration.add_clara_ae_title(covid)
    assert configuration.clara_ae_title("COVIDAET") == added
    assert added.processor_settings == {"pipeline-covid": "abc", "timeout": "5"}, "made by REST it means what it did"
    assert place.read("claraaetitles", "covidaet")["spec"] == {
        "name": "COVIDAET",
        "aeTitle": "COVIDAET",
        "processorSettings": {"pipeline-covid": "abc", "timeout": "5"},
    }
    configuration.add_source(Source(ae_title="MYPACS", host_ip="10.20.30.1"))
    configuration.add_source(Source(ae_title="MYPACS", host_ip="fd00::1"))
    assert "mypacs-10.20.30.1" in place.names("sources")
    configuration.add_destination(Destination(name="MYPACS", ae_title="MYPACSAET", host_ip="10.20.30.2", port=1104))
    assert configuration.destination("mypacs").port == 1104

    with pytest.raises(ConfigurationInvalid, match=r"say which: MYPACS-10\.20\.30\.1, MYPACS-fd00::1"):
        configuration.source("MYPACS")
    assert configuration.remove_source("MYPACS", "FD00::1").host_ip == "fd00::1"
    assert configuration.remove_source("mypacs-10.20.30.1").ae_title == "MYPACS", "by its own name, too"
    assert configuration.remove_clara_ae_title("COVIDAET").name == "COVIDAET"
    assert place.names("sources") == place.names("claraaetitles") == []
    with pytest.raises(NotFound, match="COVIDAET"):
        configuration.clara_ae_title("COVIDAET")


def test_what_is_there_already_is_refused_in_the_words_of_0_8(place: Place, configuration: Configuration) -> None:
    configuration.add_source(Source(ae_title="CT1", host_ip="Host"))
    with pytest.raises(AlreadyExists, match="Source with AE Title CT1 already exists"):
        configuration.add_source(Source(ae_title="CT1", host_ip="host"))
    covid = checks.clara_ae_title({"aeTitle": "COVIDAET", "processorSettings": {"pipeline-covid": "abc"}})
    lower = covid.model_copy(update={"ae_title": "covidaet", "name": "covidaet"})
    configuration.add_clara_ae_title(covid)
    configuration.add_clara_ae_title(lower)  # another AE title, whose resource needs another name
    assert len(place.names("claraaetitles")) == 2
    with pytest.raises(AlreadyExists, match="Clara AE Title COVIDAET already exists"):
        configuration.add_clara_ae_title(covid.model_copy(update={"name": "second"}))


def test_the_definitions_refuse_what_cannot_be(place: Place) -> None:
    wrong: list[tuple[str, dict[str, Any]]] = [
        ("claraaetitles", {**AE, "aeTitle": "SEVENTEEN-LETTERS"}),
        ("claraaetitles", {**AE, "aeTitle": "BACK\\SLASH"}),
        ("claraaetitles", {**AE, "aeTitle": "  "}),
        ("claraaetitles", {**AE, "interrupted": "ignore"}),
        ("claraaetitles", {**AE, "timeout": -1}),
        ("claraaetitles", {**AE, "ignoredSopClasses": ["CT"]}),
        ("sources", {"aeTitle": "CT1"}),
        ("sources", {**CT, "hostIp": "no blanks"}),
        ("destinations", {"aeTitle": "PACS", "hostIp": "h", "port": 65536}),
        ("destinations", {"aeTitle": "PACS", "hostIp": "h"}),
        ("destinations", {"aeTitle": "PACS", "hostIp": "h", "port": 104, "prot": 105}),
    ]
    for plural, spec in wrong:
        with pytest.raises(Refused) as refused:
            place.declare(plural, "wrong", spec)
        assert refused.value.code in {400, 422, 500}, refused.value
    assert place.declare("sources", "sixteen", {"aeTitle": "SIXTEEN-LETTERS.", "hostIp": "::1"})


def test_what_is_replaced_keeps_its_resource(place: Place) -> None:
    server = ResourceServer(Cluster(place.settings().kubernetes), SOURCE)
    sources = KeptAsResources(SOURCE, server)
    sources.add(Source(ae_title="CT1", host_ip="h1"))
    sources.add(Source(ae_title="CT2", host_ip="h2"))
    [name] = [name for name in place.names("sources") if name.startswith("ct1")]
    assert sources.replace("CT1", Source(ae_title="CT1", host_ip="h3")).host_ip == "h3"
    assert place.read("sources", name)["spec"] == {"aeTitle": "CT1", "hostIp": "h3"}
    with pytest.raises(AlreadyExists, match="CT2"):
        sources.replace("CT1", Source(ae_title="CT2", host_ip="h2"))
    with pytest.raises(NotFound, match="CT9"):
        sources.replace("CT9", Source(ae_title="CT9", host_ip="h"))
    destinations = KeptAsResources(DESTINATION, ResourceServer(Cluster(place.settings().kubernetes), DESTINATION))
    pacs = destinations.add(Destination(name="PACS", ae_title="ARCHIVE", host_ip="h", port=104))
    with pytest.raises(ConfigurationInvalid, match="name of Destination PACS cannot be changed"):
        destinations.replace("PACS", pacs.model_copy(update={"name": "OTHER"}))
    assert destinations.replace("ARCHIVE", pacs.model_copy(update={"port": 105})).port == 105, "by its AE title, too"
    old = place.read("sources", name)
    place.declare("sources", name, {"aeTitle": "CT1", "hostIp": "h4"})
    with pytest.raises(ConfigurationInvalid, match="changed by somebody else"):
        server.replace(old, {"aeTitle": "CT1", "hostIp": "h5"})


def test_a_command_is_told_what_the_definition_refuses(place: Place) -> None:
    """REST and command line check as strictly; this is what becomes of a slip between the two."""
    server = ResourceServer(Cluster(place.settings().kubernetes), SOURCE)
    with pytest.raises(ConfigurationInvalid, match=r"spec\.hostIp: "):
        server.create("wrong", {"aeTitle": "CT1", "hostIp": "no blanks"})


def test_in_a_pod_the_service_account_is_used(place: Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    account = yaml.safe_load(place.kubeconfig("receiver").read_text())
    folder = tmp_path / "serviceaccount"
    folder.mkdir()
    (folder / "namespace").write_text(place.namespace)
    (folder / "token").write_text(account["users"][0]["user"]["token"])
    (folder / "ca.crt").write_bytes(base64.b64decode(account["clusters"][0]["cluster"]["certificate-authority-data"]))
    host, _, port = place.cluster.url.removeprefix("https://").partition(":")
    monkeypatch.setattr("clara_dicom_adapter.resources.server.ACCOUNT", folder)
    monkeypatch.setenv("KUBERNETES_SERVICE_HOST", host)
    monkeypatch.setenv("KUBERNETES_SERVICE_PORT", port)
    place.declare("sources", "ct1", CT)
    sources = KeptAsResources(SOURCE, ResourceServer(Cluster(KubernetesSettings()), SOURCE))
    assert [each.ae_title for each in sources.all()] == ["CT1"]


def test_without_any_account_it_is_said_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(KubernetesUnavailable, match="DicomAdapter>kubernetes>kubeconfig"):
        Cluster(KubernetesSettings(kubeconfig=tmp_path / "nowhere"))


# ---- rights ----


def test_a_receiver_may_read_and_not_write(place: Place) -> None:
    with place.configuration("receiver") as configuration:
        assert configuration.sources() == []
        with pytest.raises(KubernetesUnavailable, match="give our account the chart's role"):
            configuration.add_source(Source(ae_title="CT1", host_ip="h"))


def test_an_account_without_a_role_is_told_what_it_lacks(place: Place) -> None:
    with place.configuration("platform") as configuration, pytest.raises(KubernetesUnavailable, match="role"):
        configuration.sources()


# ---- the API server goes away ----


def test_while_the_api_server_is_away_the_last_known_state_serves_and_then_everything_is_made_good(
    place: Place,
) -> None:
    place.declare("sources", "ct1", CT)
    place.declare("sources", "ct2", {**CT, "aeTitle": "CT2"})
    copy = place.folder / "known.json"
    with place.configuration("receiver") as configuration:
        keeper = KnownKeeper(configuration, copy)
        keeper.start()

        def known() -> set[str]:
            return set() if keeper.current is None else set(keeper.current.sources)

        wait_until("the receiver knows both", lambda: known() == {"CT1", "CT2"})
        on_disk = place.folder / "data" / "resources" / "sources.json"
        wait_until("the copy is written", lambda: on_disk.exists() and '"CT2"' in on_disk.read_text())
        place.cluster.stop_server()
        try:
            keeper.refresh()
            assert known() == {"CT1", "CT2"}
            assert [each.ae_title for each in configuration.sources()] == ["CT1", "CT2"]
            with place.configuration("receiver", data="data") as restarted:
                assert [each.ae_title for each in restarted.sources()] == ["CT1", "CT2"], "from the copy on disk"
        finally:
            place.cluster.start_server()
        place.withdraw("sources", "ct1")
        place.declare("sources", "ct3", {**CT, "aeTitle": "CT3"})
        wait_until("the gap is made good", lambda: known() == {"CT2", "CT3"})
        keeper.stop()


def test_a_command_lists_anew_and_says_when_nobody_answers(place: Place) -> None:
    with place.configuration(watch=False) as configuration:
        place.declare("sources", "ct1", CT)
        assert [each.ae_title for each in configuration.sources()] == ["CT1"]
        assert configuration.add_source(Source(ae_title="CT2", host_ip="h")).ae_title == "CT2"
        place.cluster.stop_server()
        try:
            with pytest.raises(KubernetesUnavailable, match=r"API server at https://127\.0\.0\.1:\d+ cannot be used"):
                configuration.sources()
        finally:
            place.cluster.start_server()
