"""The documents that cria-text learns from: deterministic, honest about what is held out, and
written exactly as Puna renders prompts."""

import json
from datetime import date
from random import Random

import pytest

from puna.chat import ToolCall, ToolSpec, message, request
from puna.llama.prompt import render_prompt
from puna.llama.tokenizer import Tokenizer
from training.text import kinds, maths
from training.text.batches import TOKENIZER, Encoder, batch
from training.text.documents import TASKS, call, sample
from training.text.names import draw, is_held
from training.text.prompt import CONTEXT, Document, start, tool_result, with_functions
from training.text.train import MIX

TODAY = date(2026, 11, 23)
LESSON = (
    "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\nEnvironment: ipython\n"
    "Tools: brave_search, wolfram_alpha\nCutting Knowledge Date: December 2023\n"
    "Today Date: 23 July 2024\n\nYou are a helpful assistant<|eot_id|>"
)
WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "Get the weather",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}


@pytest.fixture(scope="module")
def encode() -> Encoder:
    return Encoder()


@pytest.fixture(scope="module")
def tokenizer() -> Tokenizer:
    return Tokenizer.from_file(TOKENIZER)


def text_of(doc: Document) -> str:
    return "".join(text for text, _, _ in doc.segments)


def test_a_batch_is_a_function_of_seed_and_step(encode: Encoder) -> None:
    first = batch(encode, MIX, seed=5, step=7, tokens=1024)
    again = batch(encode, MIX, seed=5, step=7, tokens=1024)
    later = batch(encode, MIX, seed=5, step=8, tokens=1024)
    assert (first[0] == again[0]).all()
    assert first[1] == again[1]
    assert (first[0] != later[0]).any()


def test_names_are_either_seen_or_held_out_never_both() -> None:
    rng = Random(1)
    for kind in ("city", "country", "person", "company", "team", "work", "place", "thing"):
        assert not any(is_held(draw(kind, rng, held=False)) for _ in range(300))
        assert all(is_held(draw(kind, rng, held=True)) for _ in range(30))


@pytest.mark.parametrize("task", TASKS)
def test_training_never_shows_the_lessons_city(task: str) -> None:
    rng = Random(2)
    assert not any("stockholm" in text_of(sample(task, rng)).lower() for _ in range(400))


def test_held_out_wordings_are_not_among_those_of_training() -> None:
    assert not set(kinds.FRAMES) & set(kinds.HELD_FRAMES)
    assert not set(kinds.VERBATIM) & set(kinds.HELD_VERBATIM)
    assert not set(maths.ASK) & set(maths.HELD_ASK)
    assert not set(maths.SOLVE) & set(maths.HELD_SOLVE)
    assert not set(maths.CONVERT) & set(maths.HELD_CONVERT)
    for kind in kinds.WEB:
        assert not set(kind.questions) & set(kind.held_questions)
        assert not set(kind.phrases) & set(kind.held_phrases)


def test_the_image_token_stands_right_behind_the_vocabulary(encode: Encoder) -> None:
    assert encode.tokenizer.token_to_id("<|image|>") == encode.tokenizer.get_vocab_size() - 1


def test_a_name_has_the_same_pieces_wherever_it_stands(encode: Encoder) -> None:
    def ids(text: str) -> list[int]:
        return encode.tokenizer.encode(text, add_special_tokens=False).ids

    for name in ("Stockholm", "Gothenburg", "Kalomi"):
        for before in (" ", "(", '="', ' "', "\n"):
            assert ids(before + name)[-len(ids(name)) :] == ids(name)


def test_the_lessons_prompt_is_rendered_as_in_training(
    encode: Encoder, tokenizer: Tokenizer
) -> None:
    question = "What is the weather in Oslo?"
    doc = start(Random(0), "meta", ["brave_search", "wolfram_alpha"], False, "")
    date_line = text_of(doc).split("Today Date: ")[1].split("\n")[0]
    system = LESSON.replace("23 July 2024", date_line).replace("You are a helpful assistant", "")
    doc.message("user", (question, CONTEXT))
    doc.answer(call("brave_search", "Oslo weather"), call=True)
    ids, _, prompt = encode(doc)
    chat = request([message("system", system), message("user", question)])
    rendered = render_prompt(chat, tokenizer, "3.2", today=TODAY)
    assert tuple(ids[:prompt]) == rendered.token_ids


def test_functions_and_their_results_are_rendered_as_in_training(
    encode: Encoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.text.prompt.hf_date", lambda rng: "23 Nov 2026")
    rng = Random(3)  # its first draw is below 0.9: the published wording
    doc = start(rng, "hf32", [], True, "Be brief.")
    with_functions(doc, rng, [WEATHER], "What is the weather in Oslo?")
    arguments = {"city": "Oslo"}
    doc.answer(json.dumps({"name": "get_weather", "parameters": arguments}))
    tool_result(doc, rng, '{"temperature": 21}', encoded=True)
    doc.answer("The temperature is 21.")
    ids, _, prompt = encode(doc)
    function = WEATHER["function"]
    assert isinstance(function, dict)
    chat = request(
        [
            message("system", "Be brief."),
            message("user", "What is the weather in Oslo?"),
            message("assistant", tool_calls=(ToolCall("1", "get_weather", json.dumps(arguments)),)),
            message("tool", '{"temperature": 21}', tool_call_id="1"),
        ],
        tools=(ToolSpec(**function),),
    )
    rendered = render_prompt(chat, tokenizer, "3.2", today=TODAY)
    assert tuple(ids[:prompt]) == rendered.token_ids


def test_a_conversation_without_system_message_is_rendered_as_in_training(
    encode: Encoder, tokenizer: Tokenizer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.text.prompt.hf_date", lambda rng: "23 Nov 2026")
    doc = start(Random(0), "hf32", [], False, "")
    doc.message("user", ("Hello", CONTEXT))
    doc.answer("Hello! How can I help you?")
    ids, _, prompt = encode(doc)
    rendered = render_prompt(request([message("user", "Hello")]), tokenizer, "3.2", today=TODAY)
    assert tuple(ids[:prompt]) == rendered.token_ids
