"""Whether an installation can do its work, looked at from outside: what ``clara dicom doctor`` asks."""

from clara_dicom_adapter.cli.checkup.finding import Finding, Level
from clara_dicom_adapter.cli.checkup.run import check_up

__all__ = ["Finding", "Level", "check_up"]
