"""Which guesses of the next tokens are worth their rows in this step.

It joins what guesses (drafts.py) with what rows cost (pace.py), and knows no tensors and no pages.
Off and on, and how long a draft is, are one decision, made anew in every step:

A guess raises what its sequence may expect of the step, from 1 token to 1 + r1 + r1 r2 ..., where r
are the rates at which guesses of their kinds came true; and it makes the step longer for everyone.
Drafts are taken, the likeliest first, as far as

    sum over sequences of log(expected tokens) - sequences * log(seconds)

grows: for one sequence that is tokens a second, and for several nobody's gain outweighs what the
others lose by it. Rates are learnt from guesses that are not taken, too: what does not pay is found
out for nothing, and what begins to pay is noticed.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Protocol
from weakref import WeakKeyDictionary

from puna.engine.drafts import Guess, Rates, Repetition
from puna.engine.pace import Pace
from puna.engine.scheduler import Work
from puna.engine.sequence import Emitted, Sequence

MOST = 16  # tokens of a draft

_NOTHING = Guess((), ())


class Drafter(Protocol):
    """Guesses by computing, as a smaller model does."""

    def can_draft(self, sequence: Sequence) -> bool:
        """Whether `draft` has something to say of it."""
        ...

    def seconds(self, sequences: int) -> float:
        """What one token more takes, for so many sequences at once; 0 when that is not known."""
        ...

    def draft(self, wanted: Ordered[tuple[Sequence, int]]) -> list[Ordered[int]]:
        """So many tokens for each sequence, or fewer; it has pages for them."""
        ...


@dataclass(slots=True)
class _Known:
    """What is known of one sequence; `guess`: what it says in this step, perhaps."""

    repetition: Repetition
    rates: Rates
    guess: Guess = _NOTHING


class Speculation:
    """`drafts` before a step, `learn` after it."""

    def __init__(self, drafter: Drafter | None = None) -> None:
        self._drafter = drafter
        self._rates = Rates()
        self._known: WeakKeyDictionary[Sequence, _Known] = WeakKeyDictionary()

    def watch(self, sequence: Sequence) -> None:
        """To be called before anything else for it; in any thread, as it reads the whole prompt."""
        self._known[sequence] = _Known(Repetition(sequence.tokens), Rates(self._rates))

    def drafts(
        self, plan: Ordered[Work], pace: Pace, spare: int, room: Callable[[Work, int], int]
    ) -> list[Ordered[int]]:
        """For each work of the plan a draft, often none; together no more than `spare` tokens.
        `room(work, most)`: how many of `most` drafts have a place in its pages."""
        known = [self._known[work.sequence] for work in plan]
        for work, each in zip(plan, known, strict=True):
            guesses = work.samples and spare > 0
            each.guess = self._guess(work.sequence, each, min(spare, MOST)) if guesses else _NOTHING
        prompts = sum(work.prompt_rows for work in plan)
        rows = sum(work.rows for work in plan) - prompts
        lengths = self._worth(known, pace, rows, prompts, spare)
        self._compute(plan, known, lengths, room)
        return [
            each.guess.tokens[:length] if each.guess.tokens else ()
            for each, length in zip(known, lengths, strict=True)
        ]

    def learn(self, plan: Ordered[Work], chosen: Ordered[Ordered[Emitted] | Exception]) -> None:
        """What a step chose."""
        for work, choices in zip(plan, chosen, strict=True):
            known = self._known[work.sequence]
            if known.guess.tokens and not isinstance(choices, Exception):
                known.rates.learn(known.guess, [choice.token for choice in choices])

    def _guess(self, sequence: Sequence, known: _Known, most: int) -> Guess:
        forced = sequence.constraint.forced() if sequence.constraint else ()
        if forced:
            return Guess(("forced",) * len(forced), forced)
        found = known.repetition.guess(most)
        if self._drafter is None or not self._drafter.can_draft(sequence):
            return found
        known.rates.fade("model")  # unlike the others it is not judged where it is not asked
        if found.tokens and known.rates.rate(found.kinds[0]) >= known.rates.rate("model"):
            return found
        return Guess(("model",) * most, None)

    def _worth(
        self, known: Ordered[_Known], pace: Pace, rows: int, prompts: int, spare: int
    ) -> list[int]:
        """How many tokens of each guess to take: what the module's first lines say."""
        lengths = [0] * len(known)
        plain = pace.seconds(rows, prompts)
        if not plain or not (prompts or pace.is_fresh(rows)):
            return lengths  # without drafts first, to know what they are measured by
        gains: list[tuple[float, int]] = []
        for index, each in enumerate(known):
            expected = chance = 1.0
            for kind in each.guess.kinds:
                chance *= each.rates.rate(kind)
                gains.append((math.log1p(chance / expected), index))
                expected += chance
        gains.sort(reverse=True)  # those of one guess stay in order, as they only get smaller
        best = gain = 0.0
        worth = 0
        depths = [0] * len(known)  # of what has to be computed
        for taken, (more, index) in enumerate(gains[:spare], 1):
            gain += more
            depths[index] += known[index].guess.tokens is None
            seconds = max(plain, pace.seconds(rows + taken, prompts)) + self._drafting(depths)
            value = gain - len(known) * math.log(seconds / plain)
            if value > best:
                best, worth = value, taken
        for _, index in gains[:worth]:
            lengths[index] += 1
        return lengths

    def _drafting(self, depths: Ordered[int]) -> float:
        """Seconds to compute drafts of such lengths side by side."""
        if self._drafter is None:
            return 0.0
        return max(depths) * self._drafter.seconds(sum(depth > 0 for depth in depths))

    def _compute(
        self,
        plan: Ordered[Work],
        known: Ordered[_Known],
        lengths: Ordered[int],
        room: Callable[[Work, int], int],
    ) -> None:
        """Has those guesses drafted that are worth it and have no tokens yet."""
        asked: list[tuple[Sequence, int]] = []
        asking: list[_Known] = []
        for work, each, length in zip(plan, known, lengths, strict=True):
            if each.guess.tokens is None:
                each.guess = _NOTHING
                length = room(work, length)
                if length:
                    asked.append((work.sequence, length))
                    asking.append(each)
        if asked and self._drafter is not None:
            for each, tokens in zip(asking, self._drafter.draft(asked), strict=True):
                each.guess = Guess(("model",) * len(tokens), tokens)
