"""Make a new object of every instance: the same bytes under a UID that follows from job and instance."""

import os
import uuid
from pathlib import Path

from pydicom import dcmread
from pydicom.uid import UID

job = os.environ["CLARA_JOB_ID"]
output = Path(os.environ["MONAI_OUTPUTPATH"])
for path in sorted(Path(os.environ["MONAI_INPUTPATH"]).rglob("*.dcm")):
    ds = dcmread(path)
    ds.SOPInstanceUID = UID(f"2.25.{uuid.uuid5(uuid.NAMESPACE_OID, f'{job}/{ds.SOPInstanceUID}').int}")
    ds.file_meta.MediaStorageSOPInstanceUID = ds.SOPInstanceUID
    ds.save_as(output / f"{ds.SOPInstanceUID}.dcm", enforce_file_format=True)
