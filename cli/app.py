"""The application ``clara`` and its groups, and what every command has in common: how it ends.

Commands import what they work with when they run, so that ``clara --help`` is there at once.
"""

from collections.abc import Sequence
from typing import Annotated

import typer

from clara_dicom_adapter.cli.commands import (
    attention,
    config,
    demo,
    doctor,
    entities,
    export_objects,
    keys,
    lifecycle,
    lists,
    pull,
    sending,
    spool,
    trace,
    web_destinations,
)
from clara_dicom_adapter.cli.output import to_stderr
from clara_dicom_adapter.cli.stores import elsewhere
from clara_dicom_adapter.errors import AdapterError, ConfigurationInvalid

FAILED = 1
INTERRUPTED = 130
"""As a shell reports an end by SIGINT."""

_NO_AE_TITLE = "is not a valid AE Title"
"""The words of 0.8, which do not say why."""

_SHORT_HELP = {"help_option_names": ["-h", "--help"]}

app = typer.Typer(
    name="clara",
    help="Clara DICOM Adapter: DICOM in, pipelines, DICOM out.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings=_SHORT_HELP,
)
dicom = typer.Typer(no_args_is_help=True, context_settings=_SHORT_HELP)
dicom.callback()(elsewhere)
app.add_typer(dicom, name="dicom", help="Run the adapter, configure it, and see what it does.")
lifecycle.add_to(dicom)
entities.add_to(dicom)
config.add_to(dicom)
keys.add_to(dicom)
lists.add_to(dicom)
export_objects.add_to(dicom)
web_destinations.add_to(dicom)
sending.add_to(dicom)
trace.add_to(dicom)
attention.add_to(dicom)
spool.add_to(dicom)
doctor.add_to(dicom)
pull.add_to(app)
demo.add_to(app)


@app.callback()
def common(
    verbose: Annotated[bool, typer.Option("--verbose", help="Show the log of what a command does.")] = False,
) -> None:
    """Prepare what every command needs."""
    from clara_dicom_adapter import log

    log.configure(log.LogSetup({"Default": "Information" if verbose else "Critical"}), part="clara")


def run(arguments: Sequence[str]) -> int:
    """Run one command and return its exit status; what goes wrong is one clear message on standard error."""
    try:
        app(list(arguments), prog_name="clara")
    except SystemExit as stop:  # how the application ends; wrong arguments have been told
        return stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except KeyboardInterrupt:
        return INTERRUPTED
    except ConfigurationInvalid as error:
        for problem in error.problems:
            to_stderr(problem)
        if any(_NO_AE_TITLE in problem for problem in error.problems):
            to_stderr(
                "an AE title has 1 to 16 characters, not only blanks, none of them backslash or control (PS3.5, 6.2)"
            )
    except AdapterError as error:
        to_stderr(str(error))
    return FAILED
