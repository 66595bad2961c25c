"""A small model drafts for a large one. With itself as its drafter a model guesses everything right
- unless what it wrote in the pages is wrong."""

from __future__ import annotations

import random
from typing import Any

import pytest
from torch import Tensor

from puna.engine.draft_model import DraftModel
from puna.engine.drafts import Guess, Repetition
from puna.engine.engine import Engine, EngineLimits
from puna.engine.sequence import Prompt, SamplingParams
from puna.engine.speculation import Speculation
from tests import tiny_models
from tests.unit.engine.toy import Listener, ToyImage, check_books, run

PAGES = 40
MODEL = tiny_models.tiny_llama(tiny_models.UNTIED, 1)
OTHER = tiny_models.tiny_llama(tiny_models.UNTIED, 2)


class Counted:
    """A model that counts its passes; `clock` is moved on by each."""

    def __init__(self, model: Any, seconds: float, clock: list[float]) -> None:
        self.model, self.seconds, self.clock = model, seconds, clock
        self.rows: list[int] = []
        self.broken = False

    def forward(self, batch: Any, cache: Any) -> Tensor:
        self.clock[0] += self.seconds
        self.rows.append(len(batch.token_ids))
        if self.broken:
            raise RuntimeError("boom")
        return self.model.forward(batch, cache)

    def encoding(self, image: Any) -> Any:
        return self.model.encoding(image)


@pytest.fixture
def nothing_repeats(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Repetition, "guess", lambda self, most: Guess((), ()))


def engine_with(
    drafting: Any, *, seconds: float = 0.01, num_pages: int = PAGES, **limits: Any
) -> tuple[Engine, Counted]:
    """`MODEL`'s engine; a pass of the drafting model takes `seconds`, one of its own 1."""
    clock = [0.0]
    small = Counted(drafting, seconds, clock)
    drafter = DraftModel(
        small,
        tiny_models.new_cache(drafting, num_pages),
        page_size=tiny_models.PAGE_SIZE,
        clock=lambda: clock[0],
        max_rows=64,
    )
    engine = Engine(
        Counted(MODEL, 1.0, clock),
        tiny_models.new_cache(MODEL, num_pages),
        EngineLimits(400, num_pages, tiny_models.PAGE_SIZE, max_batch_tokens=64, **limits),
        speculation=Speculation(drafter),
        clock=lambda: clock[0],
    )
    return engine, small


def plain_answers(asked: list[tuple[Prompt, SamplingParams]]) -> list[list[int]]:
    limits = EngineLimits(400, PAGES, tiny_models.PAGE_SIZE)
    engine = Engine(MODEL, tiny_models.new_cache(MODEL, PAGES), limits)
    return answers(engine, asked)


def answers(engine: Engine, asked: list[tuple[Prompt, SamplingParams]]) -> list[list[int]]:
    heard = [Listener() for _ in asked]
    for request, listener in zip(asked, heard, strict=True):
        engine.submit(*request, listener)
    run(engine)
    return [listener.tokens for listener in heard]


def prompt(length: int, seed: int = 0) -> Prompt:
    return Prompt(tuple(random.Random(seed).choices(range(300), k=length)))


def greedy(max_tokens: int) -> SamplingParams:
    return SamplingParams(max_tokens, temperature=0)


@pytest.mark.parametrize("drafting", [MODEL, OTHER], ids=["itself", "another"])
@pytest.mark.parametrize("num_pages", [PAGES, 10], ids=["room", "little room"])
def test_a_text_is_the_same_whoever_drafts_it_and_whoever_else_runs(
    drafting: Any, num_pages: int
) -> None:
    chance = random.Random(5)
    asked = [
        (
            prompt(chance.randrange(1, 60), seed),
            SamplingParams(
                chance.randrange(1, 60), temperature=chance.choice([0.0, 0.0, 1.0]), seed=seed,
                frequency_penalty=chance.choice([0.0, 0.3]),
            ),
        )
        for seed in range(8)
    ]  # fmt: skip
    engine, _ = engine_with(drafting, num_pages=num_pages)
    assert answers(engine, asked) == plain_answers(asked)
    if num_pages < PAGES:
        assert engine.stats().preemptions > 0
    assert engine.stats().tokens_drafted > 0


@pytest.mark.usefixtures("nothing_repeats")
def test_a_model_that_drafts_for_itself_is_always_right_and_saves_steps() -> None:
    engine, _ = engine_with(MODEL)
    [answer] = answers(engine, [(prompt(50), greedy(200))])
    stats = engine.stats()
    assert [answer] == plain_answers([(prompt(50), greedy(200))])
    assert stats.tokens_guessed == stats.tokens_drafted > 150
    assert stats.steps < 50


@pytest.mark.usefixtures("nothing_repeats")
def test_it_is_right_too_for_many_for_a_next_turn_and_for_those_that_lost_their_pages() -> None:
    asked = [(prompt(40, seed), greedy(60)) for seed in range(4)]
    engine, small = engine_with(MODEL, num_pages=16)
    first = answers(engine, asked)
    assert engine.stats().preemptions > 0
    turns = [
        (Prompt((*request.token_ids, *answer, 7, 8)), greedy(30))
        for (request, _), answer in zip(asked, first, strict=True)
    ]
    small.rows.clear()
    answers(engine, turns[-1:])
    assert max(small.rows) < 102 / 2, "what it wrote in the first turn it finds in the second"
    answers(engine, turns)
    assert engine.stats().tokens_guessed == engine.stats().tokens_drafted > 200


@pytest.mark.usefixtures("nothing_repeats")
def test_a_long_prompt_is_caught_up_with_in_passes_of_bounded_size() -> None:
    engine, small = engine_with(MODEL)
    answers(engine, [(prompt(300), greedy(40))])
    assert max(small.rows) <= 64
    assert engine.stats().tokens_guessed == engine.stats().tokens_drafted > 20


@pytest.mark.usefixtures("nothing_repeats")
def test_a_drafter_that_is_mostly_wrong_is_asked_no_more() -> None:
    engine, small = engine_with(OTHER, seconds=0.2)
    answers(engine, [(prompt(20), SamplingParams(300, temperature=1.0, seed=1))])
    assert engine.stats().tokens_guessed < 60
    assert engine.stats().tokens_drafted < 40
    assert small.clock[0] < 1.05 * 300


def test_a_drafter_that_fails_costs_no_text() -> None:
    engine, small = engine_with(MODEL)
    small.broken = True
    asked = [(prompt(20, seed), greedy(30)) for seed in range(2)]
    assert answers(engine, asked) == plain_answers(asked)
    assert len(small.rows) == 1
    assert answers(engine, asked) == plain_answers(asked)
    assert len(small.rows) == 1, "once is enough"
    check_books(engine)


def test_who_has_images_is_not_drafted_for() -> None:
    drafter = DraftModel(MODEL, None, page_size=16)
    engine, _ = engine_with(MODEL, image_memory=10)
    seeing = Prompt((1, 2), ((0, ToyImage(1)),))
    assert not drafter.can_draft(engine.submit(seeing, greedy(1), Listener()))
    assert drafter.can_draft(engine.submit(prompt(2), greedy(1), Listener()))
