"""Settings files of 0.8, 0.7 and 0.6, told apart by what stands in them, taken into one set of values.

All dialects share their sections. Those of 0.7 and 0.6 write keys with hyphens, have some names of their own, and may
list AE titles, sources, destinations and pipeline mappings; 0.6 has no ``DicomAdapter`` around it all.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

from pydantic import BaseModel

from clara_dicom_adapter.configuration import json_text, known_keys, logging_sections, yaml_text
from clara_dicom_adapter.configuration.document import Node, Slip, TextInvalid
from clara_dicom_adapter.configuration.gathered import DATABASE_KEY, SECTION, Gathered, KeyPath
from clara_dicom_adapter.configuration.settings import Settings
from clara_dicom_adapter.errors import ConfigurationInvalid

SECTIONS: Final = (SECTION, "ConnectionStrings", "Logging", "Serilog", "AllowedHosts")
"""Sections at the top; others belong to whatever shares the file, and are left alone."""
SECTIONS_OF_0_6: Final = ("dicom", "pipeline-mappings", "storage", "services")
OTHER_NAMES: Final[Mapping[KeyPath, KeyPath]] = {
    ("readaetitlesfromcrd",): ("dicom", "scp", "readAeTitlesFromCrd"),
    ("dicom", "scp", "maxassociations"): ("dicom", "scp", "maximumNumberOfAssociations"),
    ("dicom", "scu", "maxassociations"): ("dicom", "scu", "maximumNumberOfAssociations"),
    ("services", "platformendpoint"): ("services", "platform", "endpoint"),
}
"""Names of 0.6 and 0.7, without hyphens and in lower case, that are more than another spelling of today's."""
LISTS: Final[Mapping[KeyPath, str]] = {
    ("dicom", "scp", "aetitles"): "ae-titles",
    ("dicom", "scp", "sources"): "sources",
    ("dicom", "scu", "destinations"): "destinations",
    ("pipelinemappings",): "pipeline-mappings",
}
_JSON: Final = re.compile(r'\s*(?://|/\*|[{\["])')


class Dialect(StrEnum):
    """The version that a file was written for."""

    V0_6 = "0.6"
    V0_7 = "0.7"
    V0_8 = "0.8"


@dataclass(frozen=True)
class GivenList:
    """A list of entities as it stands in a file.

    Attributes:
        written: Its key there.
        origin: Where it stands.
    """

    node: Node
    written: str
    origin: str


@dataclass
class SettingsFile:
    """A file that has been read, and what only older ones have."""

    path: Path
    root: Node
    dialect: Dialect
    slips: list[Slip]
    lists: dict[str, GivenList] = field(default_factory=dict[str, GivenList])

    def origin(self, node: Node) -> str:
        return f"file {self.path}, line {node.line}"


def read(path: Path) -> SettingsFile:
    """Read a file; raises ConfigurationInvalid with the places of all that keeps it from being read."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationInvalid([f"{path}: cannot be read: {getattr(error, 'strerror', error)}"]) from error
    slips: list[Slip] = []
    try:
        if _JSON.match(text):
            root, slips = json_text.parse(text)
        else:
            root = yaml_text.parse(text)
    except TextInvalid as error:
        raise ConfigurationInvalid([f"{path}: {slip}" for slip in error.slips]) from error
    if not isinstance(root.value, dict):
        raise ConfigurationInvalid([f"{path}: line {root.line}, column {root.column}: sections with keys are expected"])
    return SettingsFile(path, root, _dialect(root), slips)


def _dialect(root: Node) -> Dialect:
    top = {_plain(key): below for key, below in root.members.items()}
    adapter = top.get(SECTION.lower())
    if adapter is None:
        old = {_plain(name) for name in SECTIONS_OF_0_6}
        return Dialect.V0_6 if old & top.keys() else Dialect.V0_8
    of_0_7 = "serilog" in top or any("-" in key for key in adapter.all_keys()) or _has(adapter, "readaetitlesfromcrd")
    return Dialect.V0_7 if of_0_7 else Dialect.V0_8


def _has(node: Node, name: str) -> bool:
    return any(_plain(key) == name for key in node.members)


def _plain(key: str) -> str:
    return key.replace("-", "").replace("_", "").lower()


def take(found: Gathered, file: SettingsFile) -> None:
    """Take what the file says."""
    found.warnings += [f"{file.path}: {slip}; it is read as if it were there" for slip in file.slips]
    spelt = {name.lower(): name for name in SECTIONS}
    sections: dict[str, Node] = {}
    rest: dict[str, Node] = {}
    for key, node in file.root.members.items():
        if key.lower() not in spelt:
            rest[key] = node
        elif spelt[key.lower()] in sections:
            found.problems.append(f"{key} stands there twice ({file.origin(node)})")
        elif key.lower() == "allowedhosts" or isinstance(node.value, dict):
            sections[spelt[key.lower()]] = node
        elif node.value is not None:
            found.problems.append(f"{key} must be an object ({file.origin(node)})")
    taking = _Taking(found, file)
    if SECTION in sections:
        taking.merge((), sections[SECTION], Settings, SECTION)
        _tell_strangers(found, file, rest)
    elif file.dialect is Dialect.V0_6:
        taking.merge((), Node(rest, 1, 1), Settings, "")
    else:
        _tell_strangers(found, file, rest)
        if rest and not sections:
            known = f"{SECTION} (0.8, 0.7), or {', '.join(SECTIONS_OF_0_6)} (0.6)"
            found.problems.append(f"{file.path}: no section of any version stands there; expected is {known}")
    if "ConnectionStrings" in sections:
        _take_database(found, file, sections["ConnectionStrings"])
    logging_sections.take(found, sections.get("Logging"), sections.get("Serilog"), file.origin)


def _tell_strangers(found: Gathered, file: SettingsFile, rest: Mapping[str, Node]) -> None:
    for top in known_keys.nearly(rest, SECTIONS):
        guess = known_keys.like(top, SECTIONS)
        found.problems.append(f"{top} is unknown ({file.origin(rest[top])}); did you mean {guess}?")


def _take_database(found: Gathered, file: SettingsFile, section: Node) -> None:
    for key, node in section.members.items():
        if key.lower() == DATABASE_KEY.lower() and node.value is not None:
            found.set(("database",), node.plain(), file.origin(node))


class _Taking:
    """Merges the adapter's own sections under their names of today; the model tells later what is unknown."""

    def __init__(self, found: Gathered, file: SettingsFile) -> None:
        self._found = found
        self._file = file
        self._set: dict[KeyPath, str] = {}

    def merge(self, above: KeyPath, node: Node, model: type[BaseModel], written: str) -> None:
        for key, below in node.members.items():
            shown = f"{written}>{key}" if written else key
            plain = (*(each.lower() for each in above), _plain(key))
            if plain in LISTS:
                self._list(LISTS[plain], below, shown)
                continue
            name = known_keys.canonical(model, key)
            path = OTHER_NAMES.get(plain) or (*above, name or key)
            section = known_keys.at(path)
            if not above and name in known_keys.BESIDE:
                self._found.problems.append(f"{shown} is unknown ({self._file.origin(below)})")
            elif section is not None and isinstance(below.value, dict | None):
                self._found.origins.setdefault(path, self._file.origin(below))
                self._found.written.setdefault(path, shown)
                self.merge(path, below, section, shown)
            else:
                self._value(path, below, shown)

    def _list(self, kind: str, node: Node, written: str) -> None:
        if kind in self._file.lists:
            self._found.problems.append(f"{written} stands there twice ({self._file.origin(node)})")
        self._file.lists[kind] = GivenList(node, written, self._file.origin(node))

    def _value(self, path: KeyPath, node: Node, written: str) -> None:
        origin = self._file.origin(node)
        if path in self._set:
            self._found.problems.append(f"{written} is the same as {self._set[path]} ({origin}); only one is expected")
            return
        self._set[path] = written
        holder = known_keys.at(path[:-1])
        known = holder is not None and known_keys.field(holder, path[-1]) is not None
        if node.value is None and known and not (holder and known_keys.is_optional(holder, path[-1])):
            return  # as if it were not there
        value: Any = node.plain()
        if isinstance(value, list):
            value = [each for each in value if each not in ([], None)]  # seed 001 prints `- []` for none
            if node.items and not value:
                return
        self._found.set(path, value, origin, written)
        for number, element in enumerate(each for each in node.items if each.value not in ([], None)):
            self._found.origins[(*path, str(number))] = self._file.origin(element)
