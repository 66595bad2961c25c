"""How long a step of so many rows takes on this machine, learnt by watching; and from that, how
many rows of prompts a step may take while others wait for their next token.

It knows rows and seconds; no clock, no tokens and no model. Rows are not equally dear: the first
pays for reading the weights, those after it for arithmetic, and how much depends on the processor.
Rows of prompts may be far cheaper than those of answers, and are counted apart.

Beside answers, prompts get as many rows as make a step about twice as long as without them, that is
half of the time; where that is short, as many as fit into `QUICK`.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

QUICK = 0.15  # seconds: seven tokens a second come faster than people read
FLOOR = 16  # rows that prompts get together, whatever was measured: fewer cost almost as much

# The least of the last few: what disturbs a measurement only ever makes it longer.
_FEW = 3
_FRESH = 100  # steps after which a measurement should be repeated
_FORGOTTEN = 1000  # steps after which it is not believed any more


class Pace:
    """Seconds by rows. What was not measured lies on the line between its neighbours; beyond the
    most rows measured, further ones are thought free until they are tried."""

    def __init__(self) -> None:
        self._taken: dict[int, deque[float]] = {}
        self._when: dict[int, int] = {}  # the step of the last measurement, oldest first
        self._rows: list[int] = []  # those of `_taken`, in order
        self._steps = 0
        self._prompts = deque[tuple[int, float]](maxlen=_FEW)  # their rows, and seconds for them

    def took(self, rows: int, seconds: float, prompt_rows: int = 0) -> None:
        """A step of `rows` rows, and `prompt_rows` of prompts beside them, was measured."""
        if not prompt_rows:
            self._measured(rows, seconds)
            return
        plain, prompts = self.seconds(rows), self._seconds_of_prompts(prompt_rows)
        learns = self._prompts and rows
        if learns and rows > max(self._rows, default=0) and seconds - prompts > plain:
            self._measured(rows, seconds - prompts)
        elif learns and seconds < plain:  # both took less than was thought, in the same proportion
            self._measured(rows, seconds * plain / (plain + prompts))
        else:
            self._prompts.append((prompt_rows, max(0.0, seconds - plain)))

    def is_fresh(self, rows: int) -> bool:
        """Whether just so many rows were measured not long ago."""
        return rows in self._when and self._steps - self._when[rows] <= _FRESH

    def seconds(self, rows: int, prompt_rows: int = 0) -> float:
        """Of a step of so many rows, about; 0 when nothing was measured yet."""
        return self._seconds_of(rows) + self._seconds_of_prompts(prompt_rows)

    def prompt_rows(self, rows: int) -> int:
        """How many rows of prompts a step may take in which `rows` others generate. Never more than
        twice as many as lately: so what was never tried is approached."""
        plain = self.seconds(rows)
        more, tried = max(plain, QUICK - plain), max((n for n, _ in self._prompts), default=0)
        each = self._seconds_of_prompts(1)
        fitting = int(min(more / each, 2 * tried)) if each else 2 * tried
        return max(FLOOR, fitting)

    def _measured(self, rows: int, seconds: float) -> None:
        self._steps += 1
        fewest = self._rows[0] if self._rows else rows
        new = rows > fewest and rows not in self._taken
        if new and seconds > rows / fewest * self._seconds_of(fewest):
            # No row is dearer than the first; but memory that no step had touched before once made
            # a step of 17 rows take as long as 22 of one.
            return
        if rows not in self._taken:
            self._taken[rows] = deque(maxlen=_FEW)
            insort(self._rows, rows)
        self._taken[rows].append(seconds)
        self._when.pop(rows, None)
        self._when[rows] = self._steps
        oldest, when = next(iter(self._when.items()))
        if self._steps - when > _FORGOTTEN:
            del self._taken[oldest], self._when[oldest]
            self._rows.remove(oldest)

    def _seconds_of(self, rows: int) -> float:
        if not self._rows:
            return 0.0
        place = bisect_left(self._rows, rows)
        below, above = self._rows[max(0, place - 1)], self._rows[min(place, len(self._rows) - 1)]
        if place == 0 or place == len(self._rows) or above == rows:
            return min(self._taken[below if place == len(self._rows) else above])
        share = (rows - below) / (above - below)
        return (1 - share) * min(self._taken[below]) + share * min(self._taken[above])

    def _seconds_of_prompts(self, rows: int) -> float:
        """The median of the last few: here a disturbance errs either way."""
        each = sorted(seconds / rows for rows, seconds in self._prompts)
        return rows * each[len(each) // 2] if each else 0.0
