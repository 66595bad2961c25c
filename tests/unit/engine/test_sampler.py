"""The sampler against naive twins and its own promises."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from puna.engine import sampler
from puna.engine.sampler import Row, sample, uniform
from puna.engine.sequence import Emitted, SamplingParams
from puna.errors import EngineFailed


def naive(logits: list[float], row: Row) -> int:
    """The definition, without a tensor."""
    sampling = row.sampling
    x = list(logits)
    for token, bias in sampling.logit_bias.items():
        x[token] += bias
    for token, count in row.counts.items():
        x[token] -= count * sampling.frequency_penalty + sampling.presence_penalty
    if sampling.temperature == 0:
        return x.index(max(x))
    order = sorted(range(len(x)), key=lambda i: -x[i])
    if sampling.top_k is not None:
        order = order[: sampling.top_k]
    weights = {i: math.exp((x[i] - max(x)) / sampling.temperature) for i in order}
    total = sum(weights.values())
    if sampling.top_p < 1:
        kept, mass = [], 0.0
        for i in order:
            if kept and mass >= sampling.top_p:
                break
            kept.append(i)
            mass += weights[i] / total
        order = kept
    elif sampling.top_k is None or sampling.top_k >= len(x):
        order = list(range(len(x)))
    target = uniform(row.seed, row.index) * sum(weights[i] for i in order)
    for i in order:
        target -= weights[i]
        if target < 0:
            return i
    return order[-1]


def random_logits(seed: int, rows: int = 1, vocab: int = 50, scale: float = 3) -> Tensor:
    return torch.randn(rows, vocab, generator=torch.Generator().manual_seed(seed)) * scale


def only(chosen: list[Emitted] | Exception) -> Emitted:
    assert not isinstance(chosen, Exception), chosen
    [choice] = chosen
    return choice


def token(chosen: list[Emitted] | Exception) -> int:
    return only(chosen).token


params = st.builds(
    SamplingParams,
    max_tokens=st.just(1),
    temperature=st.sampled_from([0.0, 1e-6, 0.3, 1.0, 2.0]),
    top_p=st.sampled_from([0.0, 0.1, 0.5, 0.9, 1.0]),
    top_k=st.sampled_from([None, 1, 3, 50]),
    frequency_penalty=st.sampled_from([0.0, 2.0, -0.7]),
    presence_penalty=st.sampled_from([0.0, 1.1]),
    logit_bias=st.dictionaries(st.integers(0, 49), st.floats(-100, 100, width=16), max_size=3),
)


@settings(deadline=None)
@given(
    seed=st.integers(0, 2**32),
    asked=st.lists(
        st.tuples(params, st.integers(0, 9), st.lists(st.integers(0, 49), max_size=9)), max_size=5
    ),
)
def test_every_row_gets_what_the_definition_says(
    seed: int, asked: list[tuple[SamplingParams, int, list[int]]]
) -> None:
    rows = [Row(p, s, Counter(said), len(said)) for p, s, said in asked]
    logits = random_logits(seed, len(rows))
    chosen = [token(choice) for choice in sample(logits, rows)]
    assert chosen == [naive(x.tolist(), row) for x, row in zip(logits, rows, strict=True)]


@pytest.mark.parametrize("floors", [(0.9, -1.0), (0.9, 0.5, -1.0), (-1.0,)])
def test_a_nucleus_is_exact_however_many_floors_it_takes(
    monkeypatch: pytest.MonkeyPatch, floors: tuple[float, ...]
) -> None:
    monkeypatch.setattr(sampler, "_FLOORS", floors)
    for seed in range(50):
        row = Row(SamplingParams(1, temperature=2.0, top_p=0.95), seed, {}, 0)
        logits = random_logits(seed)
        assert token(sample(logits, [row])[0]) == naive(logits[0].tolist(), row)


def test_a_nucleus_that_is_reached_exactly_takes_no_token_more() -> None:
    row = SamplingParams(1, temperature=1.0, top_p=0.5)
    drawn = {token(sample(torch.zeros(1, 2), [Row(row, seed, {}, 0)])[0]) for seed in range(40)}
    assert drawn == {0}


def test_greedy_takes_the_lowest_id_of_those_that_tie() -> None:
    logits = torch.zeros(2, 300)
    logits[:, [7, 130, 250]] = 5.0
    plain = Row(SamplingParams(1, temperature=0), 0, {}, 0)
    biased = Row(SamplingParams(1, temperature=0, logit_bias={1: -1.0}), 0, {}, 0)
    assert [token(c) for c in sample(logits, [plain, biased])] == [7, 7]


def test_what_is_drawn_follows_the_distribution() -> None:
    probabilities = torch.tensor([0.5, 0.25, 0.125, 0.125, 0.0])
    row = SamplingParams(1, temperature=1.0)
    drawn = Counter(
        token(sample(probabilities.log()[None], [Row(row, 3, {}, i)])[0]) for i in range(4000)
    )
    assert drawn[4] == 0
    for i, p in enumerate(probabilities[:4].tolist()):
        assert abs(drawn[i] / 4000 - p) < 4 * math.sqrt(p * (1 - p) / 4000)


def test_the_same_seed_and_place_give_the_same_token_in_any_company() -> None:
    logits = random_logits(1, rows=3)
    row = Row(SamplingParams(1, temperature=1.0), 42, {}, 5)
    other = Row(SamplingParams(1, temperature=0.5, top_p=0.9), 7, {}, 1)
    alone = token(sample(logits[:1], [row])[0])
    assert alone == token(sample(logits, [row, other, other])[0])
    assert alone == token(sample(logits.flip(0), [other, other, row])[2])


def test_a_hash_makes_numbers_that_fill_the_interval_evenly() -> None:
    numbers = [uniform(seed, i) for seed in range(20) for i in range(500)]
    assert all(0 <= u < 1 for u in numbers)
    assert len(set(numbers)) == len(numbers)
    buckets = Counter(int(u * 10) for u in numbers)
    assert all(abs(buckets[b] - 1000) < 150 for b in range(10))


def test_log_probabilities_are_the_models_own_before_bias_penalties_and_temperature() -> None:
    logits = random_logits(5)
    truth = logits[0].double().log_softmax(-1)
    asked = SamplingParams(
        1, temperature=0, logit_bias={11: 100.0}, frequency_penalty=1.0, logprobs=True,
        top_logprobs=5,
    )  # fmt: skip
    choice = only(sample(logits, [Row(asked, 0, {11: 1}, 1)])[0])
    assert choice.token == 11
    assert choice.logprob == pytest.approx(float(truth[11]), abs=1e-4)
    best = truth.argsort(descending=True)[:5].tolist()
    assert [i for i, _ in choice.top] == best
    assert [p for _, p in choice.top] == pytest.approx([float(truth[i]) for i in best], abs=1e-4)


def test_no_log_probabilities_unless_asked_and_none_beside_it_if_none_wanted() -> None:
    logits = random_logits(5)
    plain = only(sample(logits, [Row(SamplingParams(1, temperature=0), 0, {}, 0)])[0])
    assert plain.logprob is None
    own = only(sample(logits, [Row(SamplingParams(1, temperature=0, logprobs=True), 0, {}, 0)])[0])
    assert own.logprob is not None
    assert own.top == ()


@pytest.mark.parametrize("bad", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_a_row_that_is_no_number_fails_and_its_neighbours_do_not(
    bad: float, temperature: float
) -> None:
    logits = random_logits(2, rows=3)
    logits[1, 20] = bad
    row = Row(SamplingParams(1, temperature=temperature), 1, {}, 0)
    first, sick, last = sample(logits, [row, row, row])
    assert isinstance(sick, EngineFailed)
    assert token(first) == naive(logits[0].tolist(), row)
    assert token(last) == naive(logits[2].tolist(), row)


def test_the_logits_themselves_are_never_changed() -> None:
    logits = random_logits(3)
    before = logits.clone()
    asked = SamplingParams(1, temperature=0.5, top_p=0.5, logit_bias={1: 5.0}, presence_penalty=1.0)
    sample(logits, [Row(asked, 0, {2: 3}, 3)])
    assert torch.equal(logits, before)


def test_no_rows_give_no_tokens() -> None:
    assert sample(torch.empty(0, 50), []) == []
