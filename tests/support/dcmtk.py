"""dcmtk's senders as peers of the whole adapter."""

import subprocess
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from subprocess import CompletedProcess

from pydicom.uid import (
    JPEG2000,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    JPEG2000Lossless,
    JPEGBaseline8Bit,
    JPEGExtended12Bit,
    JPEGLossless,
    JPEGLosslessSV1,
    JPEGLSLossless,
    JPEGLSNearLossless,
    RLELossless,
)

from clara_dicom_adapter.dicom.part10 import read_meta
from support.dicom_peers import tool

# what dcmtk's storescu has to be told to propose, so that it can send a file in its own transfer syntax
PROPOSE: dict[str, str] = {
    ExplicitVRLittleEndian: "-xe",
    ExplicitVRBigEndian: "-xb",
    ImplicitVRLittleEndian: "-xi",
    DeflatedExplicitVRLittleEndian: "-xd",
    JPEGLosslessSV1: "-xs",
    JPEGBaseline8Bit: "-xy",
    JPEGExtended12Bit: "-xx",
    JPEGLSLossless: "-xt",
    JPEGLSNearLossless: "-xu",
    JPEG2000Lossless: "-xv",
    JPEG2000: "-xw",
    RLELossless: "-xr",
}
NOT_DCMTKS: set[str] = {JPEGLossless}
"""Transfer syntaxes that storescu cannot be told to propose."""


def proposals(files: Iterable[Path]) -> Mapping[str, list[Path]]:
    """Files by the option that makes storescu propose their own transfer syntax."""
    by_option: defaultdict[str, list[Path]] = defaultdict(list)
    for path in files:
        by_option[PROPOSE.get(read_meta(path).transfer_syntax_uid, "-x=")].append(path)
    return by_option


def storescu(port: int, called: str, *arguments: str | Path, calling: str = "CT1") -> CompletedProcess[str]:
    """Send with storescu, as ``calling`` to ``called``; the arguments are options and files."""
    return _run("storescu", "-v", "-nh", "-R", "-aet", calling, "-aec", called, *arguments, port=port)


def echoscu(port: int, called: str, *, calling: str = "CT1") -> CompletedProcess[str]:
    """C-ECHO with echoscu."""
    return _run("echoscu", "-v", "-aet", calling, "-aec", called, port=port)


def _run(program: str, *arguments: str | Path, port: int) -> CompletedProcess[str]:
    options = [argument for argument in arguments if isinstance(argument, str)]
    files = [str(argument) for argument in arguments if isinstance(argument, Path)]
    return subprocess.run(
        [tool(program), *options, "127.0.0.1", str(port), *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
        check=False,
    )
