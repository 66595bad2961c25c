"""A model whose next token is a hash of what really lies in the cache's pages.

Any mix-up of pages, images, positions, kinds of rows or batch company changes its answer, so
comparing with `expected`, which knows no pages and no batch, finds it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from puna.engine.engine import Engine, EngineLimits
from puna.engine.pages import PagePool
from puna.engine.sampler import Row, sample
from puna.engine.sequence import Emitted, Ended, Outcome, Prompt, SamplingParams, seen_images
from puna.errors import PunaError
from puna.kernels import Source
from puna.llama.batch import Batch, EncodedImage

VOCAB = 97
IMAGE = 97  # as in the real ones: an id that the head cannot produce
MASK = (1 << 61) - 1


def mix(*numbers: int) -> int:
    state = 0x9E3779B97F4A7C15
    for number in numbers:
        state = ((state ^ number) * 0xBF58476D1CE4E5B9 + 0x94D049BB133111EB) & MASK
        state ^= state >> 29
    return state


@dataclass(frozen=True)
class ToyImage:
    content: int
    num_tiles: int = 1
    broken: bool = False

    @property
    def digest(self) -> bytes:
        return self.content.to_bytes(32, "little")


class ToyCache:
    def __init__(self, num_pages: int, page_size: int) -> None:
        self.cells = [-1] * (num_pages * page_size)


class ToyModel:
    """`poison`: a token whose row makes its logits NaN; `bomb`: one that makes forward raise;
    `pieces`: of work that an image's encoding is."""

    poison: int | None = None
    bomb: int | None = None
    pieces = 1

    def __init__(self, page_size: int) -> None:
        self.page_size = page_size
        self.rows_per_step: list[list[tuple[int, int]]] = []  # (context, length) of each span
        self.encoded: list[int] = []

    def encoding(self, image: ToyImage) -> Iterator[EncodedImage | None]:
        for _ in range(self.pieces - 1):
            yield None
        self.encoded.append(image.content)
        if image.broken:
            raise RuntimeError("this image cannot be encoded")
        yield (Source(torch.empty(0), torch.empty(0), image.content),)

    def forward(self, batch: Batch, cache: ToyCache) -> Tensor:
        self.rows_per_step.append([(span.context, span.length) for span in batch.spans])
        ids, positions = batch.token_ids.tolist(), batch.positions.tolist()
        if self.bomb is not None and self.bomb in ids:
            raise RuntimeError("boom\nwith a second line")
        states: dict[int, int] = {}
        # as in a layer, all rows are in the cache before any is read
        for span in sorted(batch.spans, key=lambda span: span.context):
            pages, size = span.pages.tolist(), self.page_size
            state = 0
            for p in range(span.context + span.length):
                slot = pages[p // size] * size + p % size
                if p >= span.context:
                    row = span.start + p - span.context
                    assert positions[row] == p
                    images = [
                        view.sources[0].tokens for view in span.images if view.first <= p < view.end
                    ]
                    cache.cells[slot] = mix(state, ids[row], p, row < batch.exact, *images)
                assert cache.cells[slot] >= 0, "a cell was read before it was written"
                state = mix(state, cache.cells[slot])
                if p >= span.context:
                    states[span.start + p - span.context] = state
        wanted = batch.logit_rows.tolist()
        logits = [toy_logits(states[row]) for row in wanted]
        for row, logit in zip(wanted, logits, strict=True):
            if ids[row] == self.poison:
                logit[3] = torch.nan
        return torch.stack(logits) if logits else torch.empty(0, VOCAB)


def toy_logits(state: int) -> Tensor:
    return torch.randn(VOCAB, generator=torch.Generator().manual_seed(state)) * 2


def expected(prompt: Prompt, sampling: SamplingParams, said: range = range(0)) -> list[int]:
    """What the engine must answer, computed without engine, batch and cache. `said`: where the
    prompt's rows are found in the cache as another's answer left them."""
    tokens, answer, state = list(prompt.token_ids), list[int](), 0
    images = seen_images(prompt)
    for p in range(len(tokens) + sampling.max_tokens):
        visible = [seen.image.content for seen in images if seen.first <= p < seen.end]
        exact = p >= len(prompt.token_ids) or p in said
        state = mix(state, mix(state, tokens[p], p, exact, *visible))
        if p + 1 < len(tokens):
            continue
        row = Row(sampling, sampling.seed or 0, Counter(answer), len(answer))
        [chosen] = sample(toy_logits(state)[None], [row])
        assert not isinstance(chosen, Exception)
        [choice] = chosen
        answer.append(choice.token)
        tokens.append(choice.token)
        if choice.token in sampling.stop_ids or len(answer) == sampling.max_tokens:
            break
    return answer


class Listener:
    """An outbox that remembers."""

    def __init__(self) -> None:
        self.outcomes: list[Outcome] = []

    def __call__(self, outcome: Outcome) -> None:
        assert not self.ended, "something was said after the end"
        self.outcomes.append(outcome)

    @property
    def tokens(self) -> list[int]:
        return [o.token for o in self.outcomes if isinstance(o, Emitted)]

    @property
    def ended(self) -> bool:
        return bool(self.outcomes) and isinstance(self.outcomes[-1], (Ended, PunaError))

    @property
    def end(self) -> Ended:
        assert isinstance(self.outcomes[-1], Ended), self.outcomes[-1]
        return self.outcomes[-1]

    @property
    def error(self) -> PunaError:
        assert isinstance(self.outcomes[-1], PunaError), self.outcomes[-1]
        return self.outcomes[-1]


def toy_engine(
    *, num_pages: int = 64, page_size: int = 4, context: int = 10_000, image_memory: int = 8,
    max_batch_tokens: int = 32, max_sequences: int = 8, max_encodes: int = 1, max_queue: int = 256,
    max_prompt_tokens: int | None = None, clock: Callable[[], float] = lambda: 0.0,
    **options: Any,
) -> tuple[Engine, ToyModel]:  # fmt: skip
    """Not started: the test steps. An image takes one byte a tile, and nothing takes time."""
    model = ToyModel(page_size)
    limits = EngineLimits(
        context=context,
        num_pages=num_pages,
        page_size=page_size,
        image_memory=image_memory,
        bytes_per_tile=1,
        max_batch_tokens=max_batch_tokens,
        max_prompt_tokens=max_prompt_tokens,
        max_sequences=max_sequences,
        max_encodes=max_encodes,
        max_queue=max_queue,
    )
    return Engine(model, ToyCache(num_pages, page_size), limits, clock=clock, **options), model


def run(engine: Engine, *, checked: bool = True) -> None:
    """Steps until there is nothing to do, looking at the books after each step."""
    while engine.step():
        if checked:
            check_books(engine)
    if checked:
        check_books(engine)


def check_books(engine: Engine) -> None:
    """No page lost, none twice; what is held is held by whom the books say."""
    scheduler, pool = engine.scheduler, engine.pages
    check_pool(pool)
    holders = [0] * pool.num_pages
    for sequence in scheduler.running:
        assert len(set(sequence.pages)) == len(sequence.pages)
        assert len(sequence.pages) * pool.page_size >= sequence.computed
        assert sequence.computed < len(sequence.tokens)
        for page in sequence.pages:
            holders[page] += 1
    assert holders == pool.refs
    for sequence in scheduler.waiting:
        assert not sequence.pages
        assert not sequence.held_images
        assert not sequence.computed
    numbers = [s.number for s in scheduler.running]
    assert numbers == sorted(numbers)
    assert len(numbers) <= scheduler.max_running
    numbers += [s.number for s in scheduler.waiting]
    assert len(numbers) == len(set(numbers))

    images = engine.images
    assert images.used == sum(kept.nbytes for kept in images._kept.values()) <= images.capacity
    holds: dict[bytes, int] = {}
    for sequence in scheduler.running:
        for index in sequence.held_images:
            digest = sequence.images[index].image.digest
            holds[digest] = holds.get(digest, 0) + 1
    assert holds == {digest: kept.refs for digest, kept in images._kept.items() if kept.refs}


def check_pool(pool: PagePool) -> None:
    free, idle = list(pool._free), list(pool._idle)
    held = [page for page, refs in enumerate(pool.refs) if refs]
    assert sorted(free + idle + held) == list(range(pool.num_pages))
    assert {page: key for key, page in pool._page_of.items()} == pool._key_of
    assert not set(free) & set(pool._key_of)
    assert set(idle) <= set(pool._key_of)
