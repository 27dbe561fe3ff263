"""Found by a Python whose PYTHONPATH begins here: listeners make files of small instances at the last moment.

That is when their association ends, behind the last response, for as long as segments have room. So it shows what a
receiver would do whose segments are the only store of small instances.
"""

from clara_dicom_adapter.spool import settling

settling.__dict__.update(_PAUSE_SECONDS=1e6, _MOST_BYTES=1 << 40)
