"""Schemathesis against the description: whatever it makes up, answers are as described, and nothing is a 500."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis.errors import Unsatisfiable
from hypothesis.vendor.pretty import RepresentationPrinter
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import positive_data_acceptance
from support.api import dependencies

from clara_dicom_adapter.api import create_app
from clara_dicom_adapter.configuration import checks
from clara_dicom_adapter.configuration.entities import Destination, Source
from clara_dicom_adapter.configuration.settings import ApiSettings, DataFolder, Dialect, Settings
from clara_dicom_adapter.configuration.store import ConfigurationStore
from clara_dicom_adapter.records.database import open_engine

EXAMPLES = 6
"""For each operation and shape."""
# that a name is free, a processor is installed and its settings suit it, no JSON schema says
schemathesis.serializer.alias("application/dicom", "application/octet-stream")
LOCAL = {"Host": "localhost"}


def schema_of(dialect: Dialect, folder: Path) -> Iterator[schemathesis.BaseSchema]:
    data = DataFolder(folder)
    engine = open_engine("", data)
    store = ConfigurationStore(engine)
    store.add_clara_ae_title(checks.clara_ae_title({"aeTitle": "A", "processorSettings": {"pipeline-x": "1"}}))
    store.add_source(Source(ae_title="A", host_ip="127.0.0.1"))
    store.add_destination(Destination(name="A", ae_title="A", host_ip="127.0.0.1", port=1))
    app = create_app(dependencies(engine, data, Settings(api=ApiSettings(dialect=dialect))))
    yield schemathesis.openapi.from_asgi("/openapi.json", app, headers=LOCAL)
    engine.dispose()


@pytest.fixture(scope="module", autouse=True)
def examples_are_printed_again() -> Iterator[None]:
    """Schemathesis has hypothesis print no example, for as long as the process lives."""
    with mock.patch("hypothesis.core.RepresentationPrinter", RepresentationPrinter):
        yield


@pytest.fixture(scope="module")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    yield from schema_of(Dialect.V0_8, tmp_path_factory.mktemp("newer"))


@pytest.fixture(scope="module")
def older(tmp_path_factory: pytest.TempPathFactory) -> Iterator[schemathesis.BaseSchema]:
    yield from schema_of(Dialect.V0_6, tmp_path_factory.mktemp("older"))


quick = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize=True,
    database=None,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


def validate(schema: schemathesis.BaseSchema, mode: schemathesis.GenerationMode) -> int:
    """Try every operation of a description, and return how many there were."""
    number = 0
    for result in schema.get_all_operations():
        assert isinstance(result, Ok), result
        number += 1
        operation = result.ok()

        @quick
        @given(operation.as_strategy(generation_mode=mode))
        def answers_as_described(case: schemathesis.Case[Any]) -> None:
            left_out: list[Any] = [positive_data_acceptance]
            if case.operation.path == "/health/ready":  # 503 is what it is there for
                left_out.append(not_a_server_error)
            case.call_and_validate(headers=LOCAL, excluded_checks=left_out)

        try:
            answers_as_described()
        except Unsatisfiable:  # nothing wrong can be said to an operation that takes nothing
            assert mode is schemathesis.GenerationMode.NEGATIVE
    return number


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_every_operation_answers_as_described(
    newer: schemathesis.BaseSchema, mode: schemathesis.GenerationMode
) -> None:
    assert validate(newer, mode) == 38


@pytest.mark.parametrize("mode", list(schemathesis.GenerationMode))
def test_the_shape_of_0_6_is_answered_as_described(
    older: schemathesis.BaseSchema, mode: schemathesis.GenerationMode
) -> None:
    assert validate(older.include(path_regex="^/api/config/(clara|source|destination)aetitle(/{key})?$"), mode) == 15
