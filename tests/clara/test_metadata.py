"""Rules for names and metadata."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from clara_dicom_adapter.clara import metadata


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("COVIDAET-lung_seg-20210308180631", "covidaet-lung-seg-20210308180631"),
        ("--A  b--", "a-b"),
        ("Ü.b", "b"),
        ("x" * 70, "x" * 63),
        ("x" * 62 + "-y", "x" * 62),
        ("", ""),
    ],
)
def test_a_job_name_is_fixed_as_the_original_does(text: str, expected: str) -> None:
    assert metadata.fix_job_name(text) == expected


@given(st.text(), st.text(max_size=20))
def test_every_job_name_is_acceptable_and_keeps_its_marker(base: str, marker: str) -> None:
    name = metadata.job_name(base, marker)
    assert len(name) <= 63
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")
    assert name == metadata.fix_job_name(name)
    assert name.endswith(metadata.fix_job_name(marker))


@given(st.text(max_size=400))
def test_a_cut_value_is_within_both_limits_and_still_text(value: str) -> None:
    short = metadata.cut(value)
    assert value.startswith(short)
    assert len(short) <= 256
    assert len(short.encode()) <= 256
    assert short == value or len((short + value[len(short)]).encode()) > 256 or len(short) == 256


def test_a_tag_with_one_value_has_one_key_and_several_are_numbered() -> None:
    assert metadata.tag_entries("0008,0060", ["CT", " CT", "", "  "]) == {"00080060": "CT"}
    assert metadata.tag_entries("(0008,103e)", ["b", "a", "b"]) == {"0008103E-0": "b", "0008103E-1": "a"}
    assert metadata.tag_entries("0008,0060", []) == {}


@pytest.mark.parametrize(
    ("existing", "values", "remove", "add"),
    [
        ({}, ["CT"], (), {"00080060": "CT"}),
        ({}, [], (), {}),
        ({"00080060": "CT"}, ["CT"], (), {}),
        ({"00080060": "CT"}, ["MR"], ("00080060",), {"00080060-0": "CT", "00080060-1": "MR"}),
        ({"00080060-0": "CT", "00080060-1": "MR"}, ["CT", "US"], (), {"00080060-2": "US"}),
        # a client died between adding and removing
        ({"00080060": "CT", "00080060-0": "CT", "00080060-1": "MR"}, ["MR"], ("00080060",), {}),
        ({"Source": "X", "00100010": "other"}, ["CT"], (), {"00080060": "CT"}),
    ],
)
def test_nodes_contribute_one_after_the_other(
    existing: dict[str, str], values: list[str], remove: tuple[str, ...], add: dict[str, str]
) -> None:
    assert metadata.merge(existing, {"0008,0060": values}) == (remove, add)


@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=3), max_size=5))
def test_merging_shows_every_value_once_and_settles(contributions: list[list[str]]) -> None:
    shown: dict[str, str] = {}
    for values in contributions:
        change = metadata.merge(shown, {"0008,0060": values})
        assert not set(change.add) & set(shown), "an existing key would be refused"
        shown = {key: value for key, value in {**shown, **change.add}.items() if key not in change.remove}
        assert metadata.merge(shown, {"0008,0060": values}) == ((), {})
    wanted = {value for values in contributions for value in values}
    assert sorted(shown.values()) == sorted(wanted)
    assert len(wanted) == 1 or all("-" in key for key in shown)
