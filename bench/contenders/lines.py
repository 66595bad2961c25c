"""A contender's process: work as JSON lines in, seconds out. Needs nothing but Python.

{"work": "prefill", "tokens": 512}                         -> {"rate": tokens a second}
{"work": "decode", "batch": 4, "context": 512, "tokens": 32}
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Protocol


class Contender(Protocol):
    def prefill(self, tokens: int) -> float: ...
    def decode(self, batch: int, context: int, tokens: int) -> float: ...


def answer(contender: Contender) -> None:
    """Serves until the input ends. What libraries print goes to stderr."""
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    print(json.dumps({"ready": True}), file=out)
    for line in sys.stdin:
        asked: dict[str, Any] = json.loads(line)
        work = asked.pop("work")
        print(json.dumps({"rate": getattr(contender, work)(**asked)}), file=out)
