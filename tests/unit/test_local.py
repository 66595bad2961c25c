"""What `LocalModel` refuses, fills in and says of itself. Answers are tested in tests/e2e."""

from __future__ import annotations

import asyncio
import gc
import io
import json
import threading
import time
import weakref
from collections.abc import Iterator
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pictures

from puna.chat import (
    ChatModel,
    ChatRequest,
    Image,
    Reply,
    Sampling,
    ToolSpec,
    collect,
    message,
    request,
)
from puna.errors import (
    CheckpointError,
    ContextTooLong,
    EngineFailed,
    InvalidImage,
    InvalidValue,
    ModelTooLarge,
    Overloaded,
    PunaError,
)
from puna.llama.weights import open_checkpoint
from puna.local import LocalModel
from puna.settings import Settings
from tests.checkpoints import TINY_TEXT, TINY_VISION, random_weights, write_hf

SETTINGS = Settings(max_context=512, max_output_tokens=50, max_images=2, max_image_pixels=10_000)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("text") / "tiny"
    return write_hf(folder, TINY_TEXT, random_weights(TINY_TEXT, seed=1))


@pytest.fixture(scope="module")
def model(folder: Path) -> Iterator[LocalModel]:
    model = LocalModel.load(folder, SETTINGS)
    yield model
    model.close()


@pytest.fixture(scope="module")
def vision(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalModel]:
    folder = tmp_path_factory.mktemp("vision") / "tiny-vision"
    write_hf(folder, TINY_VISION, random_weights(TINY_VISION, seed=1))
    model = LocalModel.load(folder, SETTINGS)
    yield model
    model.close()


def answer(model: LocalModel, asked: ChatRequest) -> Reply:
    return asyncio.run(collect(model.stream(asked)))


def hello(text: str = "Hello", **sampling: Any) -> ChatRequest:
    return request([message("user", text)], sampling=Sampling(**{"max_tokens": 3} | sampling))


def almost_too_long(model: LocalModel) -> str:
    """A text whose prompt leaves room for some 20 tokens."""
    one, many = (
        answer(model, hello("7 " * count, max_tokens=1)).usage.prompt_tokens for count in (1, 101)
    )
    return "7 " * int((512 - 20 - one) / ((many - one) / 100))


def png(width: int = 20, height: int = 20) -> Image:
    file = io.BytesIO()
    Pictures.new("RGB", (width, height)).save(file, "PNG")
    return Image(file.getvalue())


def refusal(model: LocalModel, asked: ChatRequest, kind: type[PunaError]) -> Any:
    with pytest.raises(kind) as caught:
        answer(model, asked)
    assert "\n" not in caught.value.message
    return caught.value


def test_it_is_a_chat_model_and_its_card_says_what_it_takes(
    model: LocalModel, vision: LocalModel
) -> None:
    assert isinstance(model, ChatModel)
    assert model.card.name == "tiny"
    assert model.card.modalities == ("text",)
    assert vision.card.modalities == ("text", "image")
    assert (model.card.context_length, model.card.max_output_tokens) == (512, 50)
    assert str(model.memory.kv_tokens) in model.card.summary


def test_without_max_tokens_the_answer_ends_at_the_cap_or_at_the_context(model: LocalModel) -> None:
    never = dict.fromkeys(TINY_TEXT.eos_token_ids, -100.0)
    short = answer(model, hello(max_tokens=None, temperature=0, logit_bias=never))
    assert (short.usage.completion_tokens, short.reason) == (50, "length")
    long = answer(
        model, hello(almost_too_long(model), max_tokens=None, temperature=0, logit_bias=never)
    )
    assert long.usage.total_tokens == 512
    assert long.usage.completion_tokens < 50


def test_more_tokens_than_the_cap_are_refused_with_both_numbers(model: LocalModel) -> None:
    error = refusal(model, hello(max_tokens=51), InvalidValue)
    assert "51" in error.message
    assert "50" in error.message
    assert error.param == "max_tokens"


def test_a_prompt_beyond_the_context_is_refused_with_both_numbers(model: LocalModel) -> None:
    error = refusal(model, hello("7 " * 500), ContextTooLong)
    assert error.prompt_tokens > 512
    assert error.limit == 512
    assert str(error.prompt_tokens) in error.message
    assert "512" in error.message


def test_prompt_and_max_tokens_beyond_the_context_are_refused_with_what_may_be(
    model: LocalModel,
) -> None:
    error = refusal(model, hello(almost_too_long(model), max_tokens=50), ContextTooLong)
    assert error.param == "max_tokens"
    room = 512 - error.prompt_tokens
    assert f"may be {room} at most" in error.message
    assert (
        answer(model, hello(almost_too_long(model), max_tokens=room)).usage.completion_tokens
        <= room
    )


def test_tool_choice_none_hides_the_tools(model: LocalModel) -> None:
    def tokens(**fields: Any) -> int:
        asked = request([message("user", "Hi")], sampling=Sampling(max_tokens=1), **fields)
        return answer(model, asked).usage.prompt_tokens

    tools = (ToolSpec("f", "A function"),)
    assert tokens(tools=tools) > tokens()
    assert tokens(tools=tools, tool_choice="none") == tokens()


@pytest.mark.parametrize("token", [-1, TINY_TEXT.vocab_size])
def test_a_bias_for_a_token_that_is_none_is_refused(model: LocalModel, token: int) -> None:
    error = refusal(model, hello(logit_bias={token: 1.0}), InvalidValue)
    assert error.param == "logit_bias"
    assert str(token) in error.message


def test_top_logprobs_without_logprobs_are_refused(model: LocalModel) -> None:
    assert refusal(model, hello(top_logprobs=2), InvalidValue).param == "top_logprobs"


def test_an_image_to_a_text_model_is_refused(model: LocalModel) -> None:
    error = refusal(model, request([message("user", png(), "What?")]), InvalidValue)
    assert "image" in error.message


def test_too_many_images_are_refused_with_both_numbers(vision: LocalModel) -> None:
    error = refusal(vision, request([message("user", png(), png(), png())]), InvalidImage)
    assert "3 images" in error.message
    assert "at most 2" in error.message


def test_a_broken_image_is_refused_and_named(vision: LocalModel) -> None:
    asked = request([message("user", png(), Image(b"no image at all"))])
    error = refusal(vision, asked, InvalidImage)
    assert error.message.startswith("image 2 of 2: ")
    assert error.param == "messages"
    bomb = request([message("user", png(200, 200))])
    assert "10000" in refusal(vision, bomb, InvalidImage).message


def test_no_messages_are_refused(model: LocalModel) -> None:
    assert refusal(model, request([]), InvalidValue).param == "messages"


def test_defaults_come_from_the_checkpoint_and_requests_go_before_them(tmp_path: Path) -> None:
    write_hf(tmp_path / "m", TINY_TEXT, random_weights(TINY_TEXT, seed=1), greedy=True)
    greedy = LocalModel.load(tmp_path / "m", SETTINGS)
    write_json = tmp_path / "m" / "generation_config.json"
    write_json.write_text(json.dumps({"do_sample": True, "temperature": 2.0, "top_p": 1.0}))
    wild = LocalModel.load(tmp_path / "m", SETTINGS)
    try:
        assert len({answer(greedy, hello(max_tokens=9)).text for _ in range(4)}) == 1
        assert len({answer(wild, hello(max_tokens=9)).text for _ in range(4)}) > 1
        assert len({answer(wild, hello(max_tokens=9, temperature=0)).text for _ in range(4)}) == 1
        assert len({answer(greedy, hello(max_tokens=9, temperature=2)).text for _ in range(4)}) > 1
    finally:
        greedy.close()
        wild.close()


def test_a_model_too_large_is_refused_before_a_weight_is_read(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(folder)
    monkeypatch.setattr("puna.local.placement.free_memory", lambda device: 100_000)  # pyright: ignore
    read: list[str] = []
    monkeypatch.setattr(type(checkpoint), "read", lambda self, name, dtype: read.append(name))
    with pytest.raises(ModelTooLarge, match=r"0\.1 MB of memory are free"):
        LocalModel(checkpoint, SETTINGS, name="tiny")
    assert not read


def test_wishes_for_memory_are_honoured(folder: Path) -> None:
    settings = Settings(kv_memory=2**20, max_context=64, dtype="bfloat16")
    model = LocalModel.load(folder, settings, name="small")
    try:
        assert model.placement.dtype == torch.bfloat16
        assert model.memory.context == 64
        assert 2**20 - model.memory.page_bytes < model.memory.kv_bytes <= 2**20
        assert answer(model, hello()).usage.completion_tokens <= 3
    finally:
        model.close()


def test_a_missing_checkpoint_is_one_clear_line(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        LocalModel.load(tmp_path / "nothing", SETTINGS)
    assert "\n" not in str(caught.value)


def test_the_date_is_asked_for_each_request(folder: Path) -> None:
    days: list[date] = []

    def clock() -> date:
        days.append(date(2026, 11, 23))
        return days[-1]

    model = LocalModel(open_checkpoint(folder), SETTINGS, name="tiny", clock=clock)
    try:
        answer(model, hello())
        answer(model, hello())
    finally:
        model.close()
    assert len(days) == 2


def test_a_full_queue_is_overloaded_before_the_first_event(folder: Path) -> None:
    model = LocalModel.load(folder, SETTINGS.model_copy(update={"max_queue": 1}))

    async def both() -> None:
        asked = hello(max_tokens=50, logit_bias=dict.fromkeys(TINY_TEXT.eos_token_ids, -100.0))
        first = model.stream(asked)
        await anext(first)
        with pytest.raises(Overloaded):
            await anext(model.stream(asked))
        await first.aclose()
        assert (await collect(model.stream(asked))).usage.completion_tokens == 50

    try:
        asyncio.run(both())
    finally:
        model.close()


def test_preparing_a_request_never_holds_up_the_event_loop(
    model: LocalModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare = model._prepare
    threads: list[threading.Thread] = []

    def slow(asked: ChatRequest) -> Any:
        threads.append(threading.current_thread())
        time.sleep(0.2)
        return prepare(asked)

    monkeypatch.setattr(model, "_prepare", slow)

    async def ticking() -> int:
        ticks = 0
        task = asyncio.create_task(collect(model.stream(hello())))
        while not task.done():
            await asyncio.sleep(0.01)
            ticks += 1
        return ticks

    assert asyncio.run(ticking()) >= 10
    assert threads[0] is not threading.main_thread()


def test_a_closed_model_says_so_and_its_memory_is_gone(folder: Path) -> None:
    model = LocalModel.load(folder, SETTINGS)
    answer(model, hello())
    model.close()
    with pytest.raises(EngineFailed, match="shut down"):
        answer(model, hello())
    weights = weakref.ref(model._engine._model)
    del model
    gc.collect()
    assert weights() is None
