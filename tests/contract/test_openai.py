"""What openai needs of the wire, tried with openai itself."""

from __future__ import annotations

import base64
import json
import math
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from puna.chat import Finished, Image, TextDelta, TokenLogprob, ToolCall, Usage
from puna.errors import ContextTooLong, EngineFailed, Overloaded
from puna.scripted import ScriptedModel
from tests.contract.conftest import KEY, Server
from tests.contract.test_azure import until

USER: Any = [{"role": "user", "content": "Hello?"}]
TOOL: Any = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture
def client(server: Server) -> Iterator[openai.OpenAI]:
    with connect(server.url) as client:
        yield client


def connect(url: str, key: str = "any", **fields: Any) -> openai.OpenAI:
    fields.setdefault("max_retries", 0)
    return openai.OpenAI(base_url=f"{url}/v1", api_key=key, **fields)


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    return client.chat.completions.create(**{"model": "cria-text", "messages": USER, **fields})


# --- Answers


def test_a_plain_question_is_answered(client: openai.OpenAI) -> None:
    answer = ask(client)
    assert answer.choices[0].message.content == "Hello there!"
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert (answer.object, answer.model) == ("chat.completion", "cria-text")
    assert answer.usage.prompt_tokens_details.cached_tokens == 0
    assert answer._request_id


def test_parameters_that_change_nothing_are_taken(client: openai.OpenAI) -> None:
    answer = ask(
        client,
        user="me",
        metadata={"a": "b"},
        store=False,
        service_tier="auto",
        safety_identifier="me",
        prompt_cache_key="k",
        parallel_tool_calls=True,
        modalities=["text"],
        extra_body={"seed": None, "stop": None, "reasoning_effort": None},
    )
    assert answer.choices[0].message.content == "Hello there!"


def test_every_parameter_of_the_sdk_that_counts_arrives(
    server: Server, client: openai.OpenAI
) -> None:
    ask(
        client,
        temperature=0,
        top_p=1,
        max_completion_tokens=9,
        stop="END",
        seed=-1,
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={"128009": -100, "7": 5},
        logprobs=True,
        top_logprobs=3,
        parallel_tool_calls=False,
        extra_body={"top_k": 40},
    )
    (request,) = server.text.model.requests
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0, 1, 40)
    assert (sampling.max_tokens, sampling.stop, sampling.seed) == (9, ("END",), -1)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (0.5, -0.5)
    assert sampling.logit_bias == {128009: -100, 7: 5}
    assert (sampling.logprobs, sampling.top_logprobs) == (True, 3)
    assert request.parallel_tool_calls is False


def test_n_answers_come_from_n_seeds(server: Server, client: openai.OpenAI) -> None:
    model = server.says(lambda request: f"seed {request.sampling.seed}")
    answer = ask(client, n=3, seed=7)
    assert [c.message.content for c in answer.choices] == ["seed 7", "seed 8", "seed 9"]
    assert [c.index for c in answer.choices] == [0, 1, 2]
    assert answer.usage.prompt_tokens == 1
    assert answer.usage.completion_tokens == 6
    assert len(model.requests) == 3


def test_logprobs_have_openais_shape(server: Server, client: openai.OpenAI) -> None:
    half = "😀".encode()
    tokens = (
        TokenLogprob("\ufffd", half[:2], -0.5, (TokenLogprob("a", b"a", -math.inf),)),
        TokenLogprob("\ufffd", half[2:], -0.25),
    )
    events = [TextDelta("", tokens[:1]), TextDelta("😀", tokens[1:]), Finished("stop", Usage(1, 2))]
    server.says(events)
    answer = ask(client, logprobs=True, top_logprobs=1)
    content = answer.choices[0].logprobs.content
    assert b"".join(bytes(token.bytes) for token in content).decode() == "😀"
    assert [token.logprob for token in content] == [-0.5, -0.25]
    assert content[0].top_logprobs[0].logprob == -9999.0

    streamed = [
        token
        for chunk in ask(client, logprobs=True, top_logprobs=1, stream=True)
        if chunk.choices[0].logprobs
        for token in chunk.choices[0].logprobs.content
    ]
    assert streamed == content
    assert ask(client).choices[0].logprobs is None


def test_pictures_arrive_whatever_their_label_says(server: Server, client: openai.OpenAI) -> None:
    data = bytes(range(256))
    url = "data:application/x-nonsense;base64," + base64.b64encode(data).decode()
    parts = [
        {"type": "image_url", "image_url": {"url": url, "detail": "high"}},
        {"type": "text", "text": "What is this?"},
        {"type": "image_url", "image_url": {"url": url}},
    ]
    ask(
        client, model="llama-3.2-11b-vision-instruct", messages=[{"role": "user", "content": parts}]
    )
    (message,) = server.vision.model.requests[0].messages
    assert [type(part) for part in message.content] == [Image, type(message.content[1]), Image]
    assert message.content[0] == Image(data)


# --- Streams


def test_a_stream_gives_role_text_reason_and_done(server: Server, client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True))
    assert chunks[0].choices[0].delta.role == "assistant"
    assert "".join(c.choices[0].delta.content or "" for c in chunks) == "Hello there!"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * (len(chunks) - 1) + ["stop"]
    assert all(c.usage is None for c in chunks)


def test_usage_comes_in_one_last_chunk_without_choices(client: openai.OpenAI) -> None:
    chunks = list(ask(client, stream=True, stream_options={"include_usage": True}))
    assert [len(c.choices) for c in chunks] == [1] * (len(chunks) - 1) + [0]
    assert chunks[-1].usage.total_tokens == 3
    assert all(c.usage is None for c in chunks[:-1])


def test_the_streams_of_n_choices_keep_apart(server: Server, client: openai.OpenAI) -> None:
    server.says(lambda request: f"I am {request.sampling.seed}", delay=0.001)
    texts = {0: "", 1: "", 2: ""}
    reasons = {}
    for chunk in ask(client, stream=True, n=3, seed=1):
        (choice,) = chunk.choices
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            assert choice.index not in reasons
            reasons[choice.index] = choice.finish_reason
    assert texts == {0: "I am 1", 1: "I am 2", 2: "I am 3"}
    assert reasons == {0: "stop", 1: "stop", 2: "stop"}


def test_the_accumulating_stream_helper_joins_tool_calls(
    server: Server, client: openai.OpenAI
) -> None:
    server.says([TextDelta("So: "), ToolCall("call_9", "get_weather", '{"city": "Kiruna"}')])
    with client.chat.completions.stream(model="cria-text", messages=USER, tools=[TOOL]) as stream:
        final = stream.get_final_completion()
    message = final.choices[0].message
    assert message.content == "So: "
    (call,) = message.tool_calls or ()
    assert (call.id, call.function.name) == ("call_9", "get_weather")
    assert json.loads(call.function.arguments) == {"city": "Kiruna"}
    assert final.choices[0].finish_reason == "tool_calls"


def test_an_answer_can_be_sent_back_just_as_it_came(server: Server, client: openai.OpenAI) -> None:
    server.says([ToolCall("call_1", "get_weather", "{}")], "Sun.")
    message = ask(client, tools=[TOOL]).choices[0].message
    history = [
        *USER,
        message.model_dump(),  # with refusal, audio, function_call: null
        {"role": "tool", "tool_call_id": "call_1", "content": [{"type": "text", "text": "18 °C"}]},
    ]
    assert ask(client, messages=history, tools=[TOOL]).choices[0].message.content == "Sun."


def test_a_failure_within_a_stream_is_raised_with_its_message(
    server: Server, client: openai.OpenAI
) -> None:
    server.says([TextDelta("half"), EngineFailed("The engine failed.")])
    with pytest.raises(openai.APIError, match="The engine failed"):
        list(ask(client, stream=True))


def test_a_closed_stream_stops_the_model(server: Server, client: openai.OpenAI) -> None:
    model = server.says("word " * 2000, delay=0.002)
    stream = ask(client, stream=True, n=2)
    next(stream)
    stream.close()
    until(lambda: model.cancelled == 2 and model.running == 0)


# --- Errors


def test_a_wrong_key_is_an_authentication_error(keyed_server: Server) -> None:
    with (
        connect(keyed_server.url, "wrong", max_retries=2) as client,
        pytest.raises(openai.AuthenticationError) as caught,
    ):
        ask(client)
    assert (caught.value.status_code, caught.value.code) == (401, "unauthorized")


def test_an_unknown_model_has_openais_code(client: openai.OpenAI) -> None:
    with pytest.raises(openai.NotFoundError) as caught:
        ask(client, model="gpt-4o")
    assert (caught.value.code, caught.value.param) == ("model_not_found", "model")
    assert "Unknown model: gpt-4o" in caught.value.message


def test_a_bad_value_names_its_parameter(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        ask(client, messages=[{"role": "user", "content": [{"type": "text"}]}])
    assert caught.value.code == "invalid_value"
    assert caught.value.param == "messages[0].content[0].text"
    assert caught.value.type == "invalid_request_error"


def test_too_many_tokens_are_an_error_with_both_numbers(
    server: Server, client: openai.OpenAI
) -> None:
    server.says(
        ContextTooLong("The prompt has 5000 tokens; 4096 fit.", prompt_tokens=5000, limit=4096)
    )
    with pytest.raises(openai.BadRequestError, match=r"5000.*4096") as caught:
        ask(client)
    assert caught.value.code == "context_length_exceeded"


def test_a_full_queue_is_a_rate_limit_error_that_is_tried_again(server: Server) -> None:
    model = server.says(Overloaded("Busy.", retry_after=1), "At last.")
    with connect(server.url, max_retries=1) as client:
        assert ask(client).choices[0].message.content == "At last."
    assert len(model.requests) == 2
    server.says(Overloaded("Busy.", retry_after=1))
    with connect(server.url) as client, pytest.raises(openai.RateLimitError) as caught:
        ask(client)
    assert caught.value.code == "RateLimitReached"


def test_a_server_that_is_full_says_so_before_it_asks_the_model(keyed_server: Server) -> None:
    model = keyed_server.says("word " * 2000, delay=0.005)
    with connect(keyed_server.url, KEY) as client:
        stream = ask(client, stream=True)
        next(stream)
        with pytest.raises(openai.RateLimitError, match="at most 2"):
            ask(client, n=2)
        stream.close()
        until(lambda: model.running == 0)
        keyed_server.says("Room again.")
        until(lambda: _answers(client))
    assert len(model.requests) == 1


def _answers(client: openai.OpenAI) -> bool:
    try:
        return bool(ask(client).choices)
    except openai.RateLimitError:
        return False


def test_a_failure_of_the_engine_is_an_internal_server_error(
    server: Server, client: openai.OpenAI
) -> None:
    server.says(EngineFailed("The engine failed."))
    with pytest.raises(openai.InternalServerError, match="The engine failed"):
        ask(client)


def test_a_fault_that_nobody_foresaw_tells_the_caller_no_secrets(
    server: Server, client: openai.OpenAI
) -> None:
    def fault(_: Any) -> str:
        raise KeyError("/home/secret")

    for stream in (False, True):
        server.says(fault)
        with pytest.raises(openai.InternalServerError) as caught:
            ask(client, stream=stream)
        assert "secret" not in str(caught.value.body)
        assert "log" in str(caught.value.body)


def test_what_is_not_served_is_not_found_and_says_what_is(client: openai.OpenAI) -> None:
    calls: list[Any] = [
        lambda: client.embeddings.create(model="m", input="x", encoding_format="float"),
        lambda: client.responses.create(model="m", input="x"),
        lambda: client.completions.create(model="m", prompt="x"),
        lambda: client.moderations.create(input="x"),
    ]
    for call in calls:
        with pytest.raises(openai.NotFoundError, match="not served here") as caught:
            call()
        assert caught.value.code == "not_served"


# --- Who is there


def test_models_are_listed_and_found_with_slashes(client: openai.OpenAI) -> None:
    ids = [model.id for model in client.models.list()]
    assert ids == [
        "cria-text",
        "Llama-3.2-11B-Vision-Instruct",
        "meta-llama-3.1-405b-instruct",
        "Llama-3.2-90B-Vision-Instruct",
    ]
    model = client.models.retrieve("meta/llama-3.2-90b-vision-instruct")
    assert model.owned_by == "meta"
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("gpt-4o")
    assert caught.value.code == "model_not_found"


def test_azures_own_openai_client_reaches_its_deployment(keyed_server: Server) -> None:
    keyed_server.says("Deployed.")
    with openai.AzureOpenAI(
        azure_endpoint=keyed_server.url, api_key=KEY, api_version="2024-10-21"
    ) as client:
        answer = ask(client)  # type: ignore[arg-type]
    assert answer.choices[0].message.content == "Deployed."


# --- The asynchronous client


async def test_the_asynchronous_client_gets_answers_streams_and_errors(server: Server) -> None:
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="any", max_retries=0
    ) as client:
        create: Any = client.chat.completions.create
        answer = await create(model="cria-text", messages=USER)
        assert answer.choices[0].message.content == "Hello there!"
        stream = await create(model="cria-text", messages=USER, stream=True)
        text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream])
        assert text == "Hello there!"
        with pytest.raises(openai.NotFoundError):
            await create(model="gpt-4o", messages=USER)


async def test_a_cancelled_wait_stops_the_model(server: Server) -> None:
    model: ScriptedModel = server.says("never", delay=30)
    async with openai.AsyncOpenAI(
        base_url=f"{server.url}/v1", api_key="any", max_retries=0, timeout=0.2
    ) as client:
        started = time.monotonic()
        with pytest.raises(openai.APITimeoutError):
            await client.chat.completions.create(model="cria-text", messages=USER)
    until(lambda: model.cancelled == 1 and model.running == 0)
    assert time.monotonic() - started < 1.5
