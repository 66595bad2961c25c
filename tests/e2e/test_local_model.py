"""A tiny random Llama from disk, through prompt, engine and reply, as a server would use it."""

from __future__ import annotations

import asyncio
import io
from collections.abc import Iterator
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image as Pictures

from puna.chat import (
    ChatRequest,
    Finished,
    Image,
    Message,
    Reply,
    Sampling,
    TextDelta,
    collect,
    message,
    request,
)
from puna.llama.cache import KVCache
from puna.llama.images import prepare_image
from puna.llama.load import load_llama
from puna.llama.prompt import render_prompt
from puna.llama.weights import open_checkpoint
from puna.local import LocalModel
from puna.local.placement import place
from puna.settings import Settings
from tests.checkpoints import TINY_TEXT, TINY_VISION, random_weights, write_hf
from tests.tiny_models import views

SETTINGS = Settings(max_context=512, max_output_tokens=64, max_batch_tokens=48)
# Tokens that must be the same, computed in one piece or in many, with weights of few bits, too.
EXACT = 12


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("checkpoints")
    return {
        "text": write_hf(folder / "text", TINY_TEXT, random_weights(TINY_TEXT, seed=1)),
        "vision": write_hf(folder / "vision", TINY_VISION, random_weights(TINY_VISION, seed=2)),
    }


@pytest.fixture(scope="module")
def text_model(folders: dict[str, Path]) -> Iterator[LocalModel]:
    model = LocalModel.load(folders["text"], SETTINGS)
    yield model
    model.close()


@pytest.fixture(scope="module")
def vision_model(folders: dict[str, Path]) -> Iterator[LocalModel]:
    model = LocalModel.load(folders["vision"], SETTINGS)
    yield model
    model.close()


def picture(colour: str, size: tuple[int, int] = (40, 30)) -> Image:
    file = io.BytesIO()
    Pictures.new("RGB", size, colour).save(file, "PNG")
    return Image(file.getvalue())


def ask(*messages: Message | str, **sampling: Any) -> ChatRequest:
    turns = [message("user", turn) if isinstance(turn, str) else turn for turn in messages]
    return request(turns, sampling=Sampling(**{"max_tokens": 12} | sampling))


def by_hand(folder: Path, asked: ChatRequest, count: int) -> list[int]:
    """The greedy answer, computed from the whole text anew for each token: no engine, no cache.
    The weights are as settings have them, PUNA_QUANTIZE included, and rows of the kind that they
    always are: the answer's are exact, and stand before the prompt's."""
    checkpoint = open_checkpoint(folder)
    tokenizer, config = checkpoint.tokenizer(), checkpoint.config
    placement = place(checkpoint, SETTINGS)
    model = load_llama(checkpoint, "cpu", placement.dtype, placement.packing)
    from puna.local.model import today
    from tests.tiny_models import PAGE_SIZE, step

    rendered = render_prompt(asked, tokenizer, config.prompt_family, today=today())
    images = [
        prepare_image(image.data, config.vision, max_pixels=10**6)  # pyright: ignore
        for image in rendered.images
    ]
    prompt = list(rendered.token_ids)
    with torch.inference_mode():
        seen = views(model, prompt, images)
    answer: list[int] = []
    for _ in range(count):
        pages = torch.arange(-(-(len(prompt) + len(answer)) // PAGE_SIZE))
        cache = KVCache(config, len(pages), PAGE_SIZE, placement.cache_dtype)
        parts = [(answer, len(prompt), pages, seen)] if answer else []
        logits = step(model, cache, [*parts, (prompt, 0, pages, seen)], exact=len(answer))
        answer.append(int(logits[0][-1].argmax()))
        if answer[-1] in tokenizer.stop_ids:
            break
    return answer


async def whole(model: LocalModel, asked: ChatRequest) -> Reply:
    return await collect(model.stream(asked))


async def test_a_greedy_answer_is_what_the_model_says_when_run_by_hand(
    text_model: LocalModel, folders: dict[str, Path]
) -> None:
    asked = ask("What is the weather in Stockholm?", temperature=0, max_tokens=EXACT)
    reply = await whole(text_model, asked)
    ids = by_hand(folders["text"], asked, EXACT)
    tokenizer = open_checkpoint(folders["text"]).tokenizer()
    assert reply.text == tokenizer.decode(t for t in ids if not tokenizer.is_special(t))
    assert reply.usage.completion_tokens == len(ids)
    assert reply.reason == ("stop" if ids[-1] in tokenizer.stop_ids else "length")


@pytest.mark.parametrize(
    "content",
    [
        ("What is it?", picture("red")),
        (picture("red"), picture("blue", (30, 90)), "Compare them."),
        ("First", picture("red"), "then", picture("green", (200, 60)), "and?"),
    ],
)
async def test_an_answer_about_images_is_what_the_model_says_when_run_by_hand(
    vision_model: LocalModel, folders: dict[str, Path], content: tuple[Any, ...]
) -> None:
    asked = ask(message("user", *content), temperature=0, max_tokens=EXACT)
    reply = await whole(vision_model, asked)
    ids = by_hand(folders["vision"], asked, EXACT)
    tokenizer = open_checkpoint(folders["vision"]).tokenizer()
    assert reply.text == tokenizer.decode(t for t in ids if not tokenizer.is_special(t))
    assert reply.usage.completion_tokens == len(ids)


async def test_images_change_the_answer_and_the_same_image_costs_nothing_again(
    vision_model: LocalModel,
) -> None:
    def about(colour: str) -> ChatRequest:
        return ask(message("user", picture(colour, (57, 57)), "What is it?"), temperature=0)

    before = vision_model.stats()["images_encoded"]
    yellow, purple = await asyncio.gather(
        whole(vision_model, about("yellow")), whole(vision_model, about("purple"))
    )
    again = await whole(vision_model, about("yellow"))
    assert yellow.text == again.text != purple.text
    assert again.usage.cached_tokens > 0
    assert vision_model.stats()["images_encoded"] == before + 2


async def test_the_same_seed_gives_the_same_text_whatever_else_runs(
    text_model: LocalModel,
) -> None:
    asked = ask("Tell me a story", temperature=1.0, top_p=0.95, seed=11, max_tokens=30)
    alone = await whole(text_model, asked)
    others = [ask(f"Number {i}", temperature=1.5, max_tokens=40) for i in range(12)]
    crowd = await asyncio.gather(
        *(whole(text_model, other) for other in others[:6]),
        whole(text_model, asked),
        *(whole(text_model, other) for other in others[6:]),
    )
    assert crowd[6].text == alone.text
    different = ask("Tell me a story", temperature=1.0, top_p=0.95, seed=12, max_tokens=30)
    assert (await whole(text_model, different)).text != alone.text


async def test_a_stop_string_ends_the_answer_before_it_and_is_never_half_told(
    text_model: LocalModel,
) -> None:
    plain = await whole(text_model, ask("Say much", temperature=0, max_tokens=40))
    assert len(plain.text) > 12
    middle = len(plain.text) // 2
    stop = plain.text[middle : middle + 3]
    cut = await whole(text_model, ask("Say much", temperature=0, max_tokens=40, stop=(stop,)))
    assert cut.text == plain.text[: plain.text.index(stop)]
    assert cut.reason == "stop"
    assert cut.usage.completion_tokens < plain.usage.completion_tokens
    assert (await settled(text_model))["running"] == 0


async def test_closing_a_stream_stops_its_work(text_model: LocalModel) -> None:
    asked = ask("Go on and on", temperature=1.0, seed=3, logit_bias=no_stops(), max_tokens=64)
    before = text_model.stats()
    async with aclosing(text_model.stream(asked)) as events:
        async for event in events:
            assert isinstance(event, TextDelta)
            break
    after = await settled(text_model)
    assert after["running"] == after["waiting"] == after["pages_held"] == 0
    assert after["cancelled"] == before["cancelled"] + 1
    assert after["tokens_generated"] < before["tokens_generated"] + 64


async def test_a_task_that_is_cancelled_stops_its_work(text_model: LocalModel) -> None:
    asked = ask("On and on", temperature=1.0, seed=4, logit_bias=no_stops(), max_tokens=64)
    tasks = [asyncio.create_task(whole(text_model, asked)) for _ in range(3)]
    await asyncio.sleep(0.05)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    after = await settled(text_model)
    assert after["running"] == after["waiting"] == after["pages_held"] == 0


async def test_the_next_turn_reuses_what_was_computed(text_model: LocalModel) -> None:
    first = ask("A question that is long enough to fill some pages", temperature=0)
    reply = await whole(text_model, first)
    turn = ask(*first.messages, reply.message, "And now?", temperature=0)
    second = await whole(text_model, turn)
    assert second.usage.cached_tokens >= first_page_multiple(reply.usage.prompt_tokens)


async def test_log_probabilities_belong_to_the_text(text_model: LocalModel) -> None:
    asked = ask("Probably", temperature=0, logprobs=True, top_logprobs=3)
    reply = await whole(text_model, asked)
    assert b"".join(each.bytes for each in reply.logprobs).decode(errors="replace") == reply.text
    for each in reply.logprobs:
        assert each.logprob <= 0
        assert len(each.top) == 3
        assert each.top[0].token == each.token, "greedy takes the likeliest"
        assert [one.logprob for one in each.top] == sorted(
            (one.logprob for one in each.top), reverse=True
        )


async def test_every_stream_ends_with_finished_exactly_once(text_model: LocalModel) -> None:
    events = [event async for event in text_model.stream(ask("Hello", max_tokens=1))]
    assert [type(event) for event in events].count(Finished) == 1
    end = events[-1]
    assert isinstance(end, Finished)
    assert (end.reason, end.usage.completion_tokens) == ("length", 1)


@pytest.mark.parametrize(
    "fields", [{"dtype": "float32"}, {"dtype": "bfloat16"}, {"quantize": "int8"}]
)
def test_encoded_images_take_the_memory_that_was_planned_for_them(
    folders: dict[str, Path], fields: dict[str, Any]
) -> None:
    model = LocalModel.load(folders["vision"], SETTINGS.model_copy(update=fields))
    asked = ask(message("user", picture("red"), picture("blue", (30, 90)), "Compare them."))
    try:
        asyncio.run(whole(model, asked))
        kept = list(model._engine.images._kept.values())
        assert len(kept) == 2
        for image in kept:
            taken = sum(source.keys.nbytes + source.values.nbytes for source in image.value)
            assert image.nbytes / 2 < taken <= image.nbytes
    finally:
        model.close()


def test_one_model_serves_several_event_loops(text_model: LocalModel) -> None:
    import threading

    asked = ask("From everywhere", temperature=0)
    replies: list[Reply] = []
    threads = [
        threading.Thread(target=lambda: replies.append(asyncio.run(whole(text_model, asked))))
        for _ in range(3)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len({reply.text for reply in replies}) == 1
    assert len(replies) == 3


def no_stops() -> dict[int, float]:
    return dict.fromkeys(TINY_TEXT.eos_token_ids, -100.0)


def first_page_multiple(tokens: int) -> int:
    return tokens // SETTINGS.page_size * SETTINGS.page_size - SETTINGS.page_size


async def settled(model: LocalModel) -> dict[str, float]:
    """The numbers, once the engine has taken note of what was cancelled."""
    for _ in range(200):
        stats = model.stats()
        if not stats["running"] and not stats["waiting"]:
            break
        await asyncio.sleep(0.01)
    return model.stats()
