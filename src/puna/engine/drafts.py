"""Guesses of what a sequence says next, and how often such guesses come true.

It knows token ids and counts. It knows no seconds and no rows: whether a guess is worth its rows is
speculation.py's to say. A wrong guess costs time and never changes a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

Kind: TypeAlias = str | int
"""What the chance of a guessed token depends on: for a repetition, for how many tokens it has gone
on already; else who guesses."""

LONGEST = 16  # tokens: what repeats for longer is no surer to go on

_BITS = 20  # a token id's, in the key of a pair
_WEIGHT = 2.0  # trials that the experience of others counts for
_WINDOW = 64.0  # trials after which what was seen counts half
_FADING = 0.99  # a step


@dataclass(frozen=True, slots=True)
class Guess:
    """`kinds` of the guessed tokens, and the tokens: None where to find them is work."""

    kinds: Sequence[Kind]
    tokens: Sequence[int] | None


class Repetition:
    """Where the last tokens of one sequence stood before, and what followed them there.

    The index catches up with the tokens, about a microsecond for each: nothing is ever scanned.
    """

    def __init__(self, tokens: Sequence[int]) -> None:
        self._tokens = tokens  # the sequence's own, which grow
        self._after: dict[int, int] = {}  # a token, or a pair: the latest place behind it
        self._indexed = 1
        self._distance = 0  # from a place to what it repeats, when last one was found
        self._catch_up()

    def guess(self, most: int) -> Guess:
        """What followed the longest repetition found: `most` tokens, or none."""
        self._catch_up()
        tokens, end = self._tokens, len(self._tokens)
        places = {
            end - self._distance,
            self._after.get(_pair(tokens[-2:]), end),
            self._after.get(tokens[-1], end),
        }
        length, place = max((self._repeated(place), place) for place in places)
        if not length:
            return Guess((), ())
        self._distance = period = end - place
        guessed = tokens[place : place + most]
        if period < most:
            guessed = [guessed[i % period] for i in range(most)]
        return Guess([min(length + i, LONGEST) for i in range(most)], guessed)

    def _repeated(self, place: int) -> int:
        """How many tokens before `place` are those at the end."""
        tokens, end = self._tokens, len(self._tokens)
        if place == end:
            return 0
        length = 0
        while length < min(LONGEST, place) and tokens[place - 1 - length] == tokens[-1 - length]:
            length += 1
        return length

    def _catch_up(self) -> None:
        tokens, after = self._tokens, self._after
        for place in range(self._indexed, len(tokens)):
            after[tokens[place - 1]] = place
            if place > 1:
                after[_pair(tokens[place - 2 : place])] = place
        self._indexed = max(1, len(tokens))


class Rates:
    """How often guesses of each kind came true; what is old counts less. `others` is where to begin
    from: without experience of one's own, theirs holds, and without theirs even chances."""

    def __init__(self, others: Rates | None = None) -> None:
        self._others = others
        self._seen: dict[Kind, tuple[float, float]] = {}  # true, tried

    def rate(self, kind: Kind) -> float:
        """A chance between 0 and 1."""
        true, tried = self._seen.get(kind, (0.0, 0.0))
        prior = self._others.rate(kind) if self._others else 0.5
        return (true + _WEIGHT * prior) / (tried + _WEIGHT)

    def learn(self, guess: Guess, chosen: Sequence[int]) -> None:
        """`chosen` came where `guess` was; what stands behind its first error is not judged."""
        for kind, guessed, token in zip(guess.kinds, guess.tokens or (), chosen, strict=False):
            self._count(kind, guessed == token)
            if guessed != token:
                return

    def fade(self, kind: Kind) -> None:
        """One more step without a look at `kind`, if none comes: what is seldom tried becomes
        uncertain again, and so is tried again."""
        if kind in self._seen:
            true, tried = self._seen[kind]
            self._seen[kind] = true * _FADING, tried * _FADING
        if self._others:
            self._others.fade(kind)

    def _count(self, kind: Kind, came_true: bool) -> None:
        true, tried = self._seen.get(kind, (0.0, 0.0))
        fading = 0.5 if tried >= _WINDOW else 1.0
        self._seen[kind] = (true * fading + came_true, tried * fading + 1)
        if self._others:
            self._others._count(kind, came_true)


def _pair(tokens: Sequence[int]) -> int:
    """Never equal to a token id; nor to another pair's."""
    return ~(tokens[0] << _BITS | tokens[-1])
