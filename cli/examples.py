"""What ``--help`` shows below a command's options: how it is used, as the documents print it."""

from collections.abc import Mapping
from typing import Final

_EXAMPLES: Final[Mapping[tuple[str, str], tuple[str, ...]]] = {
    ("create", "aetitle"): (
        "create aetitle -a COVIDAET pipeline-covid=PIPELINE-ID",
        "create aetitle -a LUNG -n lungs pipeline-a=A1 pipeline-b=B1 timeout=30 groupBy=0010,0020",
    ),
    ("create", "src"): ("create src -a MYPACS -i 10.20.30.1",),
    ("create", "dest"): ("create dest -n MYPACS -a MYPACSAET -i 10.20.30.2 -p 1104",),
    ("list", "aetitle"): ("list aetitle", "--url https://adapter:5000 list aetitle --json"),
    ("list", "src"): ("list src",),
    ("list", "dest"): ("list dest --json",),
    ("get", "aetitle"): ("get aetitle -a COVIDAET",),
    ("get", "src"): ("get src -a MYPACS -i 10.20.30.1",),
    ("get", "dest"): ("get dest -n MYPACS --json",),
    ("update", "aetitle"): (
        "update aetitle -a COVIDAET timeout=10 pipeline-lung=OTHER-ID",
        "update aetitle -a COVIDAET pipeline-lung= --allowed-source CT1",
    ),
    ("update", "src"): ("update src -a MYPACS --new-ip 10.20.30.3",),
    ("update", "dest"): ("update dest -n MYPACS -p 11112",),
    ("delete", "aetitle"): ("delete aet -n COVIDAET",),
    ("delete", "src"): ("delete src -a MYPACS",),
    ("delete", "dest"): ("delete dest -n MYPACS",),
}


def examples(verb: str, kind: str) -> str:
    """The examples of a command, as an epilog."""
    lines = (f"clara dicom {line}" for line in _EXAMPLES[verb, kind])
    return "\n\n".join(("Examples:", *lines))
