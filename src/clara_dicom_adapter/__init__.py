"""Clara DICOM Adapter: DICOM in, Clara Platform jobs, DICOM out, each step a durable Temporal workflow."""

from importlib.metadata import version

__version__ = version("clara-dicom-adapter")
