"""An exception as one line for a person, and the exit code that goes with it.

It knows the exceptions that may reach the top, and nothing of the commands that raise them.
"""

from __future__ import annotations

import errno
import sys
from typing import TYPE_CHECKING, Final

import typer

if TYPE_CHECKING:
    from pydantic import ValidationError

MACHINE: Final = 1
USAGE: Final = 2
INTERRUPTED: Final = 130


def report(error: BaseException) -> int:
    """Say on stderr what went wrong; the exit code. With PUNA_DEBUG set, the traceback first."""
    if isinstance(error, SystemExit):
        return error.code if isinstance(error.code, int) else MACHINE
    if isinstance(error, BrokenPipeError):
        return _reader_gone()
    if isinstance(error, KeyboardInterrupt | typer.Abort):
        print("puna: interrupted", file=sys.stderr)
        return INTERRUPTED
    _traceback_when_asked(error)
    text, code = explain(error)
    print(f"puna: {' '.join(text.split())}", file=sys.stderr)
    return code


def explain(error: BaseException) -> tuple[str, int]:
    """The line, without `puna: `, and the exit code."""
    from tomllib import TOMLDecodeError

    from pydantic import ValidationError

    from puna.errors import InvalidValue, PunaError

    if isinstance(error, InvalidValue):
        return error.message, USAGE
    if isinstance(error, PunaError):
        return error.message, MACHINE
    if isinstance(error, typer.TyperException):
        return _usage(error), error.exit_code
    if isinstance(error, ValidationError):
        return _setting(error), USAGE
    if isinstance(error, TOMLDecodeError):
        return f"puna.toml: {error}", USAGE
    if isinstance(error, MemoryError):
        return "out of memory; try a smaller model, or --kv-memory and --max-context", MACHINE
    if isinstance(error, OSError):
        return _operating_system(error), MACHINE
    kind = type(error).__name__
    return (
        f"internal error, please report it: {kind}: {error} (PUNA_DEBUG=1 shows where)",
        MACHINE,
    )


def _usage(error: typer.TyperException) -> str:
    context = getattr(error, "ctx", None)
    command = context.command_path if context is not None else "puna"
    return f"{error.format_message().rstrip('.')}; `{command} --help` tells more"


def _setting(error: ValidationError) -> str:
    """The first wrong setting. Its value may be a secret, so only a plain one is shown."""
    first = error.errors(include_url=False, include_context=False)[0]
    name = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return f"puna.toml: there is no setting {name}"
    value = first.get("input")
    shown = f" {value!r}" if isinstance(value, int | float | str) and "key" not in name else ""
    variable = name if name.isupper() else f"PUNA_{name.upper()}"
    return (
        f"setting {name}{shown}: {first['msg'].lower()} (it comes from an option, {variable} or "
        "puna.toml)"
    )


def _operating_system(error: OSError) -> str:
    reason = (error.strerror or str(error) or type(error).__name__).lower()
    if error.errno == errno.ENOSPC:
        reason = "no space left on the disk"
    return f"{error.filename}: {reason}" if error.filename else reason


def _reader_gone() -> int:
    # The reader of a pipe (`puna models | head`) left: no error, but nothing more may be flushed.
    import os

    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 128 + 13


def _traceback_when_asked(error: BaseException) -> None:
    from puna.settings import environment

    if environment().get("PUNA_DEBUG"):
        import traceback

        traceback.print_exception(error)
