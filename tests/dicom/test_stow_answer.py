"""What is read from answers of DICOMweb services, in both of the standard's forms, and from what is neither."""

import json

import pytest

from clara_dicom_adapter.dicom import stow_answer
from clara_dicom_adapter.dicom.stow_answer import StowAnswer

XML = """<?xml version="1.0" encoding="UTF-8"?>
<NativeDicomModel xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM" xml:space="preserve">
  <DicomAttribute keyword="RetrieveURL" tag="00081190" vr="UR"><Value number="1">http://pacs/studies/1</Value></DicomAttribute>
  <DicomAttribute keyword="FailedSOPSequence" tag="00081198" vr="SQ">
    <Item number="1">
      <DicomAttribute keyword="ReferencedSOPClassUID" tag="00081150" vr="UI"><Value number="1">1.2.3</Value></DicomAttribute>
      <DicomAttribute keyword="ReferencedSOPInstanceUID" tag="00081155" vr="UI"><Value number="1">2.25.1</Value></DicomAttribute>
      <DicomAttribute keyword="FailureReason" tag="00081197" vr="US"><Value number="1">42752</Value></DicomAttribute>
    </Item>
    <Item number="2">
      <DicomAttribute tag="00081155" vr="UI"><Value number="1">2.25.2</Value></DicomAttribute>
    </Item>
  </DicomAttribute>
  <DicomAttribute keyword="ReferencedSOPSequence" tag="00081199" vr="SQ">
    <Item number="1">
      <DicomAttribute tag="00081155" vr="UI"><Value number="1">2.25.3</Value></DicomAttribute>
      <DicomAttribute tag="00081196" vr="US"><Value number="1">45056</Value></DicomAttribute>
    </Item>
    <Item number="2">
      <DicomAttribute tag="00081155" vr="UI"><Value number="1">2.25.4</Value></DicomAttribute>
    </Item>
  </DicomAttribute>
</NativeDicomModel>
"""  # noqa: E501 - as services write it
JSON = {
    "00081190": {"vr": "UR", "Value": ["http://pacs/studies/1"]},
    "00081198": {
        "vr": "SQ",
        "Value": [
            {"00081155": {"vr": "UI", "Value": ["2.25.1"]}, "00081197": {"vr": "US", "Value": [42752]}},
            {"00081155": {"vr": "UI", "Value": ["2.25.2"]}},
        ],
    },
    "00081199": {
        "vr": "SQ",
        "Value": [
            {"00081155": {"vr": "UI", "Value": ["2.25.3"]}, "00081196": {"vr": "US", "Value": [45056]}},
            {"00081155": {"vr": "UI", "Value": ["2.25.4"]}},
        ],
    },
}
MEANING = StowAnswer(stored={"2.25.3": 0xB000, "2.25.4": None}, failed={"2.25.1": 0xA700, "2.25.2": None})


@pytest.mark.parametrize(
    "content",
    [
        json.dumps(JSON).encode(),
        json.dumps([JSON]).encode(),
        XML.encode(),
        b"\xef\xbb\xbf" + XML.encode(),
        XML.replace("UTF-8", "UTF-16").encode("utf-16"),
        XML.replace(' xmlns="http://dicom.nema.org/PS3.19/models/NativeDICOM"', "").encode(),
    ],
    ids=["json", "json-array", "xml", "xml-bom", "xml-utf-16", "xml-no-namespace"],
)
def test_both_forms_say_the_same(content: bytes) -> None:
    assert stow_answer.read(content) == MEANING


@pytest.mark.parametrize("content", [b"{}", b"<NativeDicomModel/>"])
def test_an_answer_without_any_object_is_an_answer(content: bytes) -> None:
    assert stow_answer.read(content) == StowAnswer({}, {})


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"stored",
        b'"stored"',
        b'{"HttpStatus": 415, "Message": "x"}',
        b"<html><body>It works</body></html>",
        XML.encode()[:-20],
        b'<?xml version="1.0" encoding="no-such"?><NativeDicomModel/>',
        b'<!DOCTYPE x [<!ENTITY e SYSTEM "file:///etc/hostname">]><NativeDicomModel>&e;</NativeDicomModel>',
    ],
)
def test_what_is_no_answer_is_none(content: bytes) -> None:
    assert stow_answer.read(content) is None


def test_entities_do_not_grow_without_bound() -> None:
    """Ten times ten times ... of a text, which would be gigabytes."""
    levels = "".join(f'<!ENTITY e{n + 1} "{f"&e{n};" * 10}">' for n in range(10))
    bomb = f'<!DOCTYPE x [<!ENTITY e0 "0123456789">{levels}]><NativeDicomModel>&e10;</NativeDicomModel>'
    assert stow_answer.read(bomb.encode()) is None
