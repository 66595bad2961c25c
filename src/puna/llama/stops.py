"""Stop strings: text in, text out, up to the first one.

It knows no tokens and no messages. Nothing that may yet become a stop string goes out, so that none
is ever half told; however the text is cut, the outcome is the same.
"""

from __future__ import annotations

from collections.abc import Sequence

from puna.errors import InvalidValue


class StopStrings:
    """`feed` text until `hit`; then `finish`. The stop string itself is never given out.

    The one that is complete first counts; of several that end together, the longest.
    Raises InvalidValue for an empty stop string.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        if not all(stops):
            raise InvalidValue(
                "stop holds an empty string: expected text at which to stop", param="stop"
            )
        self.hit: str | None = None
        self._stops = [(stop, _borders(stop)) for stop in stops]
        self._matched = [0] * len(stops)
        self._held = ""

    def feed(self, text: str) -> str:
        """What is sure to be told, now that `text` has come."""
        if self.hit is not None or not self._stops:
            return "" if self.hit is not None else text
        for position, char in enumerate(text):
            self._advance(char)
            if self.hit is not None:
                told = self._held + text[: position + 1]
                self._held = ""
                return told[: -len(self.hit)]
        told = self._held + text
        sure = len(told) - max(self._matched)
        self._held = told[sure:]
        return told[:sure]

    def finish(self) -> str:
        """What was held back, now that nothing more comes."""
        held, self._held = self._held, ""
        return held

    def _advance(self, char: str) -> None:
        """One step of Knuth, Morris and Pratt's automaton for each stop string."""
        for index, (stop, borders) in enumerate(self._stops):
            matched = self._matched[index]
            while matched and stop[matched] != char:
                matched = borders[matched - 1]
            matched += stop[matched] == char
            self._matched[index] = matched
            if matched == len(stop) and len(stop) > len(self.hit or ""):
                self.hit = stop


def _borders(stop: str) -> list[int]:
    """For each prefix: the length of its longest proper part that is both its start and its end."""
    borders = [0] * len(stop)
    length = 0
    for position in range(1, len(stop)):
        while length and stop[position] != stop[length]:
            length = borders[length - 1]
        length += stop[position] == stop[length]
        borders[position] = length
    return borders
