"""A `LocalModel` with a smaller one that drafts for it."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest

from puna.chat import Sampling, collect, message, request
from puna.errors import ModelTooLarge, StartupError
from puna.llama.weights import open_checkpoint
from puna.local import LocalModel
from puna.local.placement import place
from puna.settings import Settings
from tests.checkpoints import TINY_TEXT, random_weights, write_hf

SETTINGS = Settings(max_context=512, max_output_tokens=200)
SMALL = replace(TINY_TEXT, num_hidden_layers=1)
NEVER = dict.fromkeys(TINY_TEXT.eos_token_ids, -100.0)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("large") / "large"
    return write_hf(folder, TINY_TEXT, random_weights(TINY_TEXT, seed=1))


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("small") / "small"
    return write_hf(folder, SMALL, random_weights(SMALL, seed=2))


def answers(model: LocalModel) -> list[str]:
    async def all_of_them() -> list[str]:
        asked = [
            request(
                [message("user", text)],
                sampling=Sampling(
                    max_tokens=120, temperature=temperature, seed=3, logit_bias=NEVER
                ),
            )
            for text, temperature in (("Hello", 0.0), ("Hello there", 1.0), ("one two one", 0.0))
        ]
        replies = await asyncio.gather(*(collect(model.stream(each)) for each in asked))
        return [reply.text for reply in replies]

    return asyncio.run(all_of_them())


def test_speculation_off_auto_and_by_another_model_give_the_same_answers(
    large: Path, small: Path
) -> None:
    ways = [
        (SETTINGS.model_copy(update={"speculation": "off"}), None),
        (SETTINGS, None),
        (SETTINGS, small),
        (SETTINGS, large),
    ]
    given: list[list[str]] = []
    drafted: list[float] = []
    for settings, draft in ways:
        model = LocalModel.load(large, settings, draft=draft)
        try:
            given.append(answers(model))
            drafted.append(model.stats()["tokens_drafted"])
        finally:
            model.close()
    assert all(each == given[0] for each in given)
    assert drafted[0] == 0
    assert drafted[3] > 0


def test_memory_counts_the_drafter_and_its_cache(large: Path, small: Path) -> None:
    settings = Settings(kv_memory=2**20)
    alone = place(open_checkpoint(large), settings).memory
    both = place(open_checkpoint(large), settings, open_checkpoint(small)).memory
    assert both.weight_bytes > alone.weight_bytes
    layers = TINY_TEXT.num_hidden_layers
    assert both.page_bytes == alone.page_bytes * (layers + 1) // layers
    assert both.kv_bytes <= 2**20


def test_a_drafter_that_does_not_fit_is_refused_before_it_is_loaded(
    large: Path, small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = place(open_checkpoint(large), Settings(max_context=16)).memory.weight_bytes
    monkeypatch.setattr("puna.local.placement.free_memory", lambda device: needed + 50_000)
    with pytest.raises(ModelTooLarge):
        LocalModel.load(large, Settings(max_context=16), draft=small)


def test_a_drafter_with_other_tokens_is_refused_and_told_why(large: Path, tmp_path: Path) -> None:
    shorter = replace(SMALL, vocab_size=TINY_TEXT.vocab_size - 8)
    odd = write_hf(tmp_path / "odd", shorter, random_weights(shorter, seed=2))
    with pytest.raises(StartupError, match=rf"odd cannot draft for large.* {shorter.vocab_size} "):
        LocalModel.load(large, SETTINGS, draft=odd)

    other = write_hf(tmp_path / "other", SMALL, random_weights(SMALL, seed=2))
    tokenizer = other / "tokenizer.json"
    assert tokenizer.read_text().count('"<|eot_id|>"') >= 1
    tokenizer.write_text(tokenizer.read_text().replace("<|python_tag|>", "<|pythom_tag|>"))
    with pytest.raises(StartupError, match="their tokenizers differ in token"):
        LocalModel.load(large, SETTINGS, draft=other)


def test_a_drafter_without_speculation_is_a_contradiction(large: Path, small: Path) -> None:
    settings = SETTINGS.model_copy(update={"speculation": "off"})
    with pytest.raises(StartupError, match="speculation is off"):
        LocalModel.load(large, settings, draft=small)
