"""How long a step of so many rows takes on this machine, learnt by watching.

It knows rows and seconds; no clock, no tokens and no model. Rows are not equally dear: the first
pays for reading the weights, those after it for arithmetic, and how much depends on the processor.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import deque

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

    def took(self, rows: int, seconds: float) -> None:
        """A step of `rows` rows was measured."""
        self._steps += 1
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

    def is_fresh(self, rows: int) -> bool:
        """Whether just so many rows were measured not long ago."""
        return rows in self._when and self._steps - self._when[rows] <= _FRESH

    def seconds(self, rows: int) -> float:
        """Of a step of `rows` rows, about; 0 when nothing was measured yet."""
        if not self._rows:
            return 0.0
        place = bisect_left(self._rows, rows)
        below, above = self._rows[max(0, place - 1)], self._rows[min(place, len(self._rows) - 1)]
        if place == 0 or place == len(self._rows) or above == rows:
            return min(self._taken[below if place == len(self._rows) else above])
        share = (rows - below) / (above - below)
        return (1 - share) * min(self._taken[below]) + share * min(self._taken[above])
