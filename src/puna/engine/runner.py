"""A plan -> one ragged batch -> sampled ids. It knows no waiting and no pages' owners.

What differs between models and devices ends here: the scheduler above sees numbers, the model below
sees a `Batch`. Beside the model one thread of its own asks the grammars for their masks.
"""

from __future__ import annotations

from array import array
from collections.abc import Generator, Iterator
from collections.abc import Sequence as Ordered
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from puna.engine.images import ImageStore
from puna.engine.sampler import Row, sample
from puna.engine.scheduler import Work
from puna.engine.sequence import Constraint, Emitted, EncodableImage, Sequence
from puna.llama.batch import Batch, EncodedImage, ImageView, Span


class Model(Protocol):
    """What the runner needs of `Llama`; `cache` and images are the model's own affair."""

    def forward(self, batch: Batch, cache: Any) -> Tensor:
        """[k, vocab] fp32, a row for each of `batch.logit_rows`."""
        ...

    def encoding(self, image: Any) -> Iterator[EncodedImage | None]:
        """What each cross-attention layer reads; None as often as there is more to do first."""
        ...


class Runner:
    """Runs `model` on `device`; `images` are where the scheduler says they are."""

    def __init__(
        self,
        model: Model,
        cache: Any,
        images: ImageStore[EncodedImage],
        device: torch.device | str = "cpu",
    ) -> None:
        self.model = model
        self.cache = cache
        self.images = images
        self.device = torch.device(device)
        self._aside = ThreadPoolExecutor(1, thread_name_prefix="puna-masks")

    @torch.inference_mode()
    def run(self, plan: Ordered[Work]) -> list[list[Emitted] | Exception]:
        """For each work the tokens that it chose, none if it has not caught up, or why it failed.
        Raises what the model raises: then nothing of the plan is done, and running it again is
        safe."""
        if not plan:
            return []
        with self._masks_meanwhile(plan):
            logits = self.model.forward(self._batch(plan), self.cache)
        chosen = iter(sample(logits, [_row(work) for work in plan if work.samples]))
        return [next(chosen) if work.samples else [] for work in plan]

    @torch.inference_mode()
    def encoding(self, image: EncodableImage) -> Iterator[EncodedImage | None]:
        """The model's; each `next` is a piece of the work."""
        yield from self.model.encoding(image)

    @contextmanager
    def _masks_meanwhile(self, plan: Ordered[Work]) -> Generator[None]:
        constraints = [work.sequence.constraint for work in plan if work.samples]
        asked = [constraint for constraint in constraints if constraint is not None]
        if not asked:
            yield
            return
        done = self._aside.submit(_ask, asked)
        try:
            yield
        finally:
            done.result()

    def _batch(self, plan: Ordered[Work]) -> Batch:
        parts: list[Part] = []
        for work in plan:
            sequence, first = work.sequence, work.sequence.computed
            known = sequence.tokens[first : first + work.count]
            parts.append(
                Part(
                    token_ids=[*known, *work.drafts],
                    context=first,
                    pages=sequence.pages,
                    prompt=sequence.prompt_length,
                    images=self._views(sequence, first, first + work.rows),
                    logits=1 + len(work.drafts) if work.samples else 0,
                )
            )
        return ragged(parts, self.device)

    def _views(self, sequence: Sequence, first: int, end: int) -> tuple[ImageView, ...]:
        views: list[ImageView] = []
        for seen in sequence.images:
            if seen.first < end and first < seen.end:
                views.append(ImageView(self.images.get(seen.image), seen.first, seen.end))
        return tuple(views)


@dataclass(frozen=True, slots=True)
class Part:
    """One sequence's rows of a batch: `token_ids`, after `context` tokens that the cache holds in
    `pages`. The first `prompt` tokens of the sequence are its prompt's. Of the last `logits` rows
    the logits are wanted."""

    token_ids: Ordered[int]
    context: int
    pages: array[int]
    prompt: int
    logits: int
    images: tuple[ImageView, ...] = ()

    @property
    def border(self) -> int:
        """How many of its rows are of the prompt."""
        return min(max(0, self.prompt - self.context), len(self.token_ids))


def ragged(parts: Ordered[Part], device: torch.device) -> Batch:
    """All rows end to end, those of prompts behind the others; logits in the order of `parts`."""
    generated = [(i, part.border, len(part.token_ids)) for i, part in enumerate(parts)]
    prompts = [(i, 0, part.border) for i, part in enumerate(parts)]
    # a copy of the pages: the sequence's own array grows, and a view of it must not
    pages = [torch.frombuffer(p.pages, dtype=torch.int64).clone().to(device) for p in parts]
    token_ids: list[int] = []
    positions: list[int] = []
    spans: list[Span] = []
    rows = [[0] * len(part.token_ids) for part in parts]  # where each one's stand
    for i, first, end in generated + prompts:
        if first == end:
            continue
        part, start = parts[i], len(token_ids)
        context = part.context + first
        token_ids.extend(part.token_ids[first:end])
        positions.extend(range(context, part.context + end))
        spans.append(Span(start, end - first, context, pages[i], part.images))
        rows[i][first:end] = range(start, len(token_ids))

    wanted = [
        row for part, own in zip(parts, rows, strict=True) for row in own[len(own) - part.logits :]
    ]

    def tensor(numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=device)

    return Batch(
        tensor(token_ids),
        tensor(positions),
        tuple(spans),
        tensor(wanted),
        exact=sum(end - first for _, first, end in generated),
    )


def _ask(constraints: Ordered[Constraint]) -> None:
    for constraint in constraints:
        with suppress(Exception):  # it is asked again by the sampler, who tells whom it concerns
            constraint.mask()


def _row(work: Work) -> Row:
    sequence = work.sequence
    return Row(
        sequence.sampling,
        sequence.seed,
        sequence.counts,
        sequence.generated,
        sequence.constraint,
        work.drafts,
    )
