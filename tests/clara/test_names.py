"""Names from the wire never lead out of a payload."""

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clara_dicom_adapter.clara.embedded.names import checked_name, matching_name, with_added, without
from clara_dicom_adapter.clara.embedded.refusal import Refusal


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("dcm/a.dcm", "dcm/a.dcm"),
        ("/dcm/a.dcm", "dcm/a.dcm"),
        ("./dcm/./a.dcm", "dcm/a.dcm"),
        ("dcm//a b.dcm", "dcm/a b.dcm"),
        ("...", "..."),
    ],
)
def test_harmless_names_are_taken(name: str, expected: str) -> None:
    assert checked_name(name) == expected


@pytest.mark.parametrize(
    "name",
    ["", "/", ".", "..", "../a", "a/../../b", "/..", "a\x00b", "a\nb", "..\\a", "x" * 256, "a/" * 600 + "b", "\ud800"],
)
def test_others_are_refused(name: str) -> None:
    with pytest.raises(Refusal):
        checked_name(name)


@given(st.text(alphabet=st.sampled_from("./\\ab\x00é"), max_size=30))
def test_whatever_is_accepted_stays_below_its_folder(name: str) -> None:
    try:
        checked = checked_name(name)
    except Refusal:
        return
    path = PurePosixPath("/payload") / checked
    assert path.is_relative_to("/payload")
    assert ".." not in path.parts
    assert len(path.parts) > 2


def test_a_download_matches_without_regard_to_case_unless_that_is_ambiguous() -> None:
    assert matching_name("A.DCM", ["a.dcm", "b"]) == "a.dcm"
    assert matching_name("a", ["a", "A"]) == "a"
    assert matching_name("aA", ["AA", "aa"]) is None
    assert matching_name("c", ["a"]) is None


def test_metadata_is_added_whole_or_not_at_all() -> None:
    assert with_added({"a": "1"}, {"B": "2"}) == {"a": "1", "B": "2"}
    for refused in ({"A": "2"}, {"x": "1", "X": "2"}, {"": "1"}, {"k" * 129: "1"}, {"k": "é" * 129}):
        with pytest.raises(Refusal):
            with_added({"a": "1"}, refused)
    with pytest.raises(Refusal, match="4194304"):
        with_added({}, {f"{number:0128}": "v" * 256 for number in range(11_000)})
    assert without({"a": "1", "b": "2"}, ["A", "z"]) == {"b": "2"}
