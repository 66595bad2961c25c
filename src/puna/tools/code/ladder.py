"""Which sandbox holds on this machine: each rung is tried for real, the strongest first."""

from __future__ import annotations

from puna.errors import StartupError
from puna.tools.code.child import Child
from puna.tools.code.rungs import LADDER, Limits, Rung


def why_not(rung: Rung, packages: bool = True) -> str | None:
    """Why `rung` does not hold here, found out by starting one in it; `None`: it does."""
    try:
        Child(rung, Limits(), packages).kill()
    except StartupError as error:
        return error.message
    return None


def choose(wanted: str, packages: bool) -> Rung:
    """The rung called `wanted`, or for "auto" the strongest that holds. StartupError if none."""
    reasons: list[str] = []
    for rung in LADDER:
        if wanted in ("auto", rung.name):
            reason = why_not(rung, packages)
            if reason is None:
                return rung
            reasons.append(f"{reason}; {rung.remedy}")
    told = " / ".join(reasons)
    raise StartupError(f"no sandbox for code_interpreter (code_sandbox={wanted}): {told}")
