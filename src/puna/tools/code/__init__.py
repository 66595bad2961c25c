"""`code_interpreter`: CPython for a model, behind walls. See `rungs.py` for what each wall is made
of and what it leaves open.

It knows `Tool` and the settings; no model and no loop.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from puna.errors import ToolFailed
from puna.tools.code.interpreter import Interpreter
from puna.tools.code.ladder import choose
from puna.tools.code.rungs import Limits
from puna.tools.tool import Arguments, Output, Session, Tool

if TYPE_CHECKING:
    from puna.settings import Settings

NAME = "code_interpreter"
LONGEST = 100_000
PYTHON = (
    "Runs Python code and returns what it prints and the value of its last expression. Names are "
    "kept from call to call. Files written to the working directory and open matplotlib figures "
    "are given to the user. There is no network, and a call may take {seconds:g} seconds."
)
MONTY = (
    "Runs code in a small Python (no third-party packages, no files, no network) and returns what "
    "it prints and the value of its last expression. Names are kept from call to call. A call may "
    "take {seconds:g} seconds."
)
PARAMETERS: dict[str, Any] = {
    "type": "object",
    "properties": {"code": {"type": "string", "description": "Python source code"}},
    "required": ["code"],
    "additionalProperties": False,
}


def code_interpreter(settings: Settings) -> Tool:
    """The tool, behind the wall that `settings.code_sandbox` names or the strongest to be had.

    Each conversation has an interpreter of its own, started at its first call. A result is
    `failed` where the code raised; ToolFailed means that the interpreter had to be killed.
    StartupError, with what to install, if no wall holds on this machine: each is tried for real.
    """
    rung = choose(settings.code_sandbox, settings.code_packages)
    limits = Limits(
        seconds=settings.code_seconds,
        cpu_seconds=settings.code_seconds * 2,
        memory=settings.code_memory,
    )

    async def run(arguments: Arguments, session: Session) -> Output:
        code = arguments["code"]
        if len(code) > LONGEST:
            raise ToolFailed(f"the code is {len(code)} characters long; at most {LONGEST} are run")
        kept = session.keep(NAME, lambda: Interpreter(rung, limits, settings.code_packages))
        return await kept.run(code)

    told = (MONTY if rung.name == "monty" else PYTHON).format(seconds=limits.seconds)
    return Tool(NAME, told, PARAMETERS, run, read_only=True)
