"""Where things are when nobody says otherwise; without the command line's own library, for the parts."""

from pathlib import Path

DATA_DIR_VARIABLE = "CLARA_DICOM_DATA_DIR"
CONFIG_VARIABLE = "CLARA_DICOM_CONFIG"


def default_data_dir() -> Path:
    """Where everything is kept when nobody says otherwise."""
    return Path.home() / ".local" / "share" / "clara-dicom-adapter"


def chart_folder() -> Path:
    """Where ``clara pull dicom`` writes the chart; the documents name it."""
    return Path.home() / ".clara" / "charts" / "dicom-adapter"


def pulled_settings() -> Path | None:
    """The settings file that lies there, that of 0.6 when there is no newer one; None: neither."""
    files = chart_folder() / "files"
    return next((file for name in (_NEWER, _OLDER) if (file := files / name).is_file()), None)


def passed_over(used: Path | None) -> Path | None:
    """The file of 0.6 (seed 001) that lies beside the settings in use and is not read; None: there is none.

    A site that comes from 0.6 has it, and gets the newer one with the chart.
    """
    older = chart_folder() / "files" / _OLDER
    return older if used == older.with_name(_NEWER) and older.is_file() else None


_NEWER = "appsettings.json"
_OLDER = "dicom-server-config.yaml"
