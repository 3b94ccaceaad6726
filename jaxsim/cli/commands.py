"""Every command, and what becomes of errors."""

import sys
from typing import Annotated

import typer

from jaxsim.cli import console
from jaxsim.cli._usage import App, Commands
from jaxsim.cli.basin import basin
from jaxsim.cli.compare import compare
from jaxsim.cli.crossing import crossing
from jaxsim.cli.geometry import geometry
from jaxsim.cli.head import head
from jaxsim.cli.replay import replay
from jaxsim.cli.report import report
from jaxsim.cli.reproduce import reproduce
from jaxsim.cli.run import run
from jaxsim.cli.study import app as study

EXIT_NOT_WRITTEN = 1
EXIT_BAD_INPUT = 2

app = App(
    name="jaxsim",
    cls=Commands,
    help="Implicit bias of self-attention over the whole initialisation space.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
)
app.command()(run)
app.command()(head)
app.command()(geometry)
app.command()(basin)
study.command()(crossing)
app.add_typer(study)
app.command()(reproduce)
app.command()(report)
app.command()(replay)
app.command()(compare)


def _version(asked: bool) -> None:
    if asked:
        import jaxsim

        print(f"jaxsim {jaxsim.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """Implicit bias of self-attention over the whole initialisation space."""


def main() -> None:
    """Run the command that was asked for, and end with its exit code."""
    try:
        app()
    except ValueError as error:
        console.error(error)
        sys.exit(EXIT_BAD_INPUT)
    except MemoryError as error:
        memory = "memory: expected sizes that fit into what this process may use"
        console.error(f"{memory}; {error or 'there is no more'}")
        sys.exit(EXIT_BAD_INPUT)
    except OSError as error:
        console.error(f"could not write {error.filename or 'the results'}: {error.strerror or error}")
        sys.exit(EXIT_NOT_WRITTEN)
