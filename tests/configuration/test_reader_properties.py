"""What holds for any settings file: properties, searched by hypothesis."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from clara_dicom_adapter.configuration import json_text, known_keys, yaml_text
from clara_dicom_adapter.configuration.document import Node, TextInvalid
from clara_dicom_adapter.configuration.reader import load, read
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid

PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow], max_examples=200)
"""The machine may be busy with other things."""
SAMPLES = sorted((Path(__file__).parent / "samples").glob("*-0.*"))
NOWHERE = DataFolder(Path("/nowhere"))

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
documents = st.dictionaries(
    st.text(),
    st.recursive(
        scalars,
        lambda below: st.lists(below, max_size=4) | st.dictionaries(st.text(), below, max_size=4),
        max_leaves=12,
    ),
    max_size=5,
)
blanks: st.SearchStrategy[str] = st.sampled_from(
    ["", " ", "\n", "\t", '// a remark, {with: ["signs\n', "/* one\nand two */", "\r\n"]
)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("settings") / "settings"


more: st.SearchStrategy[bool] = st.booleans()


def problems(file: Path) -> tuple[str, ...]:
    """What is wrong with a file; none when it is read. Anything else that is raised is a failure."""
    try:
        read(file, NOWHERE, {})
    except ConfigurationInvalid as error:
        return error.problems or ("refused without a reason",)
    return ()


def spelt(draw: st.DrawFn, value: Any) -> str:
    """JSON with comments between any two signs, and sometimes a comma behind the last element."""

    def blank() -> str:
        return draw(blanks)

    end = "," if isinstance(value, dict | list) and len(value) > 0 and draw(more) else ""
    if isinstance(value, dict):
        inner = ",".join(f"{blank()}{json.dumps(key)}{blank()}:{spelt(draw, each)}" for key, each in value.items())
        close = f"{end}{blank()}"
        return f"{blank()}{{{inner}{close}}}{blank()}"
    if isinstance(value, list):
        inner = ",".join(spelt(draw, each) for each in value)
        return f"{blank()}[{inner}{end}{blank()}]{blank()}"
    return f"{blank()}{json.dumps(value)}{blank()}"


def _text(draw: st.DrawFn) -> tuple[str, dict[str, Any]]:
    value = draw(documents)
    return spelt(draw, value), value


texts = st.composite(_text)()


@PATIENT
@given(texts)
def test_json_with_comments_is_what_it_is_without_them(written: tuple[str, dict[str, Any]]) -> None:
    text, value = written
    node, slips = json_text.parse(text)
    assert node.plain() == value
    assert slips == []


@PATIENT
@given(texts)
def test_every_key_is_where_its_node_says(written: tuple[str, dict[str, Any]]) -> None:
    text, _ = written
    lines = text.split("\n")

    def look(node: Node) -> None:
        for key, below in node.members.items():
            assert lines[below.line - 1][below.column - 1 :].startswith(json.dumps(key))
            look(below)
        for each in node.items:
            look(each)

    look(json_text.parse(text)[0])


@PATIENT
@given(documents.filter(bool), st.randoms())
def test_a_comma_that_is_missing_is_read_and_told(value: dict[str, Any], random: Any) -> None:
    text = json.dumps(value, indent=1)
    commas = [match.start() for match in re.finditer(r",$", text, re.MULTILINE)]
    # a comma at the end of a line that a string holds would be another matter; json.dumps writes none
    if commas:
        at = random.choice(commas)
        node, slips = json_text.parse(text[:at] + text[at + 1 :])
        assert node.plain() == value
        (slip,) = slips
        assert (slip.line, slip.column) == (text.count("\n", 0, at) + 1, at - text.rfind("\n", 0, at))


@PATIENT
@given(st.data())
def test_whatever_is_changed_in_a_file_it_is_read_or_refused_with_a_place(file: Path, data: st.DataObject) -> None:
    """Never an exception of another kind, and a syntax error is always within the text."""
    text = data.draw(st.sampled_from(SAMPLES)).read_text(encoding="utf-8")
    for _ in range(data.draw(st.integers(1, 3))):
        at = data.draw(st.integers(0, len(text)))
        cut = data.draw(st.integers(0, 20))
        text = text[:at] + data.draw(st.text(max_size=5) | st.sampled_from(list('{}[],:"\n-'))) + text[at + cut :]
    file.write_bytes(text.encode("utf-8", "surrogatepass"))
    for problem in problems(file):
        place = re.search(r"line (\d+)", problem)
        assert place is None or 1 <= int(place[1]) <= text.count("\n") + 2


@PATIENT
@given(st.binary(max_size=200))
@example(b"\xff\xfe")
@example(b"{" + b"[" * 100_000)
@example(b"&a [*a, *a]")
@example(b"- " * 5000)
@example(b"\x00")
@example(b'{"a": 1' + b"0" * 5000 + b"}")
def test_no_bytes_make_the_reader_fail_otherwise(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    assert all(problems(file))


numbers = {
    ("dicom", "scp", "port"): (0, 65535),
    ("dicom", "scp", "maximumNumberOfAssociations"): (1, 1000),
    ("dicom", "scu", "maximumNumberOfAssociations"): (1, 100),
    ("storage", "watermarkPercent"): (1, 100),
    ("services", "platform", "maxRetries"): (0, None),
}


def value_of(found: Settings, path: tuple[str, ...]) -> Any:
    here: Any = found.model_dump(by_alias=True)
    for key in path:
        here = here[key]
    return here


def cased(draw: st.DrawFn, key: str) -> str:
    """The same key in some other case, or as 0.7 wrote it."""
    kebab = re.sub(r"(?<=[a-z])([A-Z])", lambda match: f"-{match[1].lower()}", key)
    return draw(st.sampled_from([key, key.upper(), key.lower(), kebab]))


@PATIENT
@given(st.data(), st.sampled_from(sorted(numbers)), st.integers(-10, 70000))
def test_a_number_counts_exactly_when_it_is_in_range_however_its_key_is_spelt_and_wherever_it_stands(
    file: Path, data: st.DataObject, path: tuple[str, ...], number: int
) -> None:
    least, most = numbers[path]
    environ = {}
    document: Any = number
    if data.draw(st.booleans(), label="in the environment"):
        environ["__".join(("DicomAdapter", *path))] = str(number)
        document = data.draw(st.integers(1, 50))  # and another one in the file
    for key in reversed(path):
        document = {data.draw(st.composite(cased)(key)): document}
    file.write_text(json.dumps({"DicomAdapter": document}))
    if number >= least and (most is None or number <= most):
        assert value_of(load(file, NOWHERE, environ), path) == number
    else:
        with pytest.raises(ConfigurationInvalid) as caught:
            load(file, NOWHERE, environ)
        (problem,) = caught.value.problems
        assert f"{number!r}" in problem or f"'{number}'" in problem
        assert "whole number" in problem
        assert ("variable DicomAdapter__" if environ else f"file {file}, line 1") in problem


@PATIENT
@given(
    st.dictionaries(
        st.sampled_from(["Default", "Nvidia", "Microsoft.X", "own.name"]), st.sampled_from(["Debug", "None"])
    )
)
def test_what_the_settings_are_read_from_what_they_write(file: Path, levels: dict[str, str]) -> None:
    before = Settings.model_validate({"logging": {"LogLevel": levels}})
    on_file = before.model_dump(mode="json", by_alias=True)
    beside = {"Logging": on_file.pop("logging"), "ConnectionStrings": {"DicomAdapterDatabase": on_file.pop("database")}}
    file.write_text(json.dumps({"DicomAdapter": on_file, **beside}))
    assert load(file, NOWHERE, {}) == before


@PATIENT
@given(st.text(alphabet=st.characters(codec="utf-8", categories=["L", "N"]), min_size=1))
def test_yaml_takes_every_word_as_text(word: str) -> None:
    text = yaml.safe_dump({"key": word}, allow_unicode=True)
    assert yaml_text.parse(text).plain() == {"key": word}


@pytest.mark.parametrize("key", [name for name in known_keys.names(Settings) if name not in known_keys.BESIDE])
def test_a_section_that_is_no_object_is_told(file: Path, key: str) -> None:
    file.write_text(json.dumps({"DicomAdapter": {key: [1]}}))
    with pytest.raises(ConfigurationInvalid, match=f"DicomAdapter>{key}: a value of another kind is not allowed"):
        load(file, NOWHERE, {})


@pytest.mark.parametrize(
    "text", ["{", '{"a"', '{"a":', '{"a": }', '{"a": 1', '{"a": [1', '{"a": "x', "{ /* ", '{"a": tru}']
)
def test_a_text_that_breaks_off_is_told_with_what_is_expected(text: str) -> None:
    with pytest.raises(TextInvalid, match=r"line 1, column \d+: .* is expected|ends with"):
        json_text.parse(text)
