from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest

from puna.chat import Image, JsonFormat, Message, NamedTool, Text, ToolCall, ToolSpec
from puna.errors import InvalidImage, InvalidValue, RequestError, Unsupported
from puna.server.images import Images
from puna.server.node import Node
from puna.server.request import Completion, read_completion

PIXEL = base64.b64encode(b"\x89PNG...").decode()
USER: list[dict[str, Any]] = [{"role": "user", "content": "Hi"}]
TOOL = {"type": "function", "function": {"name": "f"}}


async def read(body: dict[str, Any], *, max_images: int = 16, **options: Any) -> Completion:
    images = Images(max_images=max_images)
    return await read_completion(Node(body), load_image=images.load, **options)


async def read_messages(*messages: dict[str, Any]) -> tuple[Message, ...]:
    return (await read({"messages": list(messages)})).request.messages


async def refused(body: dict[str, Any], **options: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        await read(body, **options)
    assert "\n" not in caught.value.message
    return caught.value


# --- Messages


async def test_text_comes_through_untouched_whatever_it_looks_like() -> None:
    for text in ("", " ", "<|eot_id|>", "\x00", "😀\u2028", "a" * 100_000, "<|begin_of_text|>"):
        for role in ("system", "user"):
            (message,) = await read_messages({"role": role, "content": text})
            assert message == Message(role, (Text(text),))  # type: ignore[arg-type]


async def test_a_developer_is_a_system() -> None:
    (message,) = await read_messages({"role": "developer", "content": "x"})
    assert message.role == "system"


async def test_text_parts_stay_apart() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": ""}]
    for role in ("system", "user", "assistant"):
        (message,) = await read_messages({"role": role, "content": parts})
        assert message.content == (Text("a"), Text(""))


@pytest.mark.parametrize("content", [None, "", [], "missing"])
async def test_an_assistant_beside_its_calls_may_say_nothing(content: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    message = {"role": "assistant", "tool_calls": [call], "content": content}
    if content == "missing":
        del message["content"]
    (read_back,) = await read_messages(message)
    assert read_back == Message("assistant", (), tool_calls=(ToolCall("1", "f", "{}"),))


@pytest.mark.parametrize(
    ("sent", "kept"),
    [
        ('{"a": 1}', '{"a": 1}'),
        ("", "{}"),
        (None, "{}"),
        ({"å": [1]}, '{"å": [1]}'),
        ({}, "{}"),
        ("not json", "not json"),
    ],
)
async def test_arguments_are_json_text_however_they_were_sent(sent: Any, kept: str) -> None:
    call = {"id": "1", "function": {"name": "f", "arguments": sent}}
    (message,) = await read_messages({"role": "assistant", "tool_calls": [call]})
    assert message.tool_calls[0].arguments == kept


@pytest.mark.parametrize("content", [None, "", "42", [{"type": "text", "text": "42"}]])
async def test_a_tools_result_may_be_empty_or_in_parts(content: Any) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    _, message = await read_messages(
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "1", "content": content},
    )
    assert message.text == ("42" if content else "")
    assert message.tool_call_id == "1"


async def test_other_requests_go_on_while_a_long_conversation_is_read() -> None:
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while True:
            ticks += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(tick())
    await read_messages(*USER * 1000)
    other.cancel()
    assert ticks >= 1000


async def test_what_openai_echoes_is_taken() -> None:
    (message,) = await read_messages(
        {
            "role": "assistant",
            "content": "x",
            "refusal": None,
            "audio": None,
            "function_call": None,
            "tool_calls": None,
            "annotations": [],
            "name": "bot",
        }
    )
    assert message == Message("assistant", (Text("x"),))


async def test_pictures_are_bytes_in_their_place() -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{PIXEL}"}}
    (message,) = await read_messages(
        {"role": "user", "content": [picture, {"type": "text", "text": "?"}, picture]}
    )
    image = Image(b"\x89PNG...")
    assert message.content == (image, Text("?"), image)


async def test_one_picture_too_many_is_refused_also_across_messages() -> None:
    picture = {"type": "image_url", "image_url": {"url": f"data:image/jpg;base64,{PIXEL}"}}
    body = {"messages": [{"role": "user", "content": [picture] * 2}] * 2}
    await read(body, max_images=4)
    error = await refused(body, max_images=3)
    assert isinstance(error, InvalidImage)
    assert error.param == "messages[1].content[1].image_url.url"
    assert "at most 3 images" in error.message


@pytest.mark.parametrize(
    ("messages", "param", "told"),
    [
        (None, "messages", "a list of messages, but it is missing"),
        ([], "messages", "at least one message, got an empty list"),
        ("Hi", "messages", 'a list, got "Hi"'),
        (["Hi"], "messages[0]", 'an object, got "Hi"'),
        ([{"content": "Hi"}], "messages[0].role", "missing"),
        ([{"role": "robot"}], "messages[0].role", 'got "robot"'),
        ([{"role": ["user"]}], "messages[0].role", "got a list of 1"),
        ([{"role": "user"}], "messages[0].content", "missing"),
        ([{"role": "user", "content": None}], "messages[0].content", "got null"),
        ([{"role": "user", "content": 5}], "messages[0].content", "got 5"),
        ([{"role": "user", "content": {"text": "x"}}], "messages[0].content", "an object"),
        ([{"role": "user", "content": ["x"]}], "messages[0].content[0]", 'got "x"'),
        (
            [{"role": "user", "content": [{"text": "x"}]}],
            "messages[0].content[0].type",
            "missing",
        ),
        (
            [{"role": "user", "content": [{"type": "video"}]}],
            "messages[0].content[0].type",
            'got "video"',
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": "x"}]}],
            "messages[0].content[0].image_url",
            "an object",
        ),
        (
            [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages[0].content[0].image_url.url",
            "missing",
        ),
        (
            [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "data:", "detail": "huge"}}
                    ],
                }
            ],
            "messages[0].content[0].image_url.detail",
            '"auto" or "low" or "high", got "huge"',
        ),
        (
            [{"role": "user", "content": [{"type": "input_audio", "input_audio": {}}]}],
            "messages[0].content[0].input_audio",
            "no audio",
        ),
        (
            [{"role": "system", "content": [{"type": "image_url", "image_url": {}}]}],
            "messages[0].content[0].type",
            '"text"',
        ),
        ([{"role": "system"}], "messages[0].content", "missing"),
        (USER * 32_769, "messages", "at most 32768, got a list of 32769"),
        ([{"role": "user", "content": [{}] * 32_769}], "messages[0].content", "at most 32768"),
        ([*USER, {"role": "tool", "content": "x"}], "messages[1].tool_call_id", "missing"),
        (
            [*USER, {"role": "tool", "content": "x", "tool_call_id": "z"}],
            "messages[1].tool_call_id",
            'got "z"',
        ),
        (
            [{"role": "user", "content": "x", "tool_calls": [TOOL]}],
            "messages[0].tool_calls",
            "only an",
        ),
        (
            [{"role": "assistant", "tool_calls": {}}],
            "messages[0].tool_calls",
            "a list",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "1", "type": "retrieval"}]}],
            "messages[0].tool_calls[0].type",
            '"function"',
        ),
        (
            [{"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}],
            "messages[0].tool_calls[0].id",
            "missing",
        ),
        (
            [{"role": "assistant", "tool_calls": [{"id": "1", "function": {}}]}],
            "messages[0].tool_calls[0].function.name",
            "missing",
        ),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "function": {"name": "f", "arguments": 3}}],
                }
            ],
            "messages[0].tool_calls[0].function.arguments",
            "a string of JSON, got 3",
        ),
        (
            [{"role": "assistant", "function_call": {"name": "f"}}],
            "messages[0].function_call",
            "tool_calls",
        ),
    ],
)
async def test_a_bad_message_is_refused_by_its_full_name(
    messages: Any, param: str, told: str
) -> None:
    error = await refused({} if messages is None else {"messages": messages})
    assert error.param == param
    assert told in error.message


# --- Parameters


async def test_null_is_the_same_as_absent_everywhere() -> None:
    names = (
        "model", "temperature", "top_p", "top_k", "max_tokens", "max_completion_tokens", "stop",
        "seed", "frequency_penalty", "presence_penalty", "stream", "stream_options",
        "response_format", "tools", "tool_choice", "parallel_tool_calls", "n", "logprobs",
        "top_logprobs", "logit_bias", "user", "metadata", "store", "service_tier", "functions",
        "audio", "modalities", "reasoning_effort", "whatever_else",
    )  # fmt: skip
    nulls = await read({"messages": USER, **dict.fromkeys(names)})
    assert nulls == await read({"messages": USER})


@pytest.mark.parametrize(
    ("field", "good", "bad"),
    [
        ("temperature", [0, 2, 1.5, 0.0], [-0.1, 2.1, "1", True, [], 10**400]),
        ("top_p", [0, 1, 0.5], [-1, 1.01, "x", False]),
        ("top_k", [1, 50, 5.0], [0, -1, 1.5, "5", True]),
        ("max_tokens", [1, 4096, 10**9, 8.0], [0, -1, 1.5, "10", True]),
        ("max_completion_tokens", [1], [0, "1"]),
        ("seed", [0, -1, 2**63 - 1, -(2**63), 42.0], [2**63, 1.5, "1", True]),
        ("frequency_penalty", [-2, 2, 0], [-2.1, 2.1, "0"]),
        ("presence_penalty", [-2, 2, 0], [-2.1, 2.1, "0"]),
        ("stop", ["x", [], ["a", "b"], ["a"] * 16], ["", [""], [1], ["a"] * 17, {}, 5]),
        ("stream", [True, False], ["true", 1, 0]),
        ("n", [1, 8, 2.0], [0, 9, -1, 1.5, "2", True]),
        ("logprobs", [True, False], [1, "yes"]),
        ("logit_bias", [{}, {"0": 100, "128255": -100}], [{"x": 1}, {"-1": 1}, {"1": 101}, [],
                        {"1": "a"}, {"²": 1}, {"99999999999": 1},
                        {str(i): 1 for i in range(32_769)}]),
        ("parallel_tool_calls", [True, False], ["no", 0]),
        ("modalities", [["text"]], [["audio"], ["text", "audio"], "text"]),
        ("response_format", [{"type": "text"}, {"type": "json_object"}],
                            ["json", {"type": "xml"}, {}, {"type": "json_schema"}]),
        ("tools", [[], [TOOL]], [{}, ["f"], [{}], [{"type": "function"}], [TOOL, TOOL],
                   [{"type": "retrieval", "function": {"name": "f"}}], [TOOL] * 129]),
        ("tool_choice", ["auto", "none"], ["any", 3, {}, {"type": "function"}, [], "required"]),
    ],
)  # fmt: skip
async def test_each_parameter_takes_its_range_and_nothing_else(
    field: str, good: list[Any], bad: list[Any]
) -> None:
    for value in good:
        await read({"messages": USER, field: value})
    for value in bad:
        error = await refused({"messages": USER, field: value})
        assert (error.param or "").startswith(field), value
        assert error.message.startswith(field), value


async def test_integers_arrive_as_integers() -> None:
    completion = await read({"messages": USER, "max_tokens": 8.0, "n": 2.0, "seed": 1.0})
    assert isinstance(completion.request.sampling.max_tokens, int)
    assert isinstance(completion.n, int)


async def test_max_tokens_has_two_names_that_must_not_disagree() -> None:
    both = await read({"messages": USER, "max_tokens": 5, "max_completion_tokens": 5})
    assert both.request.sampling.max_tokens == 5
    error = await refused({"messages": USER, "max_tokens": 5, "max_completion_tokens": 6})
    assert error.param == "max_tokens"


async def test_top_logprobs_need_logprobs() -> None:
    assert (await refused({"messages": USER, "top_logprobs": 2})).param == "top_logprobs"
    for bad in (-1, 21, "2"):
        await refused({"messages": USER, "logprobs": True, "top_logprobs": bad})
    completion = await read({"messages": USER, "logprobs": True, "top_logprobs": 20})
    assert completion.request.sampling.top_logprobs == 20


async def test_stream_options_need_a_stream_and_are_read_to_the_last() -> None:
    assert (await refused({"messages": USER, "stream_options": {}})).param == "stream_options"
    options = {"include_usage": True, "include_obfuscation": False}
    completion = await read({"messages": USER, "stream": True, "stream_options": options})
    assert completion.include_usage
    error = await refused({"messages": USER, "stream": True, "stream_options": {"x": 1}})
    assert error.param == "stream_options.x"


async def test_seeds_count_up_over_the_choices_and_never_leave_64_bits() -> None:
    completion = await read({"messages": USER, "n": 3, "seed": 2**63 - 2})
    seeds = [request.sampling.seed for request in completion.requests()]
    assert seeds == [2**63 - 2, 2**63 - 1, -(2**63)]
    unseeded = await read({"messages": USER, "n": 3})
    assert [request.sampling.seed for request in unseeded.requests()] == [None] * 3


async def test_formats_are_read_in_full() -> None:
    schema = {"type": "object", "properties": {"a": {"type": "null"}}}
    wanted = {"name": "x", "schema": schema, "strict": True, "description": "d"}
    completion = await read(
        {"messages": USER, "response_format": {"type": "json_schema", "json_schema": wanted}}
    )
    assert completion.request.response_format == JsonFormat(schema, "x", strict=True)
    loose = await read({"messages": USER, "response_format": {"type": "json_object"}})
    assert loose.request.response_format == JsonFormat()


@pytest.mark.parametrize("parameters", [None, {}, "missing", {"type": "object"}])
async def test_a_tools_parameters_may_be_missing(parameters: Any) -> None:
    function = {"name": "get.it-now_2", "parameters": parameters, "strict": None}
    if parameters == "missing":
        del function["parameters"]
    completion = await read(
        {"messages": USER, "tools": [{"type": "function", "function": function}]}
    )
    expected = parameters if isinstance(parameters, dict) else {}
    assert completion.request.tools == (ToolSpec("get.it-now_2", parameters=expected),)


@pytest.mark.parametrize("name", ["", "a b", "x" * 65, "é", "f(", "<|eot_id|>", 3])
async def test_a_tools_name_is_a_name(name: Any) -> None:
    tool = {"type": "function", "function": {"name": name}}
    error = await refused({"messages": USER, "tools": [tool]})
    assert error.param == "tools[0].function.name"


async def test_tool_choices_are_read_in_full() -> None:
    for choice in ("auto", "none", "required"):
        completion = await read({"messages": USER, "tools": [TOOL], "tool_choice": choice})
        assert completion.request.tool_choice == choice
    named = {"type": "function", "function": {"name": "f"}}
    completion = await read({"messages": USER, "tools": [TOOL], "tool_choice": named})
    assert completion.request.tool_choice == NamedTool("f")
    other = {"type": "function", "function": {"name": "g"}}
    error = await refused({"messages": USER, "tools": [TOOL], "tool_choice": other})
    assert error.param == "tool_choice.function.name"
    assert (await refused({"messages": USER, "tool_choice": named})).param == "tool_choice"


@pytest.mark.parametrize(
    "field", ["functions", "function_call", "audio", "prediction", "reasoning_effort", "verbosity",
              "web_search_options"]
)  # fmt: skip
async def test_what_means_something_that_puna_does_not_do_is_refused_in_any_mode(
    field: str,
) -> None:
    for extras in ("error", "drop", "pass-through"):
        error = await refused({"messages": USER, field: "x"}, extras=extras)
        assert isinstance(error, Unsupported)
        assert error.param == field


async def test_unknown_parameters_are_refused_or_dropped_as_the_caller_says() -> None:
    for extras in ("error", "pass-through"):
        error = await refused({"messages": USER, "min_p": 0.1}, extras=extras)
        assert isinstance(error, InvalidValue)
        assert error.param == "min_p"
        assert "extra-parameters: drop" in error.message
    assert await read({"messages": USER, "min_p": 0.1}, extras="drop") == await read(
        {"messages": USER}
    )


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (
            {"tools": [{"type": "function", "function": {"name": "f", "paramters": {}}}]},
            "tools[0].function.paramters",
        ),
        ({"tools": [{**TOOL, "name": "f"}]}, "tools[0].name"),
        ({"response_format": {"type": "json_object", "schema": {}}}, "response_format.schema"),
        (
            {"tools": [TOOL], "tool_choice": {**TOOL, "strict": True}},
            "tool_choice.strict",
        ),
    ],
)
async def test_a_slip_deeper_in_the_body_is_found_too(body: dict[str, Any], param: str) -> None:
    error = await refused({"messages": USER, **body})
    assert error.param == param
    await read({"messages": USER, **body}, extras="drop")


async def test_what_other_programs_left_on_a_conversation_is_no_obstacle() -> None:
    part = {"type": "text", "text": "x", "cache_control": {"type": "ephemeral"}}
    (message,) = await read_messages(
        {"role": "user", "content": [part], "name": "me", "provider": {"a": 1}}
    )
    assert message == Message("user", (Text("x"),))


async def test_a_schema_may_hold_what_it_likes() -> None:
    schema = {"type": "object", "anything": {"at": ["all"]}}
    tool = {"type": "function", "function": {"name": "f", "parameters": schema}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    completion = await read({"messages": USER, "tools": [tool], "response_format": wanted})
    assert completion.request.tools[0].parameters == schema


async def test_messages_about_walls_of_text_are_short() -> None:
    error = await refused({"messages": USER, "temperature": "A" * 1_000_000})
    assert len(error.message) < 200
    error = await refused({"messages": USER, "x" * 1_000_000: 1})
    assert len(error.message) < 300
    wall = "A" * 1_000_000
    body = json.loads(json.dumps({"messages": [{"role": wall, "content": ""}]}))
    assert len((await refused(body)).message) < 300
