"""Where things are when nobody says otherwise; without the command line's own library, for the parts."""

from pathlib import Path

DATA_DIR_VARIABLE = "CLARA_DICOM_DATA_DIR"
CONFIG_VARIABLE = "CLARA_DICOM_CONFIG"


def default_data_dir() -> Path:
    """Where everything is kept when nobody says otherwise."""
    return Path.home() / ".local" / "share" / "clara-dicom-adapter"
