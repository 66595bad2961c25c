"""How many paid requests went out this calendar month (UTC), in a small file, and no more of them.

It knows a file and a number. The file is shared by all of the user's programs, so it is locked
while it is read and written; a file that cannot be read stops the spending, for nobody knows what
was spent.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

from puna.errors import StartupError, ToolFailed


@dataclass
class Spent:
    """`billed`: whether the request is to be paid for. Unknown, it counts."""

    billed: bool = True


class Budget:
    """Raises `StartupError` where the count cannot be kept."""

    def __init__(
        self, path: Path, cap: int, clock: Callable[[], datetime] = lambda: datetime.now(UTC)
    ) -> None:
        self._path = path
        self._cap = cap
        self._clock = clock
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._change(0)
        except (OSError, ToolFailed) as error:
            raise StartupError(f"what was spent cannot be counted in {path}: {error}") from None

    @contextmanager
    def spend(self) -> Generator[Spent]:
        """Count one request before it is sent; taken back if it turns out not to be billed.

        A request that breaks off stays counted: who knows what the other side did. Raises
        `ToolFailed` where the cap is reached.
        """
        self._change(1)
        spent = Spent()
        yield spent
        if not spent.billed:
            self._change(-1)

    def _change(self, by: int) -> int:
        month = self._clock().strftime("%Y-%m")
        handle = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        with os.fdopen(handle, "r+", encoding="utf-8") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            count = self._read(file, month) + by
            if by > 0 and count > self._cap:
                raise ToolFailed(
                    f"this month's {self._cap} searches that may cost money are used up; the owner "
                    "may raise brave_monthly_cap (PUNA_BRAVE_MONTHLY_CAP)"
                )
            file.seek(0)
            file.truncate()
            json.dump({"month": month, "requests": max(0, count)}, file)
        return count

    def _read(self, file: TextIO, month: str) -> int:
        text = file.read()
        if not text:
            return 0
        try:
            kept: Any = json.loads(text)
            then, count = kept["month"], kept["requests"]
        except (ValueError, KeyError, TypeError):
            then = count = None
        if not isinstance(then, str) or type(count) is not int:
            raise ToolFailed(f"the count in {self._path} cannot be read; mend or remove the file")
        return count if then == month else 0
