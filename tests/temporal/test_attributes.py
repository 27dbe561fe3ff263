"""Search attributes stay within what servers can hold."""

from collections import Counter

from temporalio.common import SearchAttributeIndexedValueType

from clara_dicom_adapter.temporal import attributes, registration

COLUMNS = {"Keyword": 10, "KeywordList": 3, "Int": 3, "Bool": 3}
"""Columns of the SQL visibility store for each type."""


def test_there_is_a_column_for_each() -> None:
    used = Counter(registration.flag(key).split("=")[1] for key in attributes.ALL)
    assert all(used[kind] <= COLUMNS[kind] for kind in used)
    assert len({key.name for key in attributes.ALL}) == len(attributes.ALL)


def test_flags_are_what_the_server_takes() -> None:
    assert registration.flag(attributes.JOB_ID) == "ClaraJobId=KeywordList"
    assert attributes.STATE.indexed_value_type is SearchAttributeIndexedValueType.KEYWORD
