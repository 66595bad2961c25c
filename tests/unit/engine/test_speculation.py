"""Guessing changes what a text costs, and nothing else."""

from __future__ import annotations

import random
from collections.abc import Sequence as Ordered
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import Tensor

from puna.engine.drafts import LONGEST, Guess, Rates, Repetition
from puna.engine.engine import Engine, EngineLimits
from puna.engine.pace import Pace
from puna.engine.scheduler import Work
from puna.engine.sequence import Ended, Prompt, SamplingParams
from puna.engine.speculation import MOST, Speculation
from puna.errors import EngineFailed
from tests import tiny_models
from tests.unit.engine.test_engine import greedy, prompts, text
from tests.unit.engine.toy import (
    VOCAB,
    Listener,
    check_books,
    expected,
    run,
    toy_engine,
)

slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])

FEW = dict.fromkeys(range(1, 4), 100.0)  # with this bias a text has three words, and repeats itself


class Clock:
    """Time that passes only when a step runs: as long as `seconds` says of its rows."""

    def __init__(self, seconds: Any) -> None:
        self.now, self.seconds = 0.0, seconds

    def __call__(self) -> float:
        return self.now

    def follow(self, engine: Engine) -> None:
        forward = engine._model.forward

        def timed(batch: Any, cache: Any) -> Tensor:
            self.now += self.seconds(len(batch.token_ids))
            return forward(batch, cache)

        engine._model.forward = timed  # pyright: ignore


class Oracle(Speculation):
    """Drafts what will come, with errors, beyond every end and never minding what it costs."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.chance = random.Random(seed)
        self.answers: dict[int, list[int]] = {}

    def drafts(self, plan: Ordered[Work], pace: Pace, spare: int, room: Any) -> list[Ordered[int]]:
        drafts: list[Ordered[int]] = []
        for work in plan:
            coming = self.answers[work.sequence.number][work.sequence.generated :]
            draft = [*coming, 1, 2, 3][: self.chance.randrange(9)]
            if draft and self.chance.random() < 0.5:
                draft[self.chance.randrange(len(draft))] = self.chance.randrange(VOCAB)
            drafts.append(draft)
        return drafts


@st.composite
def samplings(draw: st.DrawFn) -> SamplingParams:
    bias = draw(st.sampled_from([{}, FEW, {5: 3.0, 7: -100.0}]))
    return SamplingParams(
        max_tokens=draw(st.integers(1, 30)),
        stop_ids=frozenset(draw(st.sets(st.integers(0, VOCAB - 1), max_size=4))),
        temperature=draw(st.sampled_from([0.0, 0.7, 1.5])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        top_k=draw(st.sampled_from([None, 5])),
        seed=draw(st.integers(0, 2**63)),
        frequency_penalty=draw(st.sampled_from([0.0, 0.5, 30.0])),
        presence_penalty=draw(st.sampled_from([0.0, -1.0])),
        logit_bias=bias,
        logprobs=draw(st.booleans()),
        top_logprobs=2,
    )


@slow
@given(
    requests=st.lists(st.tuples(prompts(), samplings(), st.integers(0, 12)), max_size=6),
    seed=st.integers(0, 2**32),
    num_pages=st.integers(20, 40),
    max_batch_tokens=st.integers(1, 40),
    max_sequences=st.integers(1, 6),
    image_memory=st.integers(8, 12),
)
def test_drafts_true_and_false_change_no_text_whoever_else_runs(
    requests: list[tuple[Prompt, SamplingParams, int]], seed: int, **limits: int
) -> None:
    oracle = Oracle(seed)
    engine, model = toy_engine(speculation=oracle, **limits)
    heard = [Listener() for _ in requests]
    answers = [expected(prompt, sampling) for prompt, sampling, _ in requests]
    arrivals = sorted(range(len(requests)), key=lambda i: requests[i][2])
    step = 0
    while arrivals or not engine.scheduler.is_idle:
        while arrivals and requests[arrivals[0]][2] <= step:
            i = arrivals.pop(0)
            sequence = engine.submit(requests[i][0], requests[i][1], heard[i])
            oracle.answers[sequence.number] = answers[i]
        engine.step()
        check_books(engine)
        step += 1
    for answer, listener in zip(answers, heard, strict=True):
        assert listener.tokens == answer
        assert isinstance(listener.outcomes[-1], Ended)
    for spans in model.rows_per_step:
        assert sum(length for _, length in spans) <= limits["max_batch_tokens"]
    assert engine.pages.held == 0


@slow
@given(
    requests=st.lists(st.tuples(prompts(), samplings()), min_size=1, max_size=5),
    seconds=st.sampled_from([lambda rows: 1.0, lambda rows: 1 + 0.1 * rows, lambda rows: rows]),
)
def test_with_guesses_of_its_own_every_text_and_its_probabilities_are_the_same(
    requests: list[tuple[Prompt, SamplingParams]], seconds: Any
) -> None:
    clock = Clock(seconds)
    engine, _ = toy_engine(speculation=Speculation(), clock=clock)
    clock.follow(engine)
    plain, _ = toy_engine()
    heard, alone = [Listener() for _ in requests], [Listener() for _ in requests]
    for request, one, other in zip(requests, heard, alone, strict=True):
        engine.submit(*request, one)
        plain.submit(*request, other)
    run(engine)
    run(plain)
    for one, other in zip(heard, alone, strict=True):
        assert one.outcomes == other.outcomes


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("config", [tiny_models.UNTIED, tiny_models.TIED], ids=["untied", "tied"])
def test_a_llama_says_the_same_with_and_without(config: Any, seed: int) -> None:
    chance = random.Random(seed)
    model = tiny_models.tiny_llama(config, seed)
    asked = [
        (
            Prompt(tuple(chance.choices(range(1, 12), k=chance.randrange(1, 40)))),
            SamplingParams(
                max_tokens=60,
                temperature=chance.choice([0.0, 0.0, 0.3, 1.0]),
                top_p=chance.choice([1.0, 0.9]),
                frequency_penalty=chance.choice([0.0, 0.2]),
                seed=chance.randrange(99),
            ),
        )
        for _ in range(4)
    ]

    def answers(speculation: Speculation | None) -> tuple[list[list[int]], Engine]:
        limits = EngineLimits(200, 64, tiny_models.PAGE_SIZE)
        clock = Clock(lambda rows: 1.0)
        engine = Engine(
            model, tiny_models.new_cache(model), limits, speculation=speculation, clock=clock
        )
        clock.follow(engine)
        heard = [Listener() for _ in asked]
        for request, listener in zip(asked, heard, strict=True):
            engine.submit(*request, listener)
        run(engine)
        return [listener.tokens for listener in heard], engine

    forward = model.forward
    plain, _ = answers(None)
    model.forward = forward
    guessed, engine = answers(Speculation())
    assert guessed == plain
    assert engine.stats().tokens_guessed > 0


def test_a_text_that_repeats_itself_takes_fewer_steps_than_it_has_tokens() -> None:
    clock = Clock(lambda rows: 1 + 0.01 * rows)
    engine, _ = toy_engine(speculation=Speculation(), clock=clock)
    clock.follow(engine)
    heard = Listener()
    always = greedy(200, logit_bias={9: 1000.0})
    engine.submit(text(10), always, heard)
    run(engine)
    assert heard.tokens == [9] * 200
    assert engine.stats().steps < 40


def test_where_every_row_costs_as_much_as_the_first_guessing_soon_ends() -> None:
    clock = Clock(lambda rows: rows)
    engine, _ = toy_engine(num_pages=600, speculation=Speculation(), clock=clock)
    clock.follow(engine)
    # one of three words, drawn: a third of the guesses would be true
    heard = Listener()
    asked = SamplingParams(400, temperature=1.0, seed=4, logit_bias=FEW)
    engine.submit(text(10), asked, heard)
    run(engine, checked=False)
    assert heard.tokens == expected(text(10), asked)
    assert engine.stats().tokens_drafted <= 3 * MOST
    assert clock.now < 1.1 * 400


def test_where_guesses_never_come_true_they_are_not_made_however_cheap_they_are() -> None:
    clock = Clock(lambda rows: 1 + 0.05 * rows)
    engine, _ = toy_engine(num_pages=600, speculation=Speculation(), clock=clock)
    clock.follow(engine)
    heard = Listener()
    engine.submit(text(10), greedy(500), heard)  # a hash: nothing repeats but by chance
    run(engine, checked=False)
    assert engine.stats().tokens_drafted < 0.2 * 500
    assert clock.now < 1.08 * 500


def test_one_that_repeats_itself_does_not_slow_many_that_do_not() -> None:
    def rounds(others: int) -> tuple[float, int]:
        clock = Clock(lambda rows: 1 + 0.3 * rows)
        engine, _ = toy_engine(
            num_pages=900, max_sequences=16, speculation=Speculation(), clock=clock
        )
        clock.follow(engine)
        engine.submit(text(10), greedy(300, logit_bias={9: 1000.0}), Listener())
        for i in range(others):
            engine.submit(text(10, start=i), greedy(150), Listener())
        for _ in range(100):
            engine.step()
        return clock.now, engine.stats().tokens_drafted

    _, alone = rounds(0)
    seconds, drafted = rounds(15)
    assert alone > 100
    assert drafted < 0.2 * alone
    assert seconds < 1.1 * 100 * (1 + 0.3 * 16) + 10 * 16  # their prompts


def test_when_rows_become_dear_or_cheap_it_notices() -> None:
    cost = [0.001]
    clock = Clock(lambda rows: 1 + cost[0] * rows**2)
    engine, _ = toy_engine(num_pages=900, speculation=Speculation(), clock=clock)
    clock.follow(engine)
    engine.submit(text(10), greedy(3000, logit_bias={9: 1000.0}), Listener())

    def drafted(steps: int) -> float:
        before = engine.stats().tokens_drafted
        for _ in range(steps):
            engine.step()
        return (engine.stats().tokens_drafted - before) / steps

    assert drafted(60) > 10
    cost[0] = 5.0
    drafted(50)
    assert drafted(100) < 1
    cost[0] = 0.001
    assert drafted(1100) > 0.5, "after a thousand steps what was dear is tried again"


def test_rows_of_drafts_are_only_those_that_nobody_else_wants() -> None:
    engine, model = toy_engine(
        num_pages=600, max_batch_tokens=16, max_prompt_tokens=16, speculation=Speculation()
    )
    clock = Clock(lambda rows: 1.0)
    engine._clock = clock
    clock.follow(engine)
    engine.submit(text(10), greedy(400, logit_bias={9: 1000.0}), Listener())
    for _ in range(10):
        engine.step()
    assert any(length > 10 for [(_, length)] in model.rows_per_step[2:])
    engine.submit(text(1500), greedy(), Listener())
    engine.step()
    before = engine.stats().tokens_drafted
    for _ in range(50):
        engine.step()
        assert [length for _, length in model.rows_per_step[-1]] == [1, 15]
    assert engine.stats().tokens_drafted == before


def test_drafts_take_no_page_from_anyone() -> None:
    engine, _ = toy_engine(num_pages=16, page_size=4)
    first = engine.submit(text(14), greedy(30), Listener())
    second = engine.submit(text(30, start=5), greedy(16), Listener())
    engine.step()
    plan = engine.scheduler.plan()
    assert [work.sequence for work in plan] == [first, second]
    drafted = engine.scheduler.with_drafts(plan, [[1] * 16, [2] * 14])
    assert sum(len(sequence.pages) for sequence in (first, second)) <= 16
    assert engine.stats().preemptions == 0
    assert len(drafted[0].drafts) == 16
    assert 0 < len(drafted[1].drafts) < 14  # what its last page and the free ones hold


def test_a_draft_that_breaks_the_model_costs_a_step_and_no_request() -> None:
    oracle = Oracle(0)
    engine, model = toy_engine(speculation=oracle)
    heard = Listener()
    asked = (text(5), greedy(20, logit_bias={96: -1000.0}))
    sequence = engine.submit(*asked, heard)
    oracle.answers[sequence.number] = [96] * 100
    model.bomb = 96
    run(engine)
    assert heard.tokens == expected(*asked)


def test_a_row_that_fails_behind_true_drafts_ends_the_text_where_it_would_have_ended() -> None:
    def outcomes(speculation: Oracle | None) -> Listener:
        engine, model = toy_engine(speculation=speculation)
        heard = Listener()
        sequence = engine.submit(text(10), greedy(20), heard)
        if speculation:
            speculation.answers[sequence.number] = answer
        model.poison = answer[7]
        run(engine)
        return heard

    answer = expected(text(10), greedy(20))
    plain = outcomes(None)
    assert isinstance(plain.error, EngineFailed)
    for seed in range(5):
        assert outcomes(Oracle(seed)).tokens == plain.tokens


class Turns:
    """A grammar: after each token `t` only those that leave `t + 1` modulo three, of some
    hundred; every fifth is told before."""

    def __init__(self, told: bool = True) -> None:
        self.said: list[int] = []
        self.told = told

    def allowed(self) -> list[int]:
        if len(self.said) % 5 == 4:
            return [17]
        last = self.said[-1] if self.said else 0
        return [t for t in range(VOCAB) if t % 3 == (last + 1) % 3]

    def mask(self) -> Tensor:
        bits = torch.zeros(-(-VOCAB // 32) * 32, dtype=torch.int64)
        bits[self.allowed()] = 1
        words = (bits.view(-1, 32) << torch.arange(32)).sum(-1)
        return words.to(torch.int32)

    def accept(self, token: int) -> None:
        assert token in self.allowed()
        self.said.append(token)

    def forced(self) -> list[int]:
        return self.allowed() if self.told and len(self.said) % 5 == 4 else []


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_constraint_is_told_each_token_once_and_in_order(temperature: float) -> None:
    sampling = SamplingParams(60, temperature=temperature, seed=3, logit_bias=FEW)

    def answer(speculation: Speculation | None) -> tuple[list[int], int]:
        clock = Clock(lambda rows: 1.0)
        engine, _ = toy_engine(speculation=speculation, clock=clock)
        clock.follow(engine)
        heard, grammar = Listener(), Turns()
        engine.submit(text(10), sampling, heard, grammar)
        run(engine)
        assert grammar.said == heard.tokens
        return heard.tokens, engine.stats().steps

    plain, steps = answer(None)
    guessed, fewer = answer(Speculation())
    assert guessed == plain
    assert fewer <= steps - 10  # a fifth is forced, and repetition guesses some besides


# --- guesses --------------------------------------------------------------------------------------


def longest(tokens: list[int]) -> int:
    """How many of the last tokens stood together somewhere before, by looking everywhere."""
    found = [0]
    for place in range(1, len(tokens)):
        length = 0
        while length < place and tokens[place - 1 - length] == tokens[-1 - length]:
            length += 1
        found.append(length)
    return max(found)


@given(st.lists(st.integers(0, 3), min_size=1, max_size=60), st.integers(1, 20))
def test_a_guess_is_what_followed_an_equal_beginning(tokens: list[int], most: int) -> None:
    growing = tokens[:1]
    repetition = Repetition(growing)
    for token in tokens[1:]:
        repetition.guess(1)
        growing.append(token)
    guess = repetition.guess(most)
    if not guess.kinds:
        assert longest(tokens) == 0
        return
    length = guess.kinds[0]
    assert isinstance(length, int)
    assert min(longest(tokens), 2) <= length <= longest(tokens)
    assert guess.tokens is not None
    assert len(guess.tokens) == len(guess.kinds) == most
    assert list(guess.kinds) == [min(length + i, LONGEST) for i in range(most)]
    shown = tokens[-length:]
    assert any(
        tokens[place - length : place] == shown
        and (tokens[place:] + list(guess.tokens))[:most] == list(guess.tokens)
        for place in range(length, len(tokens))
    )


def test_a_repetition_is_followed_even_where_its_words_come_again_later() -> None:
    verse = [1, 2, 3, 4, 5, 6, 7]
    tokens = [*verse, 3, 4, 9, 3, 4, 9, 1, 2]
    repetition = Repetition(tokens)
    for token in verse[2:]:
        guess = repetition.guess(1)
        assert guess.tokens == [token]
        tokens.append(token)


def test_a_rate_begins_with_what_others_saw_and_learns_its_own() -> None:
    others = Rates()
    assert others.rate(3) == 0.5
    for _ in range(50):
        others.learn(Guess((3,), (1,)), [1])
    mine = Rates(others)
    assert mine.rate(3) > 0.9
    for _ in range(20):
        mine.learn(Guess((3,), (1,)), [2])
    assert mine.rate(3) < 0.2
    assert others.rate(4) == 0.5


def test_what_stands_behind_the_first_error_is_not_judged() -> None:
    rates = Rates()
    rates.learn(Guess(("a", "b", "c"), (1, 2, 3)), [1, 9, 3])
    assert rates.rate("a") > 0.5 > rates.rate("b")
    assert rates.rate("c") == 0.5
