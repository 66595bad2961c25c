"""A small model that drafts for a large one: 1B for 8B. It knows of neither requests nor sampling.

Its cache has pages of its own under the same numbers: page p holds, for the small model, the
tokens that page p of the large one's cache holds. So whatever gives, shares and takes pages does it
for both, and all that is left to know here is how far a sequence's pages are written. They catch up
with its tokens as the large model's do: a prompt, or what the large model chose instead.
"""

from __future__ import annotations

import logging
import time
from array import array
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Any
from weakref import WeakKeyDictionary

import torch

from puna.engine.pace import Pace
from puna.engine.runner import Model, Part, ragged
from puna.engine.sequence import Sequence

logger = logging.getLogger("puna.engine")


@dataclass(slots=True)
class _Written:
    """What of a sequence is in its `pages`: its tokens, up to `computed`; behind `known` of them
    `drafted`, which may have come true."""

    pages: array[int]
    computed: int
    named: int  # of its full pages, for how many it is known what they hold
    known: int = 0
    drafted: list[int] = field(default_factory=list[int])


class DraftModel:
    """Drafts greedily with `model`, at most `max_rows` rows a pass. `cache` has as many pages, of
    the same size, as the engine's; token ids are those of the engine's model."""

    def __init__(
        self,
        model: Model,
        cache: Any,
        *,
        page_size: int,
        device: str = "cpu",
        max_rows: int = 512,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._model, self._cache, self._device = model, cache, torch.device(device)
        self._page_size, self._max_rows, self._clock = page_size, max_rows, clock
        self._pace = Pace()
        self._failed = False
        self._written: WeakKeyDictionary[Sequence, _Written] = WeakKeyDictionary()
        self._keys: dict[int, bytes] = {}  # what full pages hold, by number

    def can_draft(self, sequence: Sequence) -> bool:
        return not self._failed and not sequence.images  # it has no eyes

    def seconds(self, sequences: int) -> float:
        return self._pace.seconds(sequences)

    @torch.inference_mode()
    def draft(self, wanted: Ordered[tuple[Sequence, int]]) -> list[Ordered[int]]:
        """So many tokens for each; none for who has not caught up yet, nor when the model fails:
        a text can do without."""
        try:
            return self._draft(wanted)
        except Exception as error:
            logger.error("the draft model failed, and drafts no more: %s", type(error).__name__)
            logger.debug("where it happened", exc_info=error)
            self._failed = True
            return [() for _ in wanted]

    def _draft(self, wanted: Ordered[tuple[Sequence, int]]) -> list[Ordered[int]]:
        drafts: list[Ordered[int]] = [() for _ in wanted]
        rows: list[tuple[int, list[int]]] = []  # whose, and which tokens
        left = self._max_rows
        for index, (sequence, _) in enumerate(wanted):
            written = self._caught_up(sequence)
            pending = sequence.tokens[written.computed :][:left]
            left -= len(pending)
            if pending:
                rows.append((index, pending))
        while rows:
            best = self._forward([(wanted[index][0], tokens) for index, tokens in rows])
            following: list[tuple[int, list[int]]] = []
            for (index, _), token in zip(rows, best, strict=True):
                sequence, length = wanted[index]
                written = self._written[sequence]
                if written.computed < len(sequence.tokens):
                    continue  # the next step's affair
                drafts[index] = [*drafts[index], token]
                if len(drafts[index]) < length:
                    following.append((index, [token]))
            rows = following
        for (sequence, _), draft in zip(wanted, drafts, strict=True):
            written = self._written[sequence]
            written.known, written.drafted = len(sequence.tokens), list(draft)
        return drafts

    def _caught_up(self, sequence: Sequence) -> _Written:
        """How far the pages hold what the sequence says now; its last token is computed anew."""
        written = self._written.get(sequence)
        if written is None or written.pages is not sequence.pages:
            # new, or it has lost its pages meanwhile: what others wrote there is known by its key
            full = 0
            for page, key in zip(sequence.pages, sequence.page_keys(), strict=False):
                if self._keys.get(page) != key:
                    break
                full += self._page_size
            written = self._written[sequence] = _Written(
                sequence.pages, full, full // self._page_size
            )
        true = written.known
        for token, drafted in zip(sequence.tokens[true:], written.drafted, strict=False):
            if token != drafted:
                break
            true += 1
        if written.known:
            written.computed = min(written.computed, true)
        keys = sequence.page_keys()
        for page in range(written.named, written.computed // self._page_size):
            self._keys[sequence.pages[page]] = keys[page]
        written.computed = min(written.computed, len(sequence.tokens) - 1)
        written.named = written.computed // self._page_size
        return written

    def _forward(self, rows: Ordered[tuple[Sequence, list[int]]]) -> list[int]:
        """The likeliest token after each one's rows, which are then written."""
        parts: list[Part] = []
        for sequence, tokens in rows:
            first = self._written[sequence].computed
            end = first + len(tokens)
            for page in range(first // self._page_size, -(-end // self._page_size)):
                self._keys.pop(sequence.pages[page], None)
            parts.append(Part(tokens, first, sequence.pages, sequence.prompt_length, logits=1))
        start = self._clock()
        logits = self._model.forward(ragged(parts, self._device), self._cache)
        best: Any = logits.argmax(-1)
        chosen: list[int] = best.tolist()
        if all(len(tokens) == 1 for _, tokens in rows):
            self._pace.took(len(rows), self._clock() - start)
        for sequence, tokens in rows:
            self._written[sequence].computed += len(tokens)
        return chosen
