"""What is known of the settings while they are gathered: values by path, where each came from, and what is wrong."""

from dataclasses import dataclass, field
from typing import Any, Final

SECTION: Final = "DicomAdapter"
DATABASE_KEY: Final = "DicomAdapterDatabase"
DEFAULT: Final = "default"

KeyPath = tuple[str, ...]
"""Names in the spelling of the settings, from the root of :class:`~..settings.Settings`."""


@dataclass
class Gathered:
    """Filled by the file's reader and the environment's, in this order: who comes later wins."""

    values: dict[str, Any] = field(default_factory=dict[str, Any])
    origins: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])
    written: dict[KeyPath, str] = field(default_factory=dict[KeyPath, str])
    """The key as it stands in the file, for messages."""
    problems: list[str] = field(default_factory=list[str])
    warnings: list[str] = field(default_factory=list[str])

    def set(self, path: KeyPath, value: object, origin: str, written: str = "") -> None:
        """Take a value; one that is there already is replaced."""
        here = self.values
        for depth, key in enumerate(path[:-1], start=1):
            below = here.get(key)
            if below is not None and not isinstance(below, dict):
                self.refuse(path[:depth], "a value of another kind", "object")
            if not isinstance(below, dict):
                below = here[key] = {}
            here = below
        here[path[-1]] = value
        for known in [known for known in self.origins if known[: len(path)] == path]:
            del self.origins[known]  # of the elements of a list that is replaced
        self.origins[path] = origin
        self.written[path] = written or canonical_name(path)

    def value(self, path: KeyPath) -> Any:
        """What has been set there; None when nothing has."""
        here: Any = self.values
        for key in path:
            here = here.get(key) if isinstance(here, dict) else None
        return here

    def origin(self, path: KeyPath) -> str:
        """Where a value came from, or the nearest section above it that something is known of."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return self.origins[path[:length]]
        return DEFAULT

    def name(self, path: KeyPath) -> str:
        """The key as the operator has written it, else as it is written today."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.written:
                return ">".join((self.written[path[:length]], *path[length:]))
        return canonical_name(path)

    def refuse(self, path: KeyPath, value: str, allowed: str) -> None:
        """Note that a value is not allowed, and what is."""
        self.problems.append(f"{self.name(path)}: {value} is not allowed: {allowed} ({self.origin(path)})")


def canonical_name(path: KeyPath) -> str:
    """A key as it stands in a file of 0.8."""
    match path:
        case ("database", *_):
            return f"ConnectionStrings>{DATABASE_KEY}"
        case ("logging", *below):
            return ">".join(("Logging", *below))
    return ">".join((SECTION, *path))
