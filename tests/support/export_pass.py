"""One pass of an export's objects to one destination, in a process that can be killed: ``... SITE SEND_INPUT``."""

import asyncio
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from subprocess import Popen

from temporalio.testing import ActivityEnvironment

from clara_dicom_adapter.workflows.models import SendInput
from support.exports import Site


@contextmanager
def sending(site: Site, request: SendInput) -> Iterator[Popen[bytes]]:
    """A process that sends; it is killed with the end of the block."""
    paths = [str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])]
    command = [sys.executable, "-m", "support.export_pass", site.json(), request.model_dump_json()]
    process = Popen(command, env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)})
    try:
        yield process
    finally:
        process.kill()
        process.wait(10)


def main() -> None:
    site, request = Site.of(sys.argv[1]), SendInput.model_validate_json(sys.argv[2])
    asyncio.run(ActivityEnvironment().run(site.exports(site.records()).send, request))


if __name__ == "__main__":
    main()
