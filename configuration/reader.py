"""Settings from a file of any version (0.8, 0.7, 0.6) and the environment.

What wins: a default gives way to the file, the file to Clara's four variables, those to a key's own variable, and a
log level there to one that was changed while the adapter runs.
Everything that is wrong is collected and told at once, with the key's path, the value, what is allowed and where it
came from.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from pydantic import BaseModel, ValidationError

from clara_dicom_adapter.configuration import certificates, environment, files, verdict
from clara_dicom_adapter.configuration.files import Dialect
from clara_dicom_adapter.configuration.gathered import DEFAULT, Gathered, KeyPath
from clara_dicom_adapter.configuration.given import GivenEntities, entities
from clara_dicom_adapter.configuration.logging_sections import LEVELS_PATH, same_case
from clara_dicom_adapter.configuration.run_time_levels import changed_levels
from clara_dicom_adapter.configuration.settings import DataFolder, Settings
from clara_dicom_adapter.errors import ConfigurationInvalid
from clara_dicom_adapter.log_levels import unknown_categories

STANDARD_NAMES: Final = ("appsettings.json", "dicom-server-config.yaml", "app.yaml")
"""Files that are looked for in the data folder: 0.8 and 0.7, then 0.6."""
ModelT = TypeVar("ModelT", bound=BaseModel)


@dataclass(frozen=True)
class Reading:
    """What the settings are, and how they came to be.

    Attributes:
        as_written: The same with paths as they were given, not relative to the data folder.
        given: Entities that the file lists.
        file: What was read; None when there is none.
        dialect: The version that it was written for.
        warnings: What is odd and no reason not to start.
    """

    settings: Settings
    as_written: Settings
    given: GivenEntities
    file: Path | None
    dialect: Dialect | None
    warnings: tuple[str, ...]
    origins: Mapping[KeyPath, str]

    def origin(self, path: KeyPath) -> str:
        """Where the value at a path came from."""
        below = next((origin for known, origin in self.origins.items() if known[: len(path)] == path), DEFAULT)
        return self.origins.get(path, below)


def load(config: Path | None, data: DataFolder, environ: Mapping[str, str]) -> Settings:
    """The settings alone, see :func:`read`."""
    return read(config, data, environ).settings


def read(config: Path | None, data: DataFolder, environ: Mapping[str, str], *, starting: bool = False) -> Reading:
    """Read the settings.

    Args:
        config: The file; none: the first of :data:`STANDARD_NAMES` in the data folder, else defaults only.
        starting: Whether to look at the certificates too that the SCP is to show. They end by themselves, which must
            keep nobody from looking at an adapter that runs.

    Raises:
        ConfigurationInvalid: With a line for everything that is wrong.
    """
    found = Gathered()
    path = config or next((each for name in STANDARD_NAMES if (each := data.root / name).exists()), None)
    file: files.SettingsFile | None = None
    if path is not None:
        try:
            file = files.read(path)
        except ConfigurationInvalid as error:
            found.problems += error.problems
        else:
            files.take(found, file)
    environment.take(found, environ)
    for category, level in changed_levels(data).items():
        found.set((*LEVELS_PATH, same_case(found, category)), level, f"changed while running, {data.log_levels}")
    settings = _settings(found)
    verdict.check(found, data)
    if starting:
        certificates.check(found, data)
    given = GivenEntities()
    if file is not None:
        given = entities(found, file, (settings or Settings()).dicom)
    if settings is not None:
        _warn_of_patients(found, settings)
    if found.problems or settings is None:
        raise ConfigurationInvalid(found.problems)
    for category in unknown_categories(settings.logging.levels):
        where = found.origin((*LEVELS_PATH, category))
        found.warnings.append(f"Logging>LogLevel>{category}: nothing of this category is logged here ({where})")
    return Reading(
        settings=_anchored(settings, data.root),
        as_written=settings,
        given=given,
        file=path,
        dialect=file.dialect if file else None,
        warnings=tuple(found.warnings),
        origins=found.origins,
    )


def _warn_of_patients(found: Gathered, settings: Settings) -> None:
    """Whoever reads the log reads patients' names: that is told at each start."""
    for name, part in (("scp", settings.dicom.scp), ("scu", settings.dicom.scu)):
        if part.log_dimse_datasets and part.log_patient_attributes:
            path = ("dicom", name, "logPatientAttributes")
            found.warnings.append(f"{found.name(path)}: patients are named in the log ({found.origin(path)})")


def _settings(found: Gathered) -> Settings | None:
    try:
        return Settings.model_validate(found.values)
    except ValidationError as error:
        verdict.refuse_all(found, error)
        return None


def _anchored(model: ModelT, root: Path) -> ModelT:
    """Relative paths are in the data folder: nothing depends on the folder that a command is called in."""
    changed: dict[str, object] = {}
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            changed[name] = _anchored(value, root)
        elif isinstance(value, Path) and not value.is_absolute():
            changed[name] = root / value.expanduser()
    return model.model_copy(update=changed)
