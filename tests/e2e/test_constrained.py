"""Constrained answers through prompt, engine and reply: tiny random Llamas, in company."""

from __future__ import annotations

import asyncio
import io
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image as Pictures

from puna.chat import (
    ChatRequest,
    Image,
    JsonFormat,
    NamedTool,
    Reply,
    Sampling,
    TextDelta,
    ToolSpec,
    collect,
    message,
    request,
)
from puna.errors import EngineFailed, InvalidValue, RequestError
from puna.llama.tokenizer import Tokenizer
from puna.local import LocalModel
from puna.settings import Settings
from tests.checkpoints import TINY_TEXT, TINY_VISION, random_weights, tokenizer_json, write_hf
from tests.constrained import Json, argument_schemas, check, schemas

SETTINGS = Settings(max_context=16384, max_output_tokens=96, page_size=8, max_batch_tokens=64)
TOKENIZER = Tokenizer.from_json(tokenizer_json(image=True).encode())
# Random weights prefer nothing: what ends an answer is made likelier, or few would end.
ENDINGS = {TOKENIZER.encode(text)[0]: 4.0 for text in ('"', "}", "]", ")", ">")} | dict.fromkeys(
    TOKENIZER.stop_ids, 6.0
)
WEATHER: Json = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 6}, "days": {"enum": [1, 2, 3]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = (
    ToolSpec("get_weather", "Weather", WEATHER, strict=True),
    ToolSpec("brave_search", parameters={"properties": {"query": {"type": "string"}}}),
    ToolSpec("nothing", parameters={"type": "object", "additionalProperties": False}),
)
CITY: Json = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}, "sunny": {"type": "boolean"}},
    "required": ["city", "sunny"],
    "additionalProperties": False,
}


@pytest.fixture(scope="module", params=["text", "vision", "meta"])
def model(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalModel]:
    config = TINY_VISION if request.param == "vision" else TINY_TEXT
    if request.param == "meta":  # 3.2's rotary factor: calls are pythonic then
        assert config.rope_scaling is not None
        config = replace(config, rope_scaling=replace(config.rope_scaling, factor=32.0))
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_hf(folder, config, random_weights(config, seed=3))
    style = {"prompt_style": "meta"} if request.param == "meta" else {}
    model = LocalModel.load(folder, SETTINGS.model_copy(update=style))
    yield model
    model.close()


def ask(model: LocalModel, seed: int = 0, **fields: Any) -> ChatRequest:
    sampling = Sampling(
        seed=seed, temperature=1.5, max_tokens=fields.pop("max_tokens", 64), logit_bias=ENDINGS
    )
    parts: list[Any] = ["Hello"]
    if "image" in model.card.modalities:
        file = io.BytesIO()
        Pictures.new("RGB", (30, 20), "red").save(file, "PNG")
        parts.insert(0, Image(file.getvalue()))
    return request([message("user", *parts)], sampling=sampling, **fields)


def answers(model: LocalModel, *asked: ChatRequest) -> list[Reply]:
    """All at once: one batch."""

    async def together() -> list[Reply]:
        return await asyncio.gather(*(collect(model.stream(each)) for each in asked))

    return asyncio.run(together())


def check_calls(reply: Reply, *, parallel: bool = True) -> None:
    parameters = {tool.name: dict(tool.parameters) for tool in TOOLS}
    for call in reply.tool_calls:
        check(json.loads(call.arguments), parameters[call.name])
    assert parallel or len(reply.tool_calls) <= 1
    assert reply.reason == "length" or (reply.tool_calls and not reply.text)


@settings(
    deadline=None,
    max_examples=4,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(some=st.lists(schemas(), min_size=1, max_size=3), seed=st.integers(0, 2**31))
def test_in_every_batch_each_answer_fits_its_own_schema_or_is_cut_by_the_limit(
    model: LocalModel, some: list[Json], seed: int
) -> None:
    asked = [ask(model, seed, response_format=JsonFormat(schema)) for schema in some]
    replies = answers(model, *asked, ask(model, seed))
    for reply, schema in zip(replies, some, strict=False):
        if reply.reason == "length":
            assert reply.usage.completion_tokens == 64
        else:
            check(json.loads(reply.text), schema)
    [alone] = answers(model, asked[0])
    assert alone.text == replies[0].text


@settings(
    deadline=None,
    max_examples=3,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(schema=argument_schemas(), seed=st.integers(0, 2**31), parallel=st.booleans())
def test_a_required_call_is_whole_and_fits_or_is_cut_by_the_limit(
    model: LocalModel, schema: Json, seed: int, parallel: bool
) -> None:
    tool = ToolSpec("f", parameters=schema, strict=True)
    [reply] = answers(
        model,
        ask(model, seed, tools=(tool,), tool_choice="required", parallel_tool_calls=parallel),
    )
    for call in reply.tool_calls:
        check(json.loads(call.arguments), schema)
    assert parallel or len(reply.tool_calls) <= 1
    assert reply.reason == "length" or (reply.tool_calls and not reply.text)


def test_required_named_and_single_calls_are_what_was_asked_for(model: LocalModel) -> None:
    choices: list[Any] = ["required", NamedTool("get_weather"), NamedTool("brave_search")]
    asked = [
        ask(model, seed, tools=TOOLS, tool_choice=choice, parallel_tool_calls=parallel)
        for seed in range(2)
        for choice in choices
        for parallel in (True, False)
    ]
    whole: set[str] = set()
    for each, reply in zip(asked, answers(model, *asked), strict=True):
        check_calls(reply, parallel=each.parallel_tool_calls)
        if isinstance(each.tool_choice, NamedTool):
            assert {call.name for call in reply.tool_calls} <= {each.tool_choice.name}
        whole |= {call.name for call in reply.tool_calls}
    assert "get_weather" in whole


def test_a_call_that_the_limit_cuts_is_no_call(model: LocalModel) -> None:
    asked = [
        ask(model, tools=TOOLS, tool_choice=NamedTool("get_weather"), max_tokens=limit)
        for limit in (1, 3, 5)
    ]
    for reply in answers(model, *asked):
        assert (reply.reason, reply.tool_calls) == ("length", ())


def test_schema_and_tools_together_give_one_or_the_other(model: LocalModel) -> None:
    asked = [ask(model, seed, tools=TOOLS, response_format=JsonFormat(CITY)) for seed in range(5)]
    for reply in answers(model, *asked):
        if reply.reason == "stop":
            check(json.loads(reply.text), CITY)
        else:
            check_calls(reply)


def test_offered_tools_do_not_touch_an_answer_that_calls_none(model: LocalModel) -> None:
    """The same prompt, with and without the grammar that waits."""

    async def without_grammar(asked: ChatRequest) -> Reply:
        return await collect(model.stream(asked))

    for seed in range(2):
        asked = ask(model, seed, tools=TOOLS, max_tokens=40)
        [guarded] = answers(model, asked)
        of = model._constraints.of

        async def none(asked: ChatRequest) -> None:
            return None

        model._constraints.of = none  # type: ignore[method-assign]
        try:
            [free] = answers(model, asked)
        finally:
            model._constraints.of = of  # type: ignore[method-assign]
        if not guarded.tool_calls:
            assert (guarded.text, guarded.reason) == (free.text, free.reason)


def test_what_no_grammar_can_do_is_refused_by_name_before_the_first_event(
    model: LocalModel,
) -> None:
    bad = {"type": "array", "uniqueItems": True}
    for fields, param in [
        ({"response_format": JsonFormat(bad)}, "response_format.json_schema.schema"),
        ({"tools": (TOOLS[0], replace(TOOLS[0], name="g", parameters={"properties": {"x": bad}}))},
         "tools[1].function.parameters"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": NamedTool("h"), "tools": TOOLS}, "tool_choice"),
    ]:  # fmt: skip
        with pytest.raises(InvalidValue) as caught:
            answers(model, ask(model, **fields))
        assert caught.value.param == param
        assert "\n" not in caught.value.message


def test_a_closed_model_says_so_to_who_wants_a_grammar(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("closed") / "tiny"
    write_hf(folder, TINY_TEXT, random_weights(TINY_TEXT, seed=3))
    model = LocalModel.load(folder, SETTINGS)
    model.close()
    with pytest.raises(EngineFailed, match="shut down"):
        answers(model, ask(model, response_format=JsonFormat()))


# --- hostile schemas -----------------------------------------------------------------------------


def _nested(depth: int) -> Json:
    schema: Json = {"type": "string"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}, "required": ["a"]}
    return schema


def _chain(length: int) -> Json:
    links: Json = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(length)}
    return {"$defs": links | {f"d{length}": {"type": "null"}}, "$ref": "#/$defs/d0"}


def _doubling(depth: int) -> Json:
    def pair(i: int) -> Json:
        ref = {"$ref": f"#/$defs/d{i + 1}"}
        return {"type": "object", "properties": {"a": ref, "b": ref}, "required": ["a", "b"]}

    links = {f"d{i}": pair(i) for i in range(depth)}
    return {"$defs": links | {f"d{depth}": {"type": "null"}}, "$ref": "#/$defs/d0"}


def _optional(count: int) -> Json:
    return {"type": "object", "properties": {f"p{i}": {"type": "string"} for i in range(count)}}


HOSTILE: dict[str, Json] = {
    "huge": _optional(40_000),
    "wide": _optional(480),
    "many": {"type": "object", "properties": {f"q{i}": _optional(90) for i in range(60)}},
    "deep": _nested(400),
    "deep within limits": _nested(29),
    "deep references": _chain(480),
    "doubling": _doubling(40),
    "a circle": {"$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"$ref": "#/$defs/a"}},
                 "$ref": "#/$defs/a"},
    "endless": {"type": "object", "properties": {"a": {"$ref": "#"}}, "required": ["a"]},
    "contradictory": {"allOf": [{"type": "string"}, {"type": "integer"}]},
    "giant enum": {"enum": [f"value-{i * 7919 % 100_003}" for i in range(11_000)]},
    "product of choices": {
        "allOf": [{"anyOf": [_optional(i + 1), {"required": [f"p{i}"]}]} for i in range(20)]
    },
    "remainders": {"type": "integer", "multipleOf": 1_000_003},
    "remainders together": {"allOf": [{"type": "integer", "multipleOf": n} for n in (97, 89, 83)]},
    "exponential automaton": {"type": "string", "pattern": "^[ab]*a[ab]{25}$"},
    "far apart": {"type": "string", "pattern": "x.{0,1000}y.{0,1000}z"},
    "towers of repetition": {"type": "string", "pattern": "^((((a{0,99}){0,99}){0,99}){0,99})$"},
    "regexes at once": {
        "allOf": [{"type": "string", "pattern": f".*[a-m]{{{i}}}.*q.{{{i}}}"} for i in range(2, 14)]
    },
    "long strings": {"type": "string", "minLength": 10**6, "maxLength": 2 * 10**9},
    "long arrays": {"type": "array", "items": {}, "minItems": 10**9},
    "ambiguous": {
        "anyOf": [
            {"type": "object", "properties": {"k": {"type": "string", "pattern": f"a*{i}b"}}}
            for i in range(300)
        ]
    },
}  # fmt: skip


@pytest.mark.parametrize("model", ["text"], indirect=True)
def test_hostile_schemas_end_within_a_limit_while_others_go_on(model: LocalModel) -> None:
    never = dict.fromkeys(TOKENIZER.stop_ids, -100.0)
    plain = request([message("user", "Hello")], sampling=Sampling(max_tokens=90, logit_bias=never))
    # In seconds of this process, which nobody else on the machine can lengthen.
    gaps: list[float] = []
    ticks: list[float] = []
    ends: dict[str, str] = {}
    told: list[str] = []

    async def neighbour(busy: list[bool]) -> None:
        while busy:
            last = time.process_time()
            async for event in model.stream(plain):
                if isinstance(event, TextDelta):
                    gaps.append(time.process_time() - last)
                    last = time.process_time()

    async def clock(busy: list[bool]) -> None:
        while busy:
            start = time.process_time()
            await asyncio.sleep(0.01)
            ticks.append(time.process_time() - start)

    async def attack(name: str, schema: Json) -> None:
        try:
            asked = ask(model, response_format=JsonFormat(schema), max_tokens=30)
            ends[name] = (await collect(model.stream(asked))).reason
        except RequestError as error:
            ends[name] = "refused"
            told.append(error.message)

    async def all_at_once() -> None:
        busy = [True]
        others = [asyncio.create_task(each) for each in (neighbour(busy), clock(busy))]
        await asyncio.gather(*(attack(name, schema) for name, schema in HOSTILE.items()))
        busy.clear()
        await asyncio.gather(*others)

    start = time.process_time()
    asyncio.run(all_at_once())
    assert time.process_time() - start < 60
    assert set(ends) == set(HOSTILE)
    for name in ("huge", "deep", "a circle", "endless", "contradictory", "remainders"):
        assert ends[name] == "refused", name
    assert not [message for message in told if "\n" in message or len(message) > 600]
    assert max(gaps) < 5, "the engine stood still"
    assert max(ticks) < 2, "the event loop stood still"
