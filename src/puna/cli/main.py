"""`puna`: the list of commands, and what an error looks like to a person.

It knows nothing of models, servers or files; each command is a function in a module of its own
name, imported only when it is called. Exit codes: 0 done, 1 something the user or the machine must
mend, 2 wrong usage, 130 Ctrl-C.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any

import typer

COMMANDS = {
    "serve": "Serve models to programs that speak to Azure AI or OpenAI.",
    "run": "Run a program with the retired address in it, as it stands.",
    "chat": "Talk to a model in the terminal.",
    "ask": "Ask one question.",
    "models": "List the models, what is on disk, what would fit.",
    "pull": "Fetch a checkpoint from a Hugging Face hub.",
    "keys": "Keep the keys of outside services.",
    "quantize": "Write a model in few bits to one file that loads at once.",
    "mcp": "Use the tools of MCP servers, and be one.",
    "doctor": "Say what this machine can do, and what to mend.",
}
SETTINGS: dict[str, dict[str, Any]] = {"run": {"allow_interspersed_args": False}}


def main() -> None:
    """Run the command line and exit: the console script."""
    # Puna needs no NumPy, and torch's word that it is missing tells a user nothing.
    warnings.filterwarnings("ignore", message="Failed to initialize NumPy")
    sys.exit(run_command_line(sys.argv[1:]))


def run_command_line(arguments: Sequence[str]) -> int:
    """The same without exiting: the exit code."""
    arguments = list(arguments) or ["--help"]
    chosen = next((each for each in arguments if not each.startswith("-")), "")
    try:
        app = application(chosen)
        code = app(args=arguments, prog_name="puna", standalone_mode=False)
        sys.stdout.flush()
    except (Exception, KeyboardInterrupt, SystemExit) as error:
        from puna.cli.failures import report

        return report(error)
    return code if isinstance(code, int) else 0


def application(chosen: str) -> typer.Typer:
    """The command line with `chosen` in full, and the others as lines of the help."""
    app = typer.Typer(
        name="puna",
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(root)
    for name, summary in COMMANDS.items():
        if name == chosen:
            settings = SETTINGS.get(name)
            app.command(name, context_settings=settings)(reported(name))
        else:
            app.command(name, short_help=summary)(elsewhere)
    return app


def reported(name: str) -> Callable[..., int]:
    """The function of a command; its Ctrl-C is told before typer swallows it."""
    import functools

    function: Callable[..., int] = getattr(import_module(f"puna.cli.{name}"), name)

    @functools.wraps(function)
    def run(*args: Any, **fields: Any) -> int:
        try:
            return function(*args, **fields)
        except KeyboardInterrupt as error:
            from puna.cli.failures import report

            return report(error)

    return run


def elsewhere() -> None:
    """Stands for a command that was not chosen."""


def version(wanted: bool) -> None:
    if wanted:
        from importlib.metadata import version as version_of

        print(f"puna {version_of('puna')}")
        raise typer.Exit


def root(
    wants_version: bool = typer.Option(
        False, "--version", help="Say the version, and end.", callback=version, is_eager=True
    ),
) -> None:
    """Runs the Llama herd, 3.1 and 3.2, text and vision, on your own hardware."""
