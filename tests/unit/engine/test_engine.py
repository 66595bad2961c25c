"""The engine against a model that notices every mix-up."""

from __future__ import annotations

import threading
import time
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from puna.engine.sequence import Emitted, Ended, Prompt, SamplingParams
from puna.errors import ContextTooLong, EngineFailed, InvalidImage, InvalidValue, Overloaded
from tests.unit.engine.toy import (
    IMAGE,
    VOCAB,
    Listener,
    ToyImage,
    check_books,
    expected,
    run,
    toy_engine,
)

slow = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.too_slow])


def greedy(max_tokens: int = 5, **fields: object) -> SamplingParams:
    return SamplingParams(max_tokens=max_tokens, temperature=0, **fields)  # pyright: ignore


def text(length: int, start: int = 0) -> Prompt:
    return Prompt(tuple((start + 7 * i) % VOCAB for i in range(length)))


@st.composite
def prompts(draw: st.DrawFn, max_length: int = 40) -> Prompt:
    """Few different tokens and images, so that beginnings are often shared."""
    ids = draw(st.lists(st.sampled_from([1, 2, IMAGE]), min_size=1, max_size=max_length))
    head = draw(st.integers(0, 12))
    ids = [5] * head + ids
    images = []
    for position, token in enumerate(ids):
        if token == IMAGE:
            if len(images) >= 5:
                ids[position] = 3
                continue
            content = draw(st.integers(1, 4))
            images.append((position, ToyImage(content, num_tiles=1 + content % 2)))
    return Prompt(tuple(ids), tuple(images))


@st.composite
def samplings(draw: st.DrawFn) -> SamplingParams:
    return SamplingParams(
        max_tokens=draw(st.integers(1, 12)),
        stop_ids=frozenset(draw(st.sets(st.integers(0, VOCAB - 1), max_size=3))),
        temperature=draw(st.sampled_from([0.0, 0.7, 1.5])),
        top_p=draw(st.sampled_from([1.0, 0.8])),
        top_k=draw(st.sampled_from([None, 5])),
        seed=draw(st.integers(0, 2**63)),
        frequency_penalty=draw(st.sampled_from([0.0, 0.5])),
        presence_penalty=draw(st.sampled_from([0.0, -1.0])),
    )


def test_an_answer_is_what_the_model_says_one_token_at_a_time() -> None:
    engine, _ = toy_engine()
    heard = Listener()
    engine.submit(text(10), greedy(20), heard)
    run(engine)
    assert heard.tokens == expected(text(10), greedy(20))
    assert heard.end == Ended("length")


def test_a_stop_id_is_emitted_and_ends_the_answer() -> None:
    whole = expected(text(10), greedy(20))
    engine, _ = toy_engine()
    heard = Listener()
    engine.submit(text(10), greedy(20, stop_ids=frozenset({whole[4]})), heard)
    run(engine)
    assert heard.tokens == whole[: whole.index(whole[4]) + 1]
    assert heard.end.reason == "stop"


@slow
@given(
    requests=st.lists(st.tuples(prompts(), samplings(), st.integers(0, 12)), max_size=8),
    num_pages=st.integers(16, 40),
    max_batch_tokens=st.integers(1, 40),
    max_prompt_tokens=st.none() | st.integers(1, 9),
    max_sequences=st.integers(1, 6),
    max_encodes=st.integers(1, 3),
    image_memory=st.integers(8, 12),
)
def test_answers_do_not_depend_on_company_memory_or_budgets(
    requests: list[tuple[Prompt, SamplingParams, int]], **limits: int
) -> None:
    engine, model = toy_engine(**limits)
    heard = [Listener() for _ in requests]
    arrivals = sorted(range(len(requests)), key=lambda i: requests[i][2])
    step = 0
    while arrivals or not engine.scheduler.is_idle:
        while arrivals and requests[arrivals[0]][2] <= step:
            i = arrivals.pop(0)
            engine.submit(requests[i][0], requests[i][1], heard[i])
        engine.step()
        check_books(engine)
        step += 1
    for (prompt, sampling, _), listener in zip(requests, heard, strict=True):
        assert listener.tokens == expected(prompt, sampling)
        assert isinstance(listener.outcomes[-1], Ended)
    for spans in model.rows_per_step:
        assert sum(length for _, length in spans) <= limits["max_batch_tokens"]
    assert engine.pages.held == 0
    assert engine.stats().finished == len(requests)


@slow
@given(
    requests=st.lists(st.tuples(prompts(), samplings()), min_size=2, max_size=8),
    fates=st.lists(st.tuples(st.integers(0, 20), st.integers(0, 7)), max_size=6),
    num_pages=st.integers(16, 30),
)
def test_cancelling_frees_everything_and_leaves_the_others_alone(
    requests: list[tuple[Prompt, SamplingParams]], fates: list[tuple[int, int]], num_pages: int
) -> None:
    engine, _ = toy_engine(num_pages=num_pages, max_batch_tokens=10, max_sequences=4)
    heard = [Listener() for _ in requests]
    numbers = [engine.submit(*asked, heard[i]) for i, asked in enumerate(requests)]
    silenced: dict[int, int] = {}
    step = 0
    while step <= 20 or not engine.scheduler.is_idle:
        for when, who in fates:
            if when == step and who < len(requests):
                engine.cancel(numbers[who])
                silenced.setdefault(who, len(heard[who].outcomes))
        engine.step()
        check_books(engine)
        step += 1
    for i, (request, listener) in enumerate(zip(requests, heard, strict=True)):
        if i in silenced:
            assert len(listener.outcomes) == silenced[i], "it went on after it was cancelled"
        else:
            assert listener.tokens == expected(*request)
    assert engine.pages.held == 0
    assert not any(kept.refs for kept in engine.images._kept.values())


def test_who_cancels_while_a_step_runs_hears_no_more_of_it() -> None:
    engine, model = toy_engine()
    heard, forward = Listener(), model.forward
    sequence = engine.submit(text(4), greedy(20), heard)
    engine.step()

    def impatient(*arguments: Any) -> Any:
        engine.cancel(sequence)
        return forward(*arguments)

    model.forward = impatient
    run(engine)
    assert len(heard.outcomes) == 1
    assert engine.pages.held == 0


def test_a_repeated_prompt_is_computed_once_but_for_its_last_page() -> None:
    engine, model = toy_engine()
    first, second = Listener(), Listener()
    engine.submit(text(18), greedy(), first)
    run(engine)
    sequence = engine.submit(text(18), greedy(), second)
    run(engine)
    assert second.tokens == first.tokens
    assert sequence.cached_tokens == 16
    assert model.rows_per_step[5:][0] == [(16, 2)]


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    engine, model = toy_engine()
    for _ in range(2):
        engine.submit(text(16), greedy(1), Listener())
        run(engine)
    assert model.rows_per_step == [[(0, 16)], [(12, 4)]]


def test_the_next_turn_of_a_chat_reuses_prompt_and_answer() -> None:
    engine, _ = toy_engine()
    first = Listener()
    engine.submit(text(9), greedy(8), first)
    run(engine)
    turn = Prompt((*text(9).token_ids, *first.tokens, 1, 2, 3))
    second = Listener()
    sequence = engine.submit(turn, greedy(3), second)
    run(engine)
    assert sequence.cached_tokens == 16  # 9 + 8 tokens, of which the last was never computed
    assert second.tokens == expected(turn, greedy(3), said=range(9, 16))


def test_simultaneous_answers_to_one_prompt_cost_one_prompt() -> None:
    engine, model = toy_engine(max_batch_tokens=8)
    heard = [Listener() for _ in range(4)]
    for i, listener in enumerate(heard):
        engine.submit(text(33), SamplingParams(6, seed=i), listener)
    run(engine)
    rows = sum(length for spans in model.rows_per_step for _, length in spans)
    assert rows == 33 + 3 * 1 + 4 * 5
    for i, listener in enumerate(heard):
        assert listener.tokens == expected(text(33), SamplingParams(6, seed=i))


def test_the_same_words_under_another_image_are_not_the_same_prefix() -> None:
    engine, _ = toy_engine()
    ids = (1, IMAGE, *range(2, 20))
    answers = []
    for content in (1, 2, 1):
        prompt = Prompt(ids, ((1, ToyImage(content)),))
        heard = Listener()
        sequence = engine.submit(prompt, greedy(), heard)
        run(engine)
        assert heard.tokens == expected(prompt, greedy())
        answers.append((heard.tokens, sequence.cached_tokens))
    assert answers[0][0] != answers[1][0]
    assert [cached for _, cached in answers] == [0, 0, 16]


def test_an_image_is_encoded_once_for_all_requests_and_turns() -> None:
    engine, model = toy_engine()
    for end in (8, 12, 16):
        for _ in range(2):
            prompt = Prompt((1, IMAGE, *range(2, end)), ((1, ToyImage(7)),))
            engine.submit(prompt, greedy(), Listener())
    run(engine)
    assert model.encoded == [7]
    assert engine.stats().images_encoded == 1


def test_an_image_that_no_row_to_come_sees_is_let_go() -> None:
    engine, model = toy_engine(image_memory=1)
    ids = (IMAGE, 1, 2, IMAGE, 3, 4, IMAGE, 5)
    prompt = Prompt(ids, tuple((p, ToyImage(p + 1)) for p in (0, 3, 6)))
    heard = Listener()
    engine.submit(prompt, greedy(), heard)
    run(engine)
    assert heard.tokens == expected(prompt, greedy())
    assert model.encoded == [1, 4, 7]


def test_adjacent_images_that_never_fit_together_are_refused_with_both_numbers() -> None:
    engine, _ = toy_engine(image_memory=2)
    prompt = Prompt((IMAGE,) * 3 + (1,), tuple((p, ToyImage(p + 1)) for p in range(3)))
    with pytest.raises(InvalidImage, match=r"3 bytes.* 2 are set aside"):
        engine.submit(prompt, greedy(), Listener())


def test_encoding_many_images_lets_a_request_with_one_go_ahead() -> None:
    engine, model = toy_engine(image_memory=40)
    many = Prompt((IMAGE,) * 16 + (1,), tuple((p, ToyImage(p + 1)) for p in range(16)))
    one = Prompt((IMAGE, 1), ((0, ToyImage(99)),))
    engine.submit(many, greedy(), Listener())
    engine.step()
    engine.submit(one, greedy(), Listener())
    run(engine)
    assert model.encoded.index(99) <= 2


def test_a_stream_of_requests_with_one_image_does_not_starve_one_with_many() -> None:
    engine, _ = toy_engine(image_memory=100, max_sequences=8)
    many = Prompt((IMAGE,) * 10 + (1,), tuple((p, ToyImage(p + 1)) for p in range(10)))
    heard = Listener()
    engine.submit(many, greedy(1), heard)
    for step in range(8 * 10):
        one = Prompt((IMAGE, 1), ((0, ToyImage(100 + step)),))
        engine.submit(one, greedy(1), Listener())
        engine.step()
    assert heard.ended, "an image each round of the eight that run"


def test_nobody_loses_an_image_to_one_that_cannot_have_enough_all_the_same() -> None:
    engine, _ = toy_engine(image_memory=8)

    def with_tiles(content: int, tiles: int, count: int) -> tuple[Prompt, SamplingParams]:
        return Prompt((IMAGE, content), ((0, ToyImage(content, num_tiles=tiles)),)), greedy(count)

    engine.submit(*with_tiles(1, 5, 40), Listener())
    engine.step()
    engine.submit(*with_tiles(2, 4, 5), Listener())  # must wait for the first
    newest = Listener()
    engine.submit(*with_tiles(3, 3, 5), newest)
    for _ in range(8):
        engine.step()
    assert newest.ended
    assert engine.stats().preemptions == 0
    run(engine)
    assert engine.stats().finished == 3


def test_text_goes_on_while_images_are_encoded_at_most_so_many_a_step() -> None:
    engine, model = toy_engine(max_encodes=2, image_memory=40)
    talker = Listener()
    engine.submit(text(3), greedy(30), talker)
    engine.step()
    many = Prompt((IMAGE,) * 16 + (1,), tuple((p, ToyImage(p + 1)) for p in range(16)))
    engine.submit(many, greedy(), Listener())
    for step in range(1, 9):
        engine.step()
        assert len(model.encoded) == 2 * step
        assert len(talker.tokens) == 1 + step
    run(engine)


def test_text_goes_on_between_the_pieces_of_an_encoding() -> None:
    engine, model = toy_engine(image_memory=40)
    model.pieces = 10
    talker = Listener()
    engine.submit(text(3), greedy(30), talker)
    engine.step()
    looker = Listener()
    engine.submit(Prompt((IMAGE, 1), ((0, ToyImage(7)),)), greedy(), looker)
    for step in range(1, 10):
        engine.step()
        assert not model.encoded
        assert len(talker.tokens) == 1 + step
    engine.step()
    assert model.encoded == [7]
    run(engine)
    assert looker.ended


def test_an_encoding_that_nobody_waits_for_any_more_is_dropped() -> None:
    engine, model = toy_engine(image_memory=40)
    model.pieces = 3
    gone = engine.submit(Prompt((IMAGE, 1), ((0, ToyImage(7)),)), greedy(), Listener())
    engine.step()
    engine.cancel(gone)
    other = Listener()
    engine.submit(Prompt((IMAGE, 1), ((0, ToyImage(8)),)), greedy(), other)
    run(engine)
    assert model.encoded == [8]
    assert other.ended


def test_a_short_prompt_does_not_wait_for_a_long_one() -> None:
    engine, _ = toy_engine(num_pages=600, max_batch_tokens=32)
    engine.submit(text(2000), greedy(), Listener())
    engine.step()
    short = Listener()
    engine.submit(text(16, start=3), greedy(), short)
    engine.step()
    assert short.tokens, "one step is enough for 16 tokens of 32 rows"


def test_prompts_take_few_rows_while_someone_generates_and_all_when_nobody_does() -> None:
    engine, model = toy_engine(num_pages=600, max_batch_tokens=32, max_prompt_tokens=5)
    for first in range(2):
        engine.submit(text(100, start=first), greedy(30), Listener())

    def rows() -> int:
        engine.step()
        return sum(length for _, length in model.rows_per_step[-1])

    assert [rows() for _ in range(3)] == [32] * 3
    talker = Listener()
    engine.submit(text(2, start=7), greedy(60), talker)
    engine.step()
    assert len(talker.tokens) == 1
    assert [rows() for _ in range(8)] == [1 + 5] * 8
    assert len(talker.tokens) == 9
    run(engine)


def test_a_stream_of_short_prompts_does_not_starve_a_long_one() -> None:
    engine, _ = toy_engine(num_pages=600, max_batch_tokens=32, max_sequences=4)
    long = Listener()
    engine.submit(text(1500), greedy(1), long)
    for step in range(120):
        if long.ended:
            break
        engine.submit(Prompt((step % VOCAB, 5, 9, *range(25))), greedy(3), Listener())
        engine.step()
    assert long.ended, "it has half of the rows: about 100 steps"


def test_who_generates_gets_a_token_in_every_step_whatever_is_prefilled() -> None:
    engine, _ = toy_engine(num_pages=600, max_batch_tokens=16)
    talkers = [Listener() for _ in range(4)]
    for i, talker in enumerate(talkers):
        engine.submit(text(2, start=i), greedy(50), talker)
    engine.step()
    for i in range(3):
        engine.submit(text(500, start=10 + i), greedy(), Listener())
    for step in range(1, 40):
        engine.step()
        assert [len(talker.tokens) for talker in talkers] == [1 + step] * 4


def test_when_memory_runs_out_the_newest_waits_and_nobody_fails() -> None:
    engine, _ = toy_engine(num_pages=16, max_sequences=8)
    asked = [(text(6, start=i), greedy(40)) for i in range(6)]
    heard = [Listener() for _ in asked]
    for request, listener in zip(asked, heard, strict=True):
        engine.submit(*request, listener)
    ended: list[int] = []
    while engine.step():
        check_books(engine)
        ended += [i for i, listener in enumerate(heard) if listener.ended and i not in ended]
    assert engine.stats().preemptions > 0
    assert ended == list(range(6)), "the elder first"
    for request, listener in zip(asked, heard, strict=True):
        assert listener.tokens == expected(*request)


def test_a_request_that_can_never_fit_is_refused_with_both_numbers() -> None:
    engine, _ = toy_engine(num_pages=4, page_size=4)
    with pytest.raises(ContextTooLong, match=r"17 tokens .* context of 16") as caught:
        engine.submit(text(17), greedy(1), Listener())
    assert (caught.value.prompt_tokens, caught.value.limit) == (17, 16)
    heard = Listener()
    engine.submit(text(10), greedy(6), heard)
    run(engine)
    assert heard.end.reason == "length"


def test_an_empty_prompt_and_no_tokens_to_make_are_refused() -> None:
    engine, _ = toy_engine()
    with pytest.raises(InvalidValue, match="empty"):
        engine.submit(Prompt(()), greedy(), Listener())
    with pytest.raises(InvalidValue, match="max_tokens is 0"):
        engine.submit(text(3), greedy(0), Listener())


def test_a_full_queue_turns_requests_away_until_one_is_done() -> None:
    engine, _ = toy_engine(max_queue=2)
    numbers = [engine.submit(text(3), greedy(), Listener()) for _ in range(2)]
    with pytest.raises(Overloaded) as caught:
        engine.submit(text(3), greedy(), Listener())
    assert 1 <= caught.value.retry_after <= 60
    engine.cancel(numbers[0])
    engine.submit(text(3), greedy(), Listener())
    run(engine)
    engine.cancel(numbers[1])  # too late: it is done
    run(engine)
    stats = engine.stats()
    assert (stats.requests, stats.finished, stats.cancelled) == (3, 2, 1)


def test_logits_that_are_no_numbers_end_that_request_alone() -> None:
    engine, model = toy_engine()
    model.poison = 90
    sick, sound = Listener(), Listener()
    engine.submit(Prompt((1, 90)), greedy(), sick)
    engine.submit(Prompt((1, 2)), greedy(), sound)
    run(engine)
    assert isinstance(sick.error, EngineFailed)
    assert "not numbers" in sick.error.message
    assert sound.tokens == expected(Prompt((1, 2)), greedy())
    assert engine.pages.held == 0


def test_when_a_batch_raises_the_culprit_is_found_and_the_others_go_on() -> None:
    engine, model = toy_engine()
    sound = [Listener() for _ in range(3)]
    asked = [(text(5, start=i), greedy(8)) for i in range(3)]
    for request, listener in zip(asked, sound, strict=True):
        engine.submit(*request, listener)
    engine.step()
    model.bomb = 96
    sick = Listener()
    engine.submit(Prompt((3, 96, 4)), greedy(), sick)
    safe = [listener.tokens[-1] != 96 for listener in sound]
    run(engine)
    assert isinstance(sick.error, EngineFailed)
    assert "\n" not in sick.error.message
    assert all(safe)
    for request, listener in zip(asked, sound, strict=True):
        whole = expected(*request)
        if 96 in whole[:-1]:  # then it, too, fed the bomb
            assert isinstance(listener.error, EngineFailed)
        else:
            assert listener.tokens == whole


def test_an_image_that_cannot_be_encoded_ends_its_request_alone() -> None:
    engine, _ = toy_engine()
    sick, sound = Listener(), Listener()
    engine.submit(Prompt((1, IMAGE, 2), ((1, ToyImage(3, broken=True)),)), greedy(), sick)
    prompt = Prompt((1, IMAGE, 2), ((1, ToyImage(4)),))
    engine.submit(prompt, greedy(), sound)
    run(engine)
    assert isinstance(sick.error, EngineFailed)
    assert sound.tokens == expected(prompt, greedy())
    assert engine.pages.held == 0


def test_a_sampler_that_raises_ends_its_request_alone_and_only_the_log_says_how(
    caplog: pytest.LogCaptureFixture,
) -> None:
    engine, _ = toy_engine()
    sick, sound = Listener(), Listener()
    engine.submit(text(4), greedy(logit_bias={VOCAB + 1000: 1.0}), sick)
    engine.submit(text(5), greedy(), sound)
    run(engine)
    assert isinstance(sick.error, EngineFailed)
    assert sound.tokens == expected(text(5), greedy())
    assert "IndexError" not in sick.error.message
    assert "IndexError" in caplog.text


def test_a_listener_that_raises_is_treated_as_gone() -> None:
    engine, _ = toy_engine()

    def broken(outcome: object) -> None:
        raise RuntimeError("my event loop is closed")

    sound = Listener()
    engine.submit(text(4), greedy(50), broken)
    engine.submit(text(5), greedy(), sound)
    run(engine)
    assert sound.tokens == expected(text(5), greedy())
    assert engine.stats().cancelled == 1
    assert engine.pages.held == 0


def test_the_thread_answers_sleeps_when_idle_and_ends_when_closed() -> None:
    engine, _ = toy_engine()
    engine.start()
    try:
        done = threading.Event()
        heard = Listener()

        def outbox(outcome: object) -> None:
            heard(outcome)  # pyright: ignore
            if heard.ended:
                done.set()

        engine.submit(text(5), greedy(), outbox)
        assert done.wait(10)
        assert heard.tokens == expected(text(5), greedy())
        time.sleep(0.05)
        before = time.process_time()
        time.sleep(0.2)
        assert time.process_time() - before < 0.1, "an idle engine burns no processor time"
    finally:
        engine.close()
    assert not any(thread.name == "puna-engine" for thread in threading.enumerate())
    with pytest.raises(EngineFailed, match="shut down"):
        engine.submit(text(5), greedy(), Listener())


def test_closing_tells_those_who_wait() -> None:
    engine, model = toy_engine(num_pages=5000)
    started = threading.Event()
    model_forward = model.forward

    def forward(batch: object, cache: object) -> object:
        started.set()
        return model_forward(batch, cache)  # pyright: ignore

    model.forward = forward  # pyright: ignore
    heard = Listener()
    engine.start()
    engine.submit(text(5), greedy(9_000), heard)
    assert started.wait(10)
    engine.close()
    assert isinstance(heard.error, EngineFailed)
    assert "shutting down" in heard.error.message


def test_a_fault_of_the_engine_itself_is_told_and_survived() -> None:
    engine, _ = toy_engine()
    plan, broken = engine.scheduler.plan, [True]

    def faulty() -> object:
        if broken:
            broken.clear()
            engine.pages.allocate()  # a page that nobody will ever release
            raise AssertionError("the books are wrong")
        return plan()

    engine.scheduler.plan = faulty  # pyright: ignore
    told = threading.Event()
    outcomes: list[object] = []

    def outbox(outcome: object) -> None:
        outcomes.append(outcome)
        if not isinstance(outcome, Emitted):
            told.set()

    engine.start()
    try:
        engine.submit(text(5), greedy(), outbox)
        assert told.wait(10)
        assert isinstance(outcomes[-1], EngineFailed)
        assert "books" not in outcomes[-1].message
        told.clear()
        outcomes.clear()
        engine.submit(text(5), greedy(), outbox)
        assert told.wait(10)
        tokens = [o.token for o in outcomes if isinstance(o, Emitted)]
        assert tokens == expected(text(5), greedy())
    finally:
        engine.close()
    assert engine.pages.held == 0


def test_a_hundred_random_requests_from_many_threads_are_all_answered_right() -> None:
    import random

    chance = random.Random(7)
    engine, _ = toy_engine(num_pages=60, max_batch_tokens=24, max_sequences=6, image_memory=9)
    asked: list[tuple[Prompt, SamplingParams]] = []
    for _ in range(100):
        ids = [5] * chance.randrange(9) + [
            chance.randrange(3) for _ in range(chance.randrange(1, 60))
        ]
        images = []
        for _ in range(chance.randrange(3)):
            position = chance.randrange(len(ids))
            if ids[position] != IMAGE:
                ids[position] = IMAGE
                images.append((position, ToyImage(chance.randrange(1, 5))))
        params = SamplingParams(
            chance.randrange(1, 20), temperature=chance.choice([0, 1]), seed=chance.randrange(100)
        )
        asked.append((Prompt(tuple(ids), tuple(sorted(images, key=lambda p: p[0]))), params))
    heard = [Listener() for _ in asked]
    engine.start()
    try:

        def client(mine: range) -> None:
            for i in mine:
                engine.submit(*asked[i], heard[i])

        threads = [threading.Thread(target=client, args=(range(k, 100, 4),)) for k in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        deadline = time.monotonic() + 60
        while not all(listener.ended for listener in heard):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    finally:
        engine.close()
    for request, listener in zip(asked, heard, strict=True):
        assert listener.tokens == expected(*request)
    check_books(engine)
    assert engine.pages.held == 0


def test_who_does_not_fit_waits_instead_of_computing_in_vain() -> None:
    engine, _ = toy_engine(num_pages=20, page_size=4)
    elder, newer = Listener(), Listener()
    engine.submit(text(40), greedy(30), elder)
    engine.step()
    engine.step()
    engine.submit(text(60, start=3), greedy(2), newer)
    run(engine)
    stats = engine.stats()
    assert stats.preemptions == 0
    assert stats.tokens_computed == 40 + 29 + 60 + 1, "nothing was computed twice"
    assert newer.tokens == expected(text(60, start=3), greedy(2))


def test_a_small_request_goes_ahead_of_a_large_one_that_waits_for_memory() -> None:
    engine, _ = toy_engine(num_pages=20, page_size=4)
    engine.submit(text(40), greedy(30), Listener())
    engine.step()
    engine.step()
    large, small = Listener(), Listener()
    engine.submit(text(60, start=3), greedy(2), large)
    engine.submit(text(5, start=5), greedy(2), small)
    for _ in range(3):
        engine.step()
    assert small.ended
    assert not large.outcomes
    run(engine)
    assert large.ended
