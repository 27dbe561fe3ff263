"""What ``--help`` shows below a command's options: how it is used, as the documents print it."""

from collections.abc import Mapping
from typing import Final

_EXAMPLES: Final[Mapping[tuple[str, ...], tuple[str, ...]]] = {
    ("start",): ("start", "start --config appsettings.json --data-dir /srv/clara"),
    ("status",): ("status", "status --watch"),
    ("send",): ("send --to COVIDAET@adapter.hospital:104 study/",),
    ("trace",): ("trace 1.2.840.113619.2.55.3.1",),
    ("retry",): ("retry --all", "retry submission-COVIDAET-1b2c --item lung", "retry TASK --to ARCHIVE"),
    ("discard",): ("discard receive-COVIDAET-1b2c --reason 'sent by mistake'",),
    ("doctor",): ("doctor", "doctor --config appsettings.json --json"),
    ("config", "check"): ("config check dicom-server-config.yaml",),
    ("config", "show"): ("config show --changed",),
    ("config", "levels"): (
        "config levels Nvidia.Clara.DicomAdapter.Server.Services.Scp=Debug",
        "config levels Nvidia.Clara.DicomAdapter.Server.Services.Scp=",
    ),
    ("config", "convert"): ("config convert dicom-server-config.yaml --to appsettings.json",),
    ("key", "create"): ("key create alice --role configure", "key create grafana --days 365"),
    ("create", "dicomweb"): ("create dicomweb -n ARCHIVE --url https://archive.hospital/dicom-web",),
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


def examples(*command: str) -> str:
    """The examples of a command, as an epilog."""
    lines = (f"clara dicom {line}" for line in _EXAMPLES[command])
    return "\n\n".join(("Examples:", *lines))
