"""When the next request may go, as a service's `X-RateLimit-*` headers say.

It knows the headers and a clock. Every caller takes a turn of its own, so that calls at once are
spread out instead of refused; nobody waits for longer than `MAX_WAIT`.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

from puna.errors import ToolFailed

MAX_WAIT = 10.0
MONTH = 2592000.0


class Throttle:
    """Until the first answer it keeps to one request a second, the least that any plan allows."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._interval = 1.0
        self._next = 0.0

    def turn(self) -> float:
        """Take the next turn; the seconds to wait for it. Raises `ToolFailed` if they are many."""
        now = self._clock()
        wait = max(0.0, self._next - now)
        if wait > MAX_WAIT:
            raise ToolFailed(
                f"the plan's searches are used up for another {_spoken(wait)}; answer without them"
            )
        self._next = now + wait + self._interval
        return wait

    def learn(self, headers: Mapping[str, str], *, refused: bool = False) -> None:
        """Read the headers of an answer: a comma between windows, the shortest first.

        A limit of 0 is none: plans without a monthly quota say so.
        """
        now = self._clock()
        limits = _numbers(headers.get("x-ratelimit-limit", ""))
        remaining = _numbers(headers.get("x-ratelimit-remaining", ""))
        resets = _numbers(headers.get("x-ratelimit-reset", ""))
        windows = _windows(headers.get("x-ratelimit-policy", ""), len(limits))
        for index, (limit, window) in enumerate(zip(limits, windows, strict=False)):
            if limit <= 0:
                continue
            if index == 0:
                self._interval = window / limit
            if remaining[index : index + 1] == [0.0] and resets[index : index + 1]:
                self._next = max(self._next, now + resets[index])
        if refused:
            again = _numbers(headers.get("retry-after", "")) or [max(self._interval, 1.0)]
            self._next = max(self._next, now + again[0])


def _windows(policy: str, count: int) -> list[float]:
    """Seconds, from `1;w=1, 15000;w=2592000`."""
    given = [part.partition("w=")[2] for part in policy.split(",")] if policy else []
    read = [_numbers(each) for each in given]
    if len(read) == count and all(read):
        return [each[0] for each in read]
    return [1.0, *[MONTH] * count][:count]


def _numbers(text: str) -> list[float]:
    """The comma-separated numbers; none at all where one of them is none, or is below 0."""
    try:
        numbers = [float(part) for part in text.split(",")]
    except ValueError:
        return []
    return numbers if all(0 <= each < 1e9 for each in numbers) else []


def _spoken(seconds: float) -> str:
    for size, name in ((86400, "days"), (3600, "hours"), (60, "minutes")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} seconds"
