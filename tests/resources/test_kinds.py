"""Resources and entities, one made of the other; the definitions say the same as the entities."""

from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from support.chart import CRDS

from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Source
from clara_dicom_adapter.errors import ConfigurationInvalid
from clara_dicom_adapter.resources import names
from clara_dicom_adapter.resources.kinds import CLARA_AE_TITLE, DESTINATION, GROUP, SOURCE, VERSION, Kind, Resource

PIPELINE = {"pipeline-x": "p"}
KINDS: tuple[tuple[Kind[Any], type[Any], set[str]], ...] = (
    (CLARA_AE_TITLE, ClaraAeTitle, {"pipelineId", "timeout"}),
    (SOURCE, Source, set()),
    (DESTINATION, Destination, set()),
)


def resource(name: str, spec: dict[str, Any]) -> Resource:
    return {"metadata": {"name": name}, "spec": spec}


@pytest.mark.parametrize(("kind", "entity", "of_0_6"), KINDS, ids=lambda each: getattr(each, "plural", ""))
def test_the_definitions_have_the_entities_fields(kind: Kind[Any], entity: type[Any], of_0_6: set[str]) -> None:
    definition = next(
        each
        for each in map(yaml.safe_load, (path.read_text() for path in CRDS))
        if each["spec"]["group"] == GROUP and each["spec"]["names"]["plural"] == kind.plural
    )
    [version] = definition["spec"]["versions"]
    assert version["name"] == VERSION
    assert definition["spec"]["names"]["kind"] == kind.name
    assert definition["spec"]["names"]["listKind"] == kind.list_name, "as seed 001 prints it"
    fields = {info.alias or name for name, info in entity.model_fields.items()}
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]
    assert set(spec["properties"]) == fields | of_0_6


def test_a_resource_without_a_timeout_has_0_and_one_made_here_says_5() -> None:
    declared = CLARA_AE_TITLE.entity(resource("x", {"aeTitle": "X", "processorSettings": PIPELINE}))
    assert declared.processor_settings == PIPELINE | {"timeout": "0"}
    made = checks.clara_ae_title({"aeTitle": "X", "processorSettings": PIPELINE})
    assert CLARA_AE_TITLE.spec(made, "x")["processorSettings"] == PIPELINE | {"timeout": "5"}


def test_the_fields_of_0_6_become_settings() -> None:
    spec = {"aeTitle": "BrainTumorModel", "pipelineId": "7b9c", "timeout": 0}
    entity = CLARA_AE_TITLE.entity(resource("clara-brain-tumor", spec))
    assert entity.name == "clara-brain-tumor"
    settings = {"pipeline-clara-brain-tumor": "7b9c", "groupBy": "none", "timeout": "0"}
    assert entity.processor_settings == settings
    with pytest.raises(ConfigurationInvalid, match="both given"):
        CLARA_AE_TITLE.entity(resource("x", {**spec, "processorSettings": {"Timeout": "5"}}))
    with pytest.raises(ConfigurationInvalid, match=r"pipelineId and processorSettings\.pipeline-x are both given"):
        CLARA_AE_TITLE.entity(resource("x", {**spec, "processorSettings": PIPELINE}))


ae_titles = st.text(
    st.characters(codec="ascii", min_codepoint=32, exclude_characters="\\\x7f"), min_size=1, max_size=16
)
hosts = st.from_regex(r"\A[A-Za-z0-9.:_-]{1,40}\Z")
texts = st.text(min_size=1, max_size=63).filter(lambda text: bool(text.strip()))


@given(ae_titles.filter(lambda text: bool(text.strip())), texts, hosts, st.integers(1, 65535))
def test_what_is_written_reads_as_it_was(ae_title: str, name: str, host: str, port: int) -> None:
    kinds: list[tuple[Kind[Any], Any]] = [
        (
            CLARA_AE_TITLE,
            ClaraAeTitle(ae_title=ae_title, name=name, processor_settings=PIPELINE | {"timeout": "2.5"}),
        ),
        (SOURCE, Source(ae_title=ae_title, host_ip=host)),
        (DESTINATION, Destination(name=name, ae_title=ae_title, host_ip=host, port=port)),
    ]
    for kind, entity in kinds:
        for called in names.candidates(kind.key(entity)):
            assert kind.entity(resource(called, kind.spec(entity, called))) == entity


@given(st.text(min_size=1, max_size=300))
def test_every_name_is_one_that_kubernetes_takes(key: str) -> None:
    found = list(names.candidates(key))
    assert 1 <= len(found) <= 2
    for each in found:
        assert len(each) <= names.LONGEST
        assert names._NAME.fullmatch(each), each


def test_names_that_differ_get_names_that_differ() -> None:
    assert next(names.candidates("COVIDAET")) == "covidaet"
    assert set(names.candidates("COVIDAET")) & set(names.candidates("CovidAet")) == {"covidaet"}
    assert not set(names.candidates("A B")) & set(names.candidates("A_B"))
