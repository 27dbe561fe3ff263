"""Clara DICOM Adapter: DICOM in, Clara Platform jobs, DICOM out, each step a durable Temporal workflow."""


def __getattr__(name: str) -> str:
    # read when asked for: the workflow sandbox runs this file for every workflow, and the metadata is another file
    if name == "__version__":
        from importlib.metadata import version  # noqa: PLC0415

        return version("clara-dicom-adapter")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
