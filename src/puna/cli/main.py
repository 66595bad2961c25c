"""`puna`: the list of commands, and what an error looks like to a person.

It knows nothing of models, servers or files; each command lives in a module of its own. Exit codes:
0 done, 1 something the user or the machine must mend, 2 wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from puna.cli import ask, chat, doctor, models, pull, run, serve

app = typer.Typer(
    name="puna",
    help="Runs the Llama herd, 3.1 and 3.2, text and vision, on your own hardware.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command()(serve.serve)
app.command(context_settings={"allow_interspersed_args": False})(run.run)
app.command()(chat.chat)
app.command()(ask.ask)
app.command()(models.models)
app.command()(pull.pull)
app.command()(doctor.doctor)


def _version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version

        print(f"puna {version('puna')}")
        raise typer.Exit


@app.callback()
def root(
    version: bool = typer.Option(
        False, "--version", help="Say the version, and end.", callback=_version, is_eager=True
    ),
) -> None:
    pass


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command line and exit: the console script."""
    sys.exit(run_command_line(arguments))


def run_command_line(arguments: Sequence[str] | None = None) -> int:
    """The same without exiting: the exit code."""
    try:
        code = app(args=arguments, prog_name="puna", standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        from puna.cli.failures import report

        return report(error)
    return code if isinstance(code, int) else 0
