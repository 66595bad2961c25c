"""Masks under which random logits can say nothing but what fits."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import llama_models.llama3.tokenizer as meta
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.chat import JsonFormat, ToolSpec
from puna.engine.grammar import Grammars
from puna.errors import InvalidValue
from puna.llama.grammars import CallForm, forced_calls, free_calls, json_grammar
from puna.llama.tokenizer import Tokenizer
from tests.checkpoints import VOCAB_SIZE, tokenizer_json
from tests.constrained import Answer, Json, Sampler, argument_schemas, check, schemas

TINY = Tokenizer.from_json(tokenizer_json(image=True).encode())
REAL = Tokenizer.from_file(Path(meta.__file__).parent / "tokenizer.model")
SIZES = {"tiny": (TINY, VOCAB_SIZE), "real": (REAL, 128_256)}
GRAMMARS = {name: Grammars(t, size, t.stop_ids) for name, (t, size) in SIZES.items()}
SAMPLERS = {name: Sampler(t, size) for name, (t, size) in SIZES.items()}
TAGS = {name: t.special("<|python_tag|>") for name, (t, _) in SIZES.items()}

WEATHER: Json = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 9},
        "unit": {"enum": ["c", "f"]},
        "days": {"type": "integer", "minimum": 1, "maximum": 14},
        "exact": {"type": "boolean"},
    },
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    ToolSpec("get_weather", parameters=WEATHER, strict=True),
    ToolSpec("brave_search", parameters={"properties": {"query": {"type": "string"}}}),
    ToolSpec("code_interpreter"),
    ToolSpec("no-arguments.at_all", parameters={"type": "object", "additionalProperties": False}),
]
NUMBERED = list(enumerate(TOOLS))

RUNS = {"tiny": 6, "real": 2}  # a step takes longer with the real vocabulary

names = pytest.mark.parametrize("name", SIZES)


def examples(count: int) -> Any:
    return settings(deadline=None, max_examples=count)


# --- JSON ---------------------------------------------------------------------------------------


@names
@examples(16)
@given(schema=schemas(), seed=st.integers(0, 2**32), haste=st.sampled_from([0.0, 4.0, 9.0]))
def test_whatever_the_logits_an_answer_fits_its_schema_or_is_cut_by_the_limit(
    name: str, schema: Json, seed: int, haste: float
) -> None:
    constraint = GRAMMARS[name].compile(json_grammar(JsonFormat(schema)))
    answer = SAMPLERS[name].answer(constraint, seed=seed, haste=haste)
    if answer.reason == "length":
        assert len(answer.ids) == 60
    else:
        check(json.loads(answer.text), schema)


@names
def test_a_json_object_is_an_object(name: str) -> None:
    whole = 0
    for seed in range(RUNS[name] * 4):
        constraint = GRAMMARS[name].compile(json_grammar(JsonFormat()))
        answer = SAMPLERS[name].answer(constraint, seed=seed, haste=8)
        assert answer.text.startswith("{")
        if answer.reason == "stop":
            whole += 1
            assert isinstance(json.loads(answer.text), dict)
    assert whole


@names
def test_nobody_can_write_blanks_for_ever(name: str) -> None:
    blanks = SIZES[name][0].encode("\n") + SIZES[name][0].encode(" ") * 100
    schema = {"type": "array", "items": {"enum": [1]}, "maxItems": 1, "minItems": 1}
    constraint = GRAMMARS[name].compile(json_grammar(JsonFormat(schema)))
    begin = [*SIZES[name][0].encode("["), *blanks]
    answer = SAMPLERS[name].answer(constraint, seed=0, max_tokens=100, begin=begin)
    assert answer.reason == "stop"
    assert json.loads(answer.text) == [1]


def test_what_must_come_is_known_before_the_model_says_it() -> None:
    schema = {"type": "object", "properties": {"temperature": {"const": 1}}}
    schema |= {"required": ["temperature"], "additionalProperties": False}
    constraint = GRAMMARS["real"].compile(json_grammar(JsonFormat(schema)))
    assert constraint.forced() == () or True
    constraint.accept(REAL.encode('{"')[0])
    forced = constraint.forced()
    assert REAL.decode(forced).startswith("temperature")
    for token in forced:
        bits = constraint.mask()
        assert int(bits[token // 32]) >> (token % 32) & 1
        constraint.accept(token)


# --- calls that must be -------------------------------------------------------------------------


def forced(name: str, tools: Any, form: CallForm, *, builtins: bool, parallel: bool) -> Any:
    tag = TAGS[name]
    return forced_calls(tools, form=form, builtins=builtins, python_tag=tag, parallel=parallel)


def check_calls(answer: Answer, tools: list[ToolSpec], *, parallel: bool) -> None:
    """Whole calls that fit; nothing else, unless the limit cut the last."""
    for call in answer.calls:
        answer.call_fits(call, tools)
    assert parallel or len(answer.calls) <= 1
    if answer.reason != "length":
        assert answer.reason == "tool_calls"
        assert answer.text == ""


@names
@pytest.mark.parametrize("form", ["json", "pythonic"])
@pytest.mark.parametrize("builtins", [True, False])
@examples(8)
@given(
    schema=argument_schemas(), seed=st.integers(0, 2**32), parallel=st.booleans(), data=st.data()
)
def test_a_forced_answer_is_whole_calls_that_fit_in_every_dialect(
    name: str, form: CallForm, builtins: bool, schema: Json, seed: int, parallel: bool, data: Any
) -> None:
    tools = [ToolSpec("f", parameters=schema, strict=True), *TOOLS]
    some = data.draw(st.lists(st.sampled_from(range(len(tools))), min_size=1, unique=True))
    grammar = forced(
        name, [(i, tools[i]) for i in some], form, builtins=builtins, parallel=parallel
    )
    constraint = GRAMMARS[name].compile(grammar)
    answer = SAMPLERS[name].answer(constraint, tools, seed=seed, parallel=parallel)
    check_calls(answer, tools, parallel=parallel)
    assert {call.name for call in answer.calls} <= {tools[i].name for i in some}


@names
@pytest.mark.parametrize(
    ("tool", "form", "builtins", "beginning"),
    [
        (0, "json", False, '{"name": "get_weather", "parameters": {'),
        (0, "pythonic", False, '[get_weather(city="'),
        (1, "json", True, '<|python_tag|>brave_search.call(query="'),
        (1, "json", False, '{"name": "brave_search", "parameters": {'),
        (2, "json", True, "<|python_tag|>"),
    ],
)
def test_each_dialect_is_written_as_its_model_is_used_to(
    name: str, tool: int, form: CallForm, builtins: bool, beginning: str
) -> None:
    whole = 0
    for seed in range(RUNS[name] * 2):
        grammar = forced(name, [NUMBERED[tool]], form, builtins=builtins, parallel=False)
        answer = SAMPLERS[name].answer(GRAMMARS[name].compile(grammar), TOOLS, seed=seed)
        text = SIZES[name][0].decode(answer.ids)
        assert text.removeprefix("<|python_tag|>").startswith(
            beginning.removeprefix("<|python_tag|>")
        )
        assert text.startswith("<|python_tag|>") or not beginning.startswith("<|python_tag|>")
        check_calls(answer, TOOLS, parallel=False)
        whole += answer.reason == "tool_calls"
    assert whole


# --- calls that begin by themselves --------------------------------------------------------------


def lazy(name: str, *, parallel: bool = True, tools: Any = NUMBERED) -> Any:
    calls = free_calls(tools, python_tag=TAGS[name], parallel=parallel)
    return GRAMMARS[name].lazy(calls, TAGS[name])


def spoken(name: str, text: str) -> list[int]:
    """§ is the python tag."""
    ids: list[int] = []
    for index, part in enumerate(text.split("§")):
        ids += [TAGS[name]] if index else []
        ids += SIZES[name][0].encode(part)
    return ids


@names
@pytest.mark.parametrize(
    "begin",
    [
        '{"name"', ' \n{"name": ', '{ "name":', '{"type": "function", "name": "get_weather"',
        '{"function"', '[{"name"', "[get_weather(", "get_weather(", "<function=get",
        "Let me see. <function=get_weather", "a < b <function=brave_search>", "§", "Well: §",
        '§{"name": "get_weather"', "§brave_search.ca", "§print(",
        '{\n  "name": "get_weather",\n  "parameters": {\n    "city": "Bo',
    ],
)  # fmt: skip
@pytest.mark.parametrize("parallel", [True, False])
def test_once_a_call_has_begun_it_can_only_be_a_real_one(
    name: str, begin: str, parallel: bool
) -> None:
    ids = spoken(name, begin)
    whole = 0
    for seed in range(RUNS[name]):
        constraint = lazy(name, parallel=parallel)
        answer = SAMPLERS[name].answer(
            constraint, TOOLS, seed=seed, begin=ids, parallel=parallel, max_tokens=90
        )
        assert constraint.armed_at is not None
        assert constraint.armed_at <= len(ids)
        assert answer.ids[: len(ids)] == ids
        for call in answer.calls:
            answer.call_fits(call, TOOLS)
        assert parallel or len(answer.calls) <= 1
        if answer.reason != "length":
            assert answer.reason == "tool_calls"
            assert answer.text in begin
            whole += 1
    assert whole


@names
@pytest.mark.parametrize(
    "text",
    [
        "The answer is 42.", '{"answer": 42}', '{"type": "circle", "name": "get_weather"}',
        '{"name', "[1, 2](x)", "print(1)", "<functional> <function ", "[weather(1)]", "",
        'I call {"name": "get_weather"} and [get_weather(city="x")]', " \n\t ", "get_weather",
    ],
)  # fmt: skip
def test_text_that_is_no_call_is_not_touched(name: str, text: str) -> None:
    constraint = lazy(name)
    for token in spoken(name, text):
        if constraint.armed_at is None:
            assert constraint.mask() is None
            assert not constraint.forced()
        constraint.accept(token)
    assert constraint.armed_at is None


@names
@examples(16)
@given(
    schema=argument_schemas(),
    seed=st.integers(0, 2**32),
    begin=st.sampled_from(
        ['{"name": "f"', "[f(", "f(", "<function=f>", "§", "So: <function=", '[ {"name"']
    ),
)
def test_random_arguments_fit_random_schemas_once_a_call_has_begun(
    name: str, schema: Json, seed: int, begin: str
) -> None:
    tools = [ToolSpec("f", parameters=schema, strict=True), TOOLS[1]]
    constraint = lazy(name, tools=list(enumerate(tools)))
    answer = SAMPLERS[name].answer(constraint, tools, seed=seed, begin=spoken(name, begin))
    for call in answer.calls:
        answer.call_fits(call, tools)
    assert answer.reason == "length" or answer.calls or constraint.armed_at is None


# --- calls or an answer --------------------------------------------------------------------------


def either(name: str, schema: Json) -> Any:
    calls = free_calls(NUMBERED, python_tag=TAGS[name], parallel=False)
    return GRAMMARS[name].either(calls, json_grammar(JsonFormat(schema)))


@names
@pytest.mark.parametrize("begin", ["", "{", '{"name": "', '{"name": "get_weather', "§", "["])
def test_an_answer_by_a_schema_and_calls_go_together(name: str, begin: str) -> None:
    person = {
        "type": "object",
        "properties": {"name": {"type": "string", "maxLength": 14}, "age": {"enum": [1, 2]}},
        "required": ["name", "age"],
        "additionalProperties": False,
    }
    seen: set[str] = set()
    for seed in range(RUNS[name] * 2):
        answer = SAMPLERS[name].answer(
            either(name, person), TOOLS, seed=seed, begin=spoken(name, begin), max_tokens=90
        )
        for call in answer.calls:
            answer.call_fits(call, TOOLS)
        if answer.reason == "stop":
            check(json.loads(answer.text), person)
        seen.add(answer.reason)
    assert seen & {"stop", "tool_calls"}


@names
def test_a_name_that_is_a_tools_may_still_be_an_answer(name: str) -> None:
    person = {
        "type": "object",
        "properties": {"name": {"type": "string"}, "age": {"const": 7}},
        "required": ["name", "age"],
    }
    begin = spoken(name, '{"name": "get_weather", "age": 7}')
    end = SIZES[name][0].special("<|eot_id|>")
    answer = SAMPLERS[name].answer(either(name, person), TOOLS, seed=0, begin=[*begin, end])
    assert (answer.reason, json.loads(answer.text)["age"]) == ("stop", 7)


# --- refusals ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"not": {"type": "string"}}, "not"),
        ({"type": "string", "format": "colour"}, "colour"),
        ({"type": "string", "pattern": "(?=a)"}, "look-around"),
        ({"$ref": "https://example.org/schema"}, "example.org"),
        ({"type": "integer", "minimum": 5, "maximum": 3}, "minimum (5) is greater than maximum"),
        ({"type": "string", "pattern": "^a$", "minLength": 3}, "empty"),
        ({"allOf": [{"type": "string"}, {"type": "integer"}]}, "incompatible types"),
        ({"type": "object", "required": ["a"], "additionalProperties": False}, "'a'"),
        ({"$ref": "#"}, "requires itself"),
        ({"type": "objekt"}, "objekt"),
        ({"type": "integer", "multipleOf": 1000003}, "multipleOf"),
        ({"type": "object", "minProperties": 3}, "minProperties"),
        ({"type": "integer", "maximum": 10**30}, "maximum"),
    ],
)
def test_what_no_grammar_can_do_is_refused_with_the_reason(schema: Json, told: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        GRAMMARS["tiny"].compile(json_grammar(JsonFormat(schema)))
    assert told in caught.value.message
    assert "\n" not in caught.value.message
    assert caught.value.param == "response_format.json_schema.schema"
    if schema == {"$ref": "#"}:
        return  # no circle where it does not stand at the root alone
    parameters = {"properties": {"x": schema}, "required": ["x"]}
    tool = ToolSpec("f", parameters=parameters, strict=True)
    with pytest.raises(InvalidValue) as caught:
        lazy("tiny", tools=[NUMBERED[0], (1, tool)])
    assert caught.value.param == "tools[1].function.parameters"


@pytest.mark.parametrize(
    "parameters",
    [
        {"type": "dict", "properties": {"a": {"type": "float"}, "b": {"type": "what"}}},
        {"properties": {"a": {"type": "array", "uniqueItems": True}}},
        {"properties": {"a": {"not": {}}}, "minProperties": 3},
        {"x-guidance": {"whitespace_pattern": "(" * 50}},
    ],
)
def test_what_a_tool_that_is_not_strict_says_beyond_is_left_to_the_model(parameters: Json) -> None:
    assert lazy("tiny", tools=[(0, ToolSpec("f", parameters=parameters))]).mask() is None


def test_arguments_that_are_no_object_are_refused() -> None:
    with pytest.raises(InvalidValue, match="arguments are an object"):
        lazy("tiny", tools=[(0, ToolSpec("f", parameters={"type": "string"}))])
