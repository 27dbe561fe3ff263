"""AE titles, sources, destinations and pipeline mappings that a 0.6 or 0.7 file lists, as entities of today.

An AE title of 0.6 is one group at a time: everything that comes for it until ``timeout`` has passed, or one
association when that is 0 (seed 001). So it gets ``groupBy`` ``none``. A mapping is a pipeline of its AE title, by id
or name.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

from clara_dicom_adapter.configuration import checks, known_keys
from clara_dicom_adapter.configuration.document import Node
from clara_dicom_adapter.configuration.entities import ClaraAeTitle, Destination, Entity, Source
from clara_dicom_adapter.configuration.files import Dialect, GivenList, SettingsFile
from clara_dicom_adapter.configuration.gathered import Gathered
from clara_dicom_adapter.configuration.settings import DicomSettings
from clara_dicom_adapter.errors import ConfigurationInvalid

DEFAULT_AE_TITLE: Final = "ClaraSCP"
"""Of 0.6, when the file lists none."""
_AE_TITLE_KEYS: Final = ("ae-title", "timeout", "overwrite-same-instance", "ignored-sop-classes", "processors")
_MAPPING_KEYS: Final = ("name", "clara-ae-title", "pipeline-id")
_FROM_CRD: Final = "is not used, because these are read from Kubernetes resources"


@dataclass(frozen=True)
class GivenEntities:
    """What a file lists; it is imported into the store once."""

    ae_titles: tuple[ClaraAeTitle, ...] = ()
    sources: tuple[Source, ...] = ()
    destinations: tuple[Destination, ...] = ()

    def __iter__(self) -> Iterator[Entity]:
        return iter((*self.ae_titles, *self.sources, *self.destinations))


def entities(found: Gathered, file: SettingsFile, dicom: DicomSettings) -> GivenEntities:
    """The entities that count; what is wrong with them is added to what was found."""
    reading = _Reading(found, file)
    lists = dict(file.lists)
    for kind, crd in (
        ("ae-titles", dicom.scp.read_ae_titles_from_crd),
        ("pipeline-mappings", dicom.scp.read_ae_titles_from_crd),
        ("sources", dicom.scp.read_sources_from_crd),
        ("destinations", dicom.scu.read_destinations_from_crd),
    ):
        if crd and kind in lists:
            unused = lists.pop(kind)
            found.warnings.append(f"{unused.written} {_FROM_CRD} ({unused.origin})")
    defaults = file.dialect is Dialect.V0_6 and not dicom.scp.read_ae_titles_from_crd
    return GivenEntities(
        ae_titles=reading.ae_titles(lists.get("ae-titles"), lists.get("pipeline-mappings"), defaults=defaults),
        sources=tuple(reading.plain(lists.get("sources"), Source)),
        destinations=tuple(reading.plain(lists.get("destinations"), Destination)),
    )


class _Reading:
    def __init__(self, found: Gathered, file: SettingsFile) -> None:
        self._found = found
        self._file = file

    # ---- Clara AE titles ----

    def ae_titles(
        self, listed: GivenList | None, mappings: GivenList | None, *, defaults: bool
    ) -> tuple[ClaraAeTitle, ...]:
        pipelines = self._pipelines(mappings)
        titles: dict[str, ClaraAeTitle] = {}
        listed_titles = set[str]()
        for node, values, where in self._elements(listed, _AE_TITLE_KEYS):
            title = str(values.get("ae-title") or "").strip()
            listed_titles.add(title)
            entity = self._ae_title(node, values, pipelines.get(title, {}), where)
            if entity is not None and entity.ae_title in titles:
                self._found.problems.append(f"{where}: {title!r} stands there twice ({self._file.origin(node)})")
            elif entity is not None:
                titles[entity.ae_title] = entity
        if defaults and not listed_titles:
            listed_titles.add(DEFAULT_AE_TITLE)
            node = Node({}, 1, 1)
            entity = self._ae_title(
                node, {"ae-title": DEFAULT_AE_TITLE}, pipelines.get(DEFAULT_AE_TITLE, {}), "ae-titles"
            )
            titles |= {entity.ae_title: entity} if entity else {}
        for title in pipelines.keys() - listed_titles:
            written, origin = (mappings.written, mappings.origin) if mappings else ("", "")
            self._found.problems.append(f"{written}: {title!r} is none of the AE titles that are listed ({origin})")
        return tuple(titles.values())

    def _ae_title(
        self, node: Node, values: dict[str, Any], pipelines: dict[str, str], where: str
    ) -> ClaraAeTitle | None:
        processors = _several(values.get("processors"))
        settings = {"timeout": str(values.get("timeout") or "0"), "groupBy": "none", **pipelines}
        raw: dict[str, Any] = {
            "name": values.get("ae-title"),
            "aeTitle": values.get("ae-title"),
            "ignoredSopClasses": _several(values.get("ignored-sop-classes")),
            "processorSettings": settings,
        }
        if values.get("overwrite-same-instance") is not None:
            raw["overwriteSameInstance"] = values["overwrite-same-instance"]
        if processors:
            raw["processor"] = "; ".join(processors)
        try:
            entity = checks.clara_ae_title(raw, without_pipeline=True)
        except ConfigurationInvalid as error:
            self._tell(error, node, where)
            return None
        if not pipelines:
            self._found.warnings.append(
                f"AE title {entity.ae_title} has no pipeline: what is sent to it is kept and waits until it gets one "
                f"({self._file.origin(node) if node.value else 'default of 0.6'})"
            )
        return entity

    def _pipelines(self, mappings: GivenList | None) -> dict[str, dict[str, str]]:
        """Settings of the processor by AE title."""
        found: dict[str, dict[str, str]] = {}
        for node, values, where in self._elements(mappings, _MAPPING_KEYS):
            title, name = (str(values.get(key) or "").strip() for key in ("clara-ae-title", "name"))
            pipeline = str(values.get("pipeline-id") or "").strip() or name
            if not title or not pipeline:
                missing = "clara-ae-title" if not title else "pipeline-id or name"
                self._found.problems.append(f"{where}: {missing} is missing ({self._file.origin(node)})")
                continue
            settings = found.setdefault(title, {})
            key = f"pipeline-{name or pipeline}"
            if key.lower() in map(str.lower, settings):
                self._found.problems.append(f"{where}: {name!r} is mapped twice ({self._file.origin(node)})")
            settings[key] = pipeline
        return found

    # ---- sources and destinations ----

    def plain(self, listed: GivenList | None, kind: type[Source] | type[Destination]) -> Iterator[Any]:
        keys = ("ae-title", "host-ip") if kind is Source else ("name", "host-ip", "port", "ae-title")
        seen: set[tuple[object, ...]] = set()
        for node, values, where in self._elements(listed, keys):
            raw = {known_keys.canonical(kind, key) or key: value for key, value in values.items()}
            try:
                entity = checks.source(raw) if kind is Source else checks.destination(raw)
            except ConfigurationInvalid as error:
                self._tell(error, node, where)
                continue
            identity = _identity(entity)
            if identity in seen:
                self._found.problems.append(f"{where} stands there twice ({self._file.origin(node)})")
            else:
                seen.add(identity)
                yield entity

    # ---- all of them ----

    def _elements(self, listed: GivenList | None, keys: tuple[str, ...]) -> Iterator[tuple[Node, dict[str, Any], str]]:
        """Each element that is an object: itself, its values by key, and its name for messages."""
        if listed is None or listed.node.value is None:
            return
        if not isinstance(listed.node.value, list):
            self._found.problems.append(f"{listed.written} must be a list ({listed.origin})")
            return
        spelt = {key.replace("-", ""): key for key in keys}
        for number, node in enumerate(listed.node.items):
            where = f"{listed.written}>{number}"
            if not isinstance(node.value, dict):
                self._found.problems.append(f"{where} must be an object ({self._file.origin(node)})")
                continue
            values: dict[str, Any] = {}
            for key, below in node.members.items():
                name = spelt.get(key.replace("-", "").replace("_", "").lower())
                if name is None:
                    guess = known_keys.like(key, keys)
                    hint = f"did you mean {guess}?" if guess else f"known here: {', '.join(sorted(keys))}"
                    self._found.problems.append(f"{where}>{key} is unknown ({self._file.origin(below)}); {hint}")
                elif name in values:
                    self._found.problems.append(f"{where}>{key} stands there twice ({self._file.origin(below)})")
                elif below.value is not None:
                    values[name] = below.plain()
            yield node, values, where

    def _tell(self, error: ConfigurationInvalid, node: Node, where: str) -> None:
        self._found.problems += [f"{where}: {line} ({self._file.origin(node)})" for line in error.problems]


def _identity(entity: Source | Destination) -> tuple[object, ...]:
    if isinstance(entity, Destination):
        return (entity.name.casefold(),)
    return (entity.ae_title, entity.host_ip.casefold())


def _several(value: object) -> list[str]:
    """A list of text, or one text that stands for a list of one."""
    values = value if isinstance(value, list) else [value]
    return [str(each) for each in values if each not in (None, "", [])]
