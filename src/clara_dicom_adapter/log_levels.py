"""Which log lines count: levels by category, in the names of .NET that 0.7 and 0.8 use, or in ours.

A category is a prefix at dots, and the longest one that fits a logger counts. What the documents call
``Nvidia.Clara.DicomAdapter...``, ``Microsoft``, ``System`` and ``Dicom`` stands for loggers here (:data:`CATEGORIES`);
any other name is the name of a Python logger.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping
from typing import Final

TRACE: Final = 5
LEVELS: Final[Mapping[str, int]] = {
    "Trace": TRACE,
    "Debug": logging.DEBUG,
    "Information": logging.INFO,
    "Warning": logging.WARNING,
    "Error": logging.ERROR,
    "Critical": logging.CRITICAL,
    "None": logging.CRITICAL + 10,
}
"""The level names of seed 002; ``None`` is nothing at all."""
DEFAULT: Final = "Default"

_OURS: Final = "clara_dicom_adapter"
_ADAPTER: Final = "Nvidia.Clara.DicomAdapter"
_SERVICES: Final = f"{_ADAPTER}.Server.Services"
CATEGORIES: Final[Mapping[str, str]] = {
    _OURS: _ADAPTER,
    f"{_OURS}.receiver": f"{_SERVICES}.Scp",
    f"{_OURS}.spool": f"{_SERVICES}.Disk",
    f"{_OURS}.activities.export": f"{_SERVICES}.Export",
    f"{_OURS}.activities.results": f"{_SERVICES}.Export",
    f"{_OURS}.dicom": f"{_SERVICES}.Export",
    f"{_OURS}.activities.submission": f"{_SERVICES}.Jobs",
    f"{_OURS}.activities.starting": f"{_SERVICES}.Jobs",
    f"{_OURS}.activities.following": f"{_SERVICES}.Jobs",
    f"{_OURS}.clara": f"{_SERVICES}.Jobs",
    f"{_OURS}.api": f"{_SERVICES}.Http",
    f"{_OURS}.activities.reception": f"{_ADAPTER}.Server.Processors.AeTitleJobProcessor",
    f"{_OURS}.workflows": f"{_ADAPTER}.Server.Processors.AeTitleJobProcessor",
    "temporalio.workflow": f"{_ADAPTER}.Server.Processors.AeTitleJobProcessor",
    f"{_OURS}.records": f"{_ADAPTER}.Server.Repositories",
    f"{_OURS}.configuration": f"{_ADAPTER}.Configuration",
    "pynetdicom": "Dicom",
    "uvicorn": "Microsoft.AspNetCore.Server.Kestrel",
    "uvicorn.error": "Microsoft.Hosting.Lifetime",
    "uvicorn.access": "Microsoft.AspNetCore.Mvc.Infrastructure.ControllerActionInvoker",
    "fastapi": "Microsoft.AspNetCore.Routing",
    "alembic": "Microsoft.EntityFrameworkCore.Migrations",
    "sqlalchemy": "Microsoft.EntityFrameworkCore.Database",
    "httpx": "System.Net.Http.HttpClient",
    "httpcore": "System.Net.Http.SocketsHttpHandler",
    "asyncio": "System.Threading.Tasks",
}
"""Logger to the category of .NET whose subject it has taken over."""
_OF_DOTNET: Final = ("nvidia", "microsoft", "system", "dicom")
_QUIET: Final = {"microsoft": "Warning", "system": "Warning", "dicom": "Warning"}
"""Unless a category says otherwise; ``Default`` alone does not."""
_QUIET_LOGGERS: Final = {
    "temporalio.worker": logging.WARNING,
    "kubernetes": logging.WARNING,
    "urllib3": logging.WARNING,
    "temporalio.activity": logging.ERROR,  # failures are told once, by our interceptor
}
_NEVER_BELOW: Final = {"pydicom": logging.ERROR}
"""What is odd in an object is told by us: pydicom's remarks quote values, which may be a patient's."""

_set: set[str] = set()


def apply(levels: Mapping[str, str]) -> None:
    """Let these levels count in this process from now on; what an earlier call has set and this does not is undone.

    Args:
        levels: Category to level name; ``Default`` is for everything that no category fits.
    """
    logging.addLevelName(TRACE, "TRACE")
    wanted = by_logger(levels)
    for name in _set - wanted.keys():
        logging.getLogger(name).setLevel(logging.NOTSET)
    _set.clear()
    for name, level in wanted.items():
        logging.getLogger(name).setLevel(level)
        _set.add(name)
    default = next((level for category, level in levels.items() if category.lower() == DEFAULT.lower()), "Information")
    logging.getLogger().setLevel(LEVELS.get(default, logging.INFO))


def by_logger(levels: Mapping[str, str]) -> dict[str, int]:
    """The level of each logger that has one of its own."""
    of_dotnet = _QUIET | {category.lower(): level for category, level in levels.items() if _is_of_dotnet(category)}
    found = dict(_QUIET_LOGGERS)
    for logger, category in CATEGORIES.items():
        rule = _longest(category, of_dotnet)
        above = next((CATEGORIES[name] for name in _above(logger) if name in CATEGORIES), None)
        if rule is not None and (above is None or rule != _longest(above, of_dotnet)):
            found[logger] = LEVELS[of_dotnet[rule]]
    for category, level in levels.items():
        if not _is_of_dotnet(category) and category.lower() != DEFAULT.lower():
            found[category] = LEVELS[level]
    return found | {name: max(level, found.get(name, level)) for name, level in _NEVER_BELOW.items()}


def unknown_categories(levels: Iterable[str]) -> Iterator[str]:
    """Categories of .NET that stand for nothing here."""
    for category in levels:
        if _is_of_dotnet(category) and not any(_fits(category.lower(), each) for each in CATEGORIES.values()):
            yield category


def _is_of_dotnet(category: str) -> bool:
    return category.partition(".")[0].lower() in _OF_DOTNET


def _longest(category: str, rules: Mapping[str, str]) -> str | None:
    return max((rule for rule in rules if _fits(rule, category)), key=len, default=None)


def _fits(rule: str, category: str) -> bool:
    return f"{category.lower()}.".startswith(f"{rule}.")


def _above(logger: str) -> Iterator[str]:
    while "." in logger:
        logger = logger.rpartition(".")[0]
        yield logger
