"""A plan -> one ragged batch -> sampled ids. It knows no waiting and no pages' owners.

What differs between models and devices ends here: the scheduler above sees numbers, the model below
sees a `Batch`. Beside the model one thread of its own asks the grammars for their masks.
"""

from __future__ import annotations

from collections.abc import Generator
from collections.abc import Sequence as Ordered
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from typing import Any, Protocol

import torch
from torch import Tensor

from puna.engine.images import ImageStore
from puna.engine.sampler import Row, sample
from puna.engine.scheduler import Work
from puna.engine.sequence import Constraint, Emitted, EncodableImage, Sequence
from puna.llama.batch import Batch, ImageView, Span

EncodedImage = tuple[tuple[Tensor, ...], tuple[Tensor, ...]]


class Model(Protocol):
    """What the runner needs of `Llama`; `cache` and images are the model's own affair."""

    def forward(self, batch: Batch, cache: Any) -> Tensor:
        """[k, vocab] fp32, a row for each of `batch.logit_rows`."""
        ...

    def encode_image(self, image: Any) -> EncodedImage:
        """Cross-attention keys and values, one of each per layer."""
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
    def encode(self, image: EncodableImage) -> EncodedImage:
        return self.model.encode_image(image)

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
        token_ids: list[int] = []
        positions: list[int] = []
        spans: list[Span] = []
        logit_rows: list[int] = []
        for work in plan:
            sequence, start = work.sequence, len(token_ids)
            first, end = sequence.computed, sequence.computed + work.rows
            token_ids.extend(sequence.tokens[first : first + work.count])
            token_ids.extend(work.drafts)
            positions.extend(range(first, end))
            spans.append(
                Span(
                    start=start,
                    length=work.rows,
                    context=first,
                    pages=self._page_numbers(sequence),
                    images=self._views(sequence, first, end),
                )
            )
            if work.samples:
                logit_rows.extend(range(start + work.count - 1, start + work.rows))
        return Batch(
            token_ids=self._tensor(token_ids),
            positions=self._tensor(positions),
            spans=tuple(spans),
            logit_rows=self._tensor(logit_rows),
        )

    def _views(self, sequence: Sequence, first: int, end: int) -> tuple[ImageView, ...]:
        views: list[ImageView] = []
        for seen in sequence.images:
            if seen.first < end and first < seen.end:
                keys, values = self.images.get(seen.image)
                views.append(ImageView(keys, values, seen.first, seen.end))
        return tuple(views)

    def _page_numbers(self, sequence: Sequence) -> Tensor:
        # a copy: the sequence's own array grows, and a view of it must not
        return torch.frombuffer(sequence.pages, dtype=torch.int64).clone().to(self.device)

    def _tensor(self, numbers: list[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.device)


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
