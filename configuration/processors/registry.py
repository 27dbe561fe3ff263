"""Finding processors by the names that configurations give them."""

from collections.abc import Iterable, Mapping
from functools import cache
from importlib.metadata import entry_points

from clara_dicom_adapter.configuration.processors.base import InstanceGroup, JobProcessor, JobRequest
from clara_dicom_adapter.errors import ConfigurationInvalid

GROUP = "clara_dicom_adapter.job_processors"


@cache
def _by_name() -> Mapping[str, type[JobProcessor]]:
    known: dict[str, type[JobProcessor]] = {}
    for entry in entry_points(group=GROUP):
        processor: type[JobProcessor] = entry.load()
        for name in (entry.name, *processor.type_names):
            known[name.lower()] = processor
    return known


def find(name: str) -> type[JobProcessor]:
    """The processor of a configured name: an entry point's, or a .NET type string of the documents; several with ``;``.

    Raises:
        ConfigurationInvalid: No such processor is installed; the text names those that are.
    """
    several = [part for part in name.split(";") if part.strip()]
    if len(several) > 1:
        return _one_after_the_other(tuple(dict.fromkeys(find(part) for part in several)))
    # a .NET type string is "Namespace.Type, Assembly"; the assembly says nothing here
    processor = _by_name().get(name.split(",", maxsplit=1)[0].strip().lower())
    if processor is None:
        known = ", ".join(sorted(entry.name for entry in entry_points(group=GROUP)))
        raise ConfigurationInvalid([f"Invalid job processor: {name!r} is not installed; installed are: {known}."])
    return processor


@cache
def _one_after_the_other(processors: tuple[type[JobProcessor], ...]) -> type[JobProcessor]:
    """One processor of several, each of which gets every group: the ``processors`` of a 0.6 file."""

    class Several(JobProcessor):
        own_settings = frozenset[str]().union(*(processor.own_settings for processor in processors))

        def own_problems(self, ae_title: str) -> list[str]:
            told = [line for processor in processors for line in processor(self.settings).own_problems(ae_title)]
            return list(dict.fromkeys(told))

        def jobs(self, group: InstanceGroup) -> Iterable[JobRequest]:
            for processor in processors:
                yield from processor(self.settings).jobs(group)

    return Several


def problems(ae_title: str, name: str, settings: Mapping[str, str]) -> list[str]:
    """What is wrong with a processor's name and settings, one readable line each."""
    try:
        processor = find(name)
    except ConfigurationInvalid as error:
        return list(error.problems)
    return processor.problems(ae_title, settings)
