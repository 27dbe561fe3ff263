"""``python -m clara_dicom_adapter.cli``: the same as ``clara``."""

from clara_dicom_adapter.cli import main

if __name__ == "__main__":
    main()
