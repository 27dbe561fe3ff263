"""C-STORE command sets, against pynetdicom's own encoder and decoder."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pynetdicom.dimse_messages import C_STORE_RQ, DIMSEMessage
from pynetdicom.dimse_primitives import C_STORE
from pynetdicom.pdu_primitives import P_DATA

from clara_dicom_adapter.receiver import commands

CT = "1.2.840.10008.5.1.4.1.1.2"


def encoded_request(**values: object) -> bytes:
    primitive = C_STORE()
    primitive.MessageID = 7
    primitive.AffectedSOPClassUID = CT
    primitive.AffectedSOPInstanceUID = "1.2.3"
    primitive.Priority = 2
    primitive.DataSet = BytesIO(b"\0\0")
    for name, value in values.items():
        setattr(primitive, name, value)
    message = C_STORE_RQ()
    message.primitive_to_message(primitive)
    first = next(message.encode_msg(1, 0))
    return bytes(first.presentation_data_value_list[0][1][1:])


def test_a_request_of_pynetdicom_is_understood() -> None:
    command = commands.read(encoded_request(MoveOriginatorApplicationEntityTitle="MOVER"))
    assert command.field == commands.C_STORE_RQ
    assert commands.store_request(command) == commands.StoreRequest(7, CT, "1.2.3", has_data_set=True)


@pytest.mark.parametrize("maximum", [0, 16, 128, 16384])
def test_pynetdicom_understands_our_response(maximum: int) -> None:
    request = commands.StoreRequest(9, CT, "1.2.3.4")
    response = commands.store_response(request, commands.OUT_OF_RESOURCES, "no space is left")
    message = DIMSEMessage()
    pieces = list(commands.fragments(response, maximum))
    for number, piece in enumerate(pieces, start=1):
        assert maximum == 0 or len(piece) + 5 <= maximum
        primitive = P_DATA()
        primitive.presentation_data_value_list.append((1, piece))
        assert message.decode_msg(primitive) is (number == len(pieces))
    answer = message.message_to_primitive()
    assert isinstance(answer, C_STORE)
    assert (answer.Status, answer.MessageIDBeingRespondedTo) == (0xA700, 9)
    assert (answer.AffectedSOPClassUID, answer.AffectedSOPInstanceUID) == (CT, "1.2.3.4")
    assert answer.ErrorComment == "no space is left"


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        command = commands.read(data)
        commands.store_request(command)
    except commands.CommandInvalid:
        pass


def test_a_missing_uid_is_empty_and_not_an_error() -> None:
    whole = commands.read(encoded_request())
    without = {number: value for number, value in whole.elements.items() if number not in {0x0002, 0x1000}}
    request = commands.store_request(commands.Command(whole.field, whole.has_data_set, without))
    assert (request.sop_class_uid, request.sop_instance_uid) == ("", "")
