"""The child: one question a line comes in, one answer a line goes out, as JSON.

It knows pipes and limits. What is asked is parsed by a grammar of our own and never evaluated, so
what a question can do is take time and memory; both are bounded here, and by whoever may end us.
"""

from __future__ import annotations

import json
import os
import resource
import sys
from collections.abc import Mapping
from contextlib import suppress
from datetime import date
from typing import Any

MAX_MEMORY = 2**30
SOURCE_SECONDS = 1


def main() -> None:
    """Answer until the other side closes."""
    sys.setrecursionlimit(3000)
    from puna.tools.mathematics.questions import answer_question

    answer_question("12 miles in km", date(2026, 1, 1))  # loads what is loaded late
    _shut_in()
    _say({"ready": True})
    for line in sys.stdin:
        asked = json.loads(line)
        _limit_time(asked["seconds"])
        _say(answered(asked["query"], date.fromisoformat(asked["today"])))


def answered(query: str, today: date) -> Mapping[str, Any]:
    """`{"pods": [...]}` or `{"unknown": why}`."""
    from puna.tools.mathematics.expression import NotUnderstood
    from puna.tools.mathematics.questions import answer_question

    try:
        return {"pods": answer_question(query, today)}
    except NotUnderstood as error:
        return {"unknown": str(error)[:300]}
    except MemoryError:
        return {"unknown": "it takes more memory than is allowed"}
    except RecursionError:
        return {"unknown": "it is nested too deeply"}
    except Exception as error:  # SymPy raises whatever it does, deep inside
        return {"unknown": f"SymPy gave up ({type(error).__name__})"}


def _say(what: Mapping[str, Any]) -> None:
    sys.stdout.write(json.dumps(what) + "\n")
    sys.stdout.flush()


def _shut_in() -> None:
    """A second wall, should the grammar have a hole: no new files, processes or connections."""
    for limit, value in (
        (resource.RLIMIT_AS, MAX_MEMORY),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_CORE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_NOFILE, 32),
    ):
        with suppress(ValueError, OSError):  # not every system has each
            resource.setrlimit(limit, (value, value))
    sys.addaudithook(_refuse)


_REFUSED = (
    "socket.", "subprocess.", "os.exec", "os.posix_spawn", "os.fork", "os.system", "os.kill",
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.link", "os.symlink",
    "os.putenv", "shutil.", "ctypes.", "pty.", "signal.",
)  # fmt: skip


_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


def _refuse(event: str, args: tuple[Any, ...]) -> None:
    writes = event == "open" and bool(args[2] & _WRITING)
    if event.startswith(_REFUSED) or writes:
        raise PermissionError(event)


def _limit_time(seconds: float) -> None:
    """Processor time, should nobody be left to end us."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    until = int(used.ru_utime + used.ru_stime + seconds) + SOURCE_SECONDS
    with suppress(ValueError, OSError):
        _, hard = resource.getrlimit(resource.RLIMIT_CPU)
        resource.setrlimit(resource.RLIMIT_CPU, (until, hard))
