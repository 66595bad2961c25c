"""What azure-ai-inference needs of the wire, tried with azure-ai-inference itself."""

from __future__ import annotations

import base64
import io
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.ai.inference import ChatCompletionsClient, EmbeddingsClient, aio, load_client
from azure.ai.inference.models import (
    AssistantMessage,
    AudioContentItem,
    ChatCompletionsNamedToolChoice,
    ChatCompletionsNamedToolChoiceFunction,
    ChatCompletionsToolCall,
    ChatCompletionsToolDefinition,
    DeveloperMessage,
    FunctionCall,
    FunctionDefinition,
    ImageContentItem,
    ImageDetailLevel,
    ImageUrl,
    InputAudio,
    JsonSchemaFormat,
    SystemMessage,
    TextContentItem,
    ToolMessage,
    UserMessage,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import (
    ClientAuthenticationError,
    HttpResponseError,
    ResourceNotFoundError,
)
from PIL import Image as Picture

from puna.chat import Finished, Image, NamedTool, Text, TextDelta, ToolCall, Usage
from puna.errors import ContextTooLong, EngineFailed, Overloaded, Unsupported
from tests.contract.conftest import KEY, Server

WEATHER = ChatCompletionsToolDefinition(
    function=FunctionDefinition(
        name="get_weather",
        description="The weather of a city.",
        parameters={"type": "object", "properties": {"city": {"type": "string"}}},
    )
)


@pytest.fixture
def client(server: Server) -> Iterator[ChatCompletionsClient]:
    with ChatCompletionsClient(server.url, AzureKeyCredential("any")) as client:
        yield client


def connect(url: str, key: str = KEY, **fields: Any) -> ChatCompletionsClient:
    return ChatCompletionsClient(url, AzureKeyCredential(key), **fields)


# --- Answers


def test_a_plain_question_is_answered(server: Server, client: ChatCompletionsClient) -> None:
    answer = client.complete(messages=[SystemMessage("Be kind."), UserMessage("Hello?")])
    assert answer.choices[0].message.content == "Hello there!"
    assert answer.choices[0].message.role == "assistant"
    assert answer.choices[0].message.tool_calls is None
    assert answer.choices[0].finish_reason == "stop"
    assert answer.model == "cria-text"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert abs(answer.created.timestamp() - time.time()) < 60
    (request,) = server.text.model.requests
    assert [m.role for m in request.messages] == ["system", "user"]


def test_the_first_program_of_the_lesson_reaches_the_model_untouched(
    server: Server, client: ChatCompletionsClient
) -> None:
    prompt = (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        "Environment: ipython\nTools: brave_search, wolfram_alpha\n"
        "Cutting Knowledge Date: December 2023\nToday Date: 23 July 2024\n\n"
        "You are a helpful assistant<|eot_id|>"
    )
    call = '<|python_tag|>brave_search.call(query="Stockholm weather")'
    model = server.says(call)
    answer = client.complete(
        messages=[
            SystemMessage(content=prompt),
            UserMessage(content="What is the weather in Stockholm?"),
        ],
        model="meta-llama-3.1-405b-instruct",
    )
    assert answer.choices[0].message.content == call
    assert answer.choices[0].finish_reason == "stop"
    assert answer.choices[0].message.tool_calls is None
    assert answer.model == "cria-text"
    assert [m.text for m in model.requests[0].messages] == [
        prompt,
        "What is the weather in Stockholm?",
    ]


def test_the_second_program_of_the_lesson_sends_its_picture_byte_for_byte(
    server: Server, client: ChatCompletionsClient, tmp_path: Path
) -> None:
    file = tmp_path / "sample.jpg"
    Picture.new("RGB", (8, 8), "red").save(file, format="JPEG")
    answer = client.complete(
        messages=[
            SystemMessage("You are a helpful assistant that describes images in details."),
            UserMessage(
                content=[
                    TextContentItem(text="What's in this image?"),
                    ImageContentItem(
                        image_url=ImageUrl.load(
                            image_file=str(file), image_format="jpg", detail=ImageDetailLevel.LOW
                        )
                    ),
                ]
            ),
        ],
        model="Llama-3.2-90B-Vision-Instruct",
    )
    assert answer.choices[0].message.content == "A red square."
    assert answer.model == "Llama-3.2-11B-Vision-Instruct"
    (request,) = server.vision.model.requests
    assert request.messages[0].text.endswith("describes images in details.")
    assert request.messages[1].content == (Text("What's in this image?"), Image(file.read_bytes()))


def test_every_parameter_of_the_sdk_arrives(server: Server, client: ChatCompletionsClient) -> None:
    client.complete(
        messages=[DeveloperMessage("Be brief."), UserMessage("Hello?")],
        model="META/CRIA-TEXT",
        temperature=0.25,
        top_p=0.5,
        max_tokens=7,
        stop=["\n", "END"],
        seed=42,
        frequency_penalty=-1,
        presence_penalty=2,
        response_format="text",
    )
    (request,) = server.text.model.requests
    assert request.messages[0].role == "system"
    sampling = request.sampling
    assert (sampling.temperature, sampling.top_p, sampling.max_tokens) == (0.25, 0.5, 7)
    assert (sampling.stop, sampling.seed) == (("\n", "END"), 42)
    assert (sampling.frequency_penalty, sampling.presence_penalty) == (-1, 2)
    assert request.response_format is None


@pytest.mark.parametrize(
    "root",
    [
        "",
        "/",
        "/inference",
        "/orgs/acme/inference",
        "/v1",
        "/models",
        "/openai/v1",
        "/openai/deployments/cria-text",
    ],
)
def test_every_root_that_programs_know_leads_to_the_same_answer(server: Server, root: str) -> None:
    with connect(server.url + root, api_version="1999-12-31") as client:
        answer = client.complete(messages=[UserMessage("Hello?")])
    assert answer.choices[0].message.content == "Hello there!"


@pytest.mark.parametrize(
    "name",
    ["cria-text", "CRIA-Text", "puna/cria-text", "meta/Meta-Llama-3.1-405B-Instruct", None],
)
def test_names_match_in_any_case_with_or_without_their_publisher(
    server: Server, client: ChatCompletionsClient, name: str | None
) -> None:
    answer = client.complete(messages=[UserMessage("Hello?")], model=name)
    assert answer.model == "cria-text"


def test_a_body_given_as_a_dict_or_as_a_file_works_too(
    server: Server, client: ChatCompletionsClient
) -> None:
    body = {"messages": [{"role": "user", "content": "Hello?"}]}
    assert client.complete(body).choices[0].message.content == "Hello there!"
    file = io.BytesIO(json.dumps(body).encode())
    assert client.complete(file).choices[0].message.content == "Hello there!"


# --- Streams


def test_a_stream_gives_the_text_and_choices_in_every_update(
    server: Server, client: ChatCompletionsClient
) -> None:
    server.says([TextDelta("Göteborg "), TextDelta("\u2028😀"), TextDelta("\r\n\x85data: x\n\n")])
    updates = list(client.complete(messages=[UserMessage("?")], stream=True))
    text = "".join(update.choices[0].delta.content or "" for update in updates)
    assert text == "Göteborg \u2028😀\r\n\x85data: x\n\n"
    assert updates[0].choices[0].delta.role == "assistant"
    assert [u.choices[0].finish_reason for u in updates] == [None] * (len(updates) - 1) + ["stop"]
    assert len({(u.id, u.model, u.created) for u in updates}) == 1


def test_usage_comes_in_a_last_update_only_where_it_was_asked_for(
    server: Server, client: ChatCompletionsClient
) -> None:
    updates = list(
        client.complete(
            messages=[UserMessage("?")],
            stream=True,
            model_extras={"stream_options": {"include_usage": True}},
        )
    )
    assert updates[-1].choices == []
    assert updates[-1].usage.completion_tokens == 2


def test_a_stream_can_be_closed_early_and_the_model_stops(
    server: Server, client: ChatCompletionsClient
) -> None:
    model = server.says("word " * 2000, delay=0.002)
    stream = client.complete(messages=[UserMessage("?")], stream=True)
    next(stream)
    stream.close()
    until(lambda: model.cancelled == 1 and model.running == 0)


def test_a_failure_within_a_stream_is_an_exception_and_not_a_short_answer(
    server: Server, client: ChatCompletionsClient
) -> None:
    server.says([TextDelta("half"), EngineFailed("The engine failed.")])
    with pytest.raises(HttpResponseError):
        list(client.complete(messages=[UserMessage("?")], stream=True))


def test_a_bad_request_is_a_status_also_where_a_stream_was_asked_for(
    server: Server, client: ChatCompletionsClient
) -> None:
    server.says(ContextTooLong("5000 tokens, 4096 fit.", prompt_tokens=5000, limit=4096))
    with pytest.raises(HttpResponseError, match="5000 tokens, 4096 fit") as caught:
        client.complete(messages=[UserMessage("?")], stream=True)
    assert caught.value.status_code == 400
    assert caught.value.error.code == "context_length_exceeded"


# --- Tools


def test_a_tool_is_called_and_its_result_sent_back(
    server: Server, client: ChatCompletionsClient
) -> None:
    model = server.says([ToolCall("call_1", "get_weather", '{"city": "Umeå"}')], "It snows.")
    messages: list[Any] = [UserMessage("Weather in Umeå?")]
    answer = client.complete(messages=messages, tools=[WEATHER])
    assert answer.choices[0].finish_reason == "tool_calls"
    assert answer.choices[0].message.content is None
    (call,) = answer.choices[0].message.tool_calls
    assert (call.id, call.type) == ("call_1", "function")
    assert json.loads(call.function.arguments) == {"city": "Umeå"}

    messages.append(AssistantMessage(tool_calls=answer.choices[0].message.tool_calls))
    messages.append(ToolMessage("-3 °C", tool_call_id=call.id))
    answer = client.complete(messages=messages, tools=[WEATHER])
    assert answer.choices[0].message.content == "It snows."
    user, assistant, tool = model.requests[1].messages
    assert user.role == "user"
    assert assistant.tool_calls == (ToolCall("call_1", "get_weather", '{"city": "Umeå"}'),)
    assert assistant.content == ()
    assert (tool.text, tool.tool_call_id) == ("-3 °C", "call_1")
    assert model.requests[0].tools[0].parameters["properties"] == {"city": {"type": "string"}}


def test_streamed_calls_are_joined_from_their_fragments(
    server: Server, client: ChatCompletionsClient
) -> None:
    arguments = json.dumps({"text": "😀" * 5000})
    server.says([ToolCall("a", "get_weather", arguments), ToolCall("b", "get_weather", "{}")])
    calls: dict[int, list[str]] = {}
    reasons: list[str] = []
    # As Microsoft's own samples join them.
    for update in client.complete(messages=[UserMessage("?")], tools=[WEATHER], stream=True):
        for call in update.choices[0].delta.tool_calls or []:
            if call.id:
                calls[call["index"]] = [call.id, call.function.name, ""]
            calls[call["index"]][2] += call.function.arguments
        if update.choices[0].finish_reason:
            reasons.append(update.choices[0].finish_reason)
    assert calls == {0: ["a", "get_weather", arguments], 1: ["b", "get_weather", "{}"]}
    assert reasons == ["tool_calls"]


def test_arguments_sent_as_an_object_are_taken_as_microsofts_own_tests_send_them(
    server: Server, client: ChatCompletionsClient
) -> None:
    call = ChatCompletionsToolCall(
        id="x",
        function=FunctionCall(name="get_weather", arguments={"city": "Oslo"}),  # type: ignore[arg-type]
    )
    client.complete(
        messages=[
            UserMessage("?"),
            AssistantMessage(content="", tool_calls=[call]),
            ToolMessage(tool_call_id="x"),
        ],
        tools=[WEATHER],
    )
    _, assistant, tool = server.text.model.requests[0].messages
    assert json.loads(assistant.tool_calls[0].arguments) == {"city": "Oslo"}
    assert tool.text == ""


def test_forced_choices_and_formats_are_understood_and_refused_by_name(
    server: Server, client: ChatCompletionsClient
) -> None:
    model = server.says(Unsupported("tool_choice: not yet.", param="tool_choice"))
    named = ChatCompletionsNamedToolChoice(
        function=ChatCompletionsNamedToolChoiceFunction(name="get_weather")
    )
    schema = JsonSchemaFormat(name="city", schema={"type": "object"}, strict=True)
    for fields in (
        {"tools": [WEATHER], "tool_choice": named},
        {"tools": [WEATHER], "tool_choice": "required"},
        {"response_format": "json_object"},
        {"response_format": schema},
    ):
        with pytest.raises(HttpResponseError) as caught:
            client.complete(messages=[UserMessage("?")], **fields)
        assert caught.value.status_code == 400
        assert caught.value.error.code == "unsupported_parameter"
    assert model.requests[0].tool_choice == NamedTool("get_weather")
    assert model.requests[1].tool_choice == "required"
    assert model.requests[2].response_format.schema is None
    assert model.requests[3].response_format.schema == {"type": "object"}
    assert model.requests[3].response_format.strict


# --- Errors


def test_a_wrong_key_is_an_authentication_error_and_is_not_tried_again(
    keyed_server: Server,
) -> None:
    before = keyed_server.answered(401)
    with (
        connect(keyed_server.url, "wrong") as client,
        pytest.raises(ClientAuthenticationError, match="Bad credentials") as caught,
    ):
        client.complete(messages=[UserMessage("Hello?")])
    assert caught.value.status_code == 401
    assert caught.value.error.code == "unauthorized"
    assert keyed_server.answered(401) == before + 1


def test_the_right_key_is_let_in(keyed_server: Server) -> None:
    keyed_server.says("Welcome.")
    with connect(keyed_server.url) as client:
        answer = client.complete(messages=[UserMessage("Hello?")])
    assert answer.choices[0].message.content == "Welcome."


def test_an_unknown_model_is_not_found_and_those_that_are_loaded_are_listed(
    client: ChatCompletionsClient,
) -> None:
    with pytest.raises(ResourceNotFoundError) as caught:
        client.complete(messages=[UserMessage("Hello?")], model="gpt-4o")
    assert caught.value.error.code == "unknown_model"
    assert "Unknown model: gpt-4o" in caught.value.message
    assert "cria-text" in caught.value.message


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"temperature": 3}, "temperature"),
        ({"top_p": -0.1}, "top_p"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"stop": [1]}, "stop"),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, "tools"),
        ({"model_extras": {"top_secret": 1}}, "top_secret"),
    ],
)
def test_a_bad_value_is_an_error_that_names_it_and_is_not_tried_again(
    server: Server, client: ChatCompletionsClient, fields: dict[str, Any], named: str
) -> None:
    before = server.answered(400)
    with pytest.raises(HttpResponseError, match=named) as caught:
        client.complete(messages=[UserMessage("Hello?")], **fields)
    assert caught.value.status_code == 400
    assert server.answered(400) == before + 1


def test_extra_parameters_are_dropped_where_the_header_says_so(
    server: Server, client: ChatCompletionsClient
) -> None:
    body = {"messages": [{"role": "user", "content": "?"}], "top_secret": 1}
    answer = client.complete(body, headers={"extra-parameters": "drop"})
    assert answer.choices[0].message.content == "Hello there!"
    with pytest.raises(HttpResponseError, match="top_secret"):
        client.complete(body, headers={"extra-parameters": "error"})


def test_model_extras_reach_the_engine(server: Server, client: ChatCompletionsClient) -> None:
    client.complete(messages=[UserMessage("?")], model_extras={"top_k": 5})
    assert server.text.model.requests[0].sampling.top_k == 5


def test_audio_is_refused_by_name(client: ChatCompletionsClient) -> None:
    audio = AudioContentItem(input_audio=InputAudio(data="aaaa", format="wav"))
    with pytest.raises(HttpResponseError, match="audio") as caught:
        client.complete(messages=[UserMessage(content=[audio])])
    assert caught.value.status_code == 400


def test_a_remote_picture_is_refused_with_what_to_send_instead(
    client: ChatCompletionsClient,
) -> None:
    picture = ImageContentItem(image_url=ImageUrl(url="https://example.com/a.jpg"))
    with pytest.raises(HttpResponseError, match="data URL") as caught:
        client.complete(
            messages=[UserMessage(content=[picture])], model="Llama-3.2-11B-Vision-Instruct"
        )
    assert caught.value.status_code == 400


def test_a_picture_for_a_model_that_does_not_see_is_refused(client: ChatCompletionsClient) -> None:
    data = base64.b64encode(b"\xff\xd8\xff").decode()
    picture = ImageContentItem(image_url=ImageUrl(url=f"data:image/jpg;base64,{data}"))
    with pytest.raises(HttpResponseError, match="images go to: Llama"):
        client.complete(messages=[UserMessage(content=[picture])], model="cria-text")


def test_a_body_that_is_too_large_is_a_413(keyed_server: Server) -> None:
    with connect(keyed_server.url) as client, pytest.raises(HttpResponseError) as caught:
        client.complete(messages=[UserMessage("x" * 30_000)])
    assert caught.value.status_code == 413
    assert caught.value.error.code == "request_body_too_large"


def test_a_full_queue_is_a_429_that_the_client_waits_for_and_tries_again(server: Server) -> None:
    model = server.says(Overloaded("Rate limit.", retry_after=1), "At last.")
    with connect(server.url) as client:
        started = time.monotonic()
        answer = client.complete(messages=[UserMessage("?")])
    assert answer.choices[0].message.content == "At last."
    assert time.monotonic() - started >= 1
    assert len(model.requests) == 2


def test_a_full_queue_carries_the_headers_that_programs_read(server: Server) -> None:
    server.says(Overloaded("Rate limit. Please wait 7 seconds before retrying.", retry_after=7))
    with (
        connect(server.url, retry_total=0) as client,
        pytest.raises(HttpResponseError, match="Please wait 7 seconds") as caught,
    ):
        client.complete(messages=[UserMessage("?")])
    assert caught.value.status_code == 429
    assert caught.value.error.code == "RateLimitReached"
    headers = caught.value.response.headers
    assert headers["Retry-After"] == headers["x-ratelimit-timeremaining"] == "7"
    assert headers["x-ratelimit-type"]
    assert headers["x-ms-error-code"] == "RateLimitReached"


def test_a_failure_of_the_engine_is_a_500_that_the_client_tries_again(server: Server) -> None:
    model = server.says(EngineFailed("The engine failed."), "Recovered.")
    with connect(server.url, retry_backoff_factor=0.01) as client:
        answer = client.complete(messages=[UserMessage("?")])
    assert answer.choices[0].message.content == "Recovered."
    assert len(model.requests) == 2


def test_no_error_but_a_full_queue_makes_the_client_wait(server: Server) -> None:
    model = server.says(ContextTooLong("Too long.", prompt_tokens=2, limit=1))
    with connect(server.url) as client, pytest.raises(HttpResponseError) as caught:
        client.complete(messages=[UserMessage("?")])
    assert "retry-after" not in {name.lower() for name in caught.value.response.headers}
    assert len(model.requests) == 1


# --- Who is there


def test_get_model_info_names_the_default_model(client: ChatCompletionsClient) -> None:
    info = client.get_model_info()
    assert (info.model_name, info.model_type) == ("cria-text", "chat_completion")
    assert info.model_provider_name == "puna"


def test_load_client_gives_a_client_that_works(server: Server) -> None:
    with load_client(server.url, AzureKeyCredential("any")) as client:
        assert isinstance(client, ChatCompletionsClient)
        answer = client.complete(messages=[UserMessage("Hello?")])
    assert answer.choices[0].message.content == "Hello there!"


def test_embeddings_are_refused_with_what_is_served(server: Server) -> None:
    with (
        EmbeddingsClient(server.url, AzureKeyCredential("any")) as client,
        pytest.raises(ResourceNotFoundError, match="Embeddings are not served") as caught,
    ):
        client.embed(input=["Hello"])
    assert caught.value.error.code == "not_served"


def test_the_clients_own_request_id_comes_back(client: ChatCompletionsClient) -> None:
    seen: list[str] = []

    def look(response: Any) -> None:
        sent = response.http_request.headers.get("x-ms-client-request-id")
        seen.extend([sent, response.http_response.headers["x-ms-client-request-id"]])

    client.complete(messages=[UserMessage("?")], raw_response_hook=look)
    assert seen[0] is not None
    assert seen[0] == seen[1]


# --- The asynchronous client


async def test_the_asynchronous_client_gets_answers_streams_and_errors(server: Server) -> None:
    async with aio.ChatCompletionsClient(server.url, AzureKeyCredential("any")) as client:
        answer = await client.complete(messages=[UserMessage("Hello?")])
        assert answer.choices[0].message.content == "Hello there!"

        stream = await client.complete(messages=[UserMessage("Hello?")], stream=True)
        text = "".join([u.choices[0].delta.content or "" async for u in stream])
        assert text == "Hello there!"

        with pytest.raises(ResourceNotFoundError):
            await client.complete(messages=[UserMessage("Hello?")], model="gpt-4o")

        info = await client.get_model_info()
        assert info.model_name == "cria-text"


async def test_the_asynchronous_client_sees_a_failure_within_a_stream(server: Server) -> None:
    server.says([TextDelta("half"), EngineFailed("The engine failed.")])
    async with aio.ChatCompletionsClient(server.url, AzureKeyCredential("any")) as client:
        stream = await client.complete(messages=[UserMessage("?")], stream=True)
        with pytest.raises(HttpResponseError):
            async for _ in stream:
                pass


async def test_the_asynchronous_client_is_let_in_with_the_right_key_alone(
    keyed_server: Server,
) -> None:
    keyed_server.says("Welcome.")
    async with aio.ChatCompletionsClient(keyed_server.url, AzureKeyCredential("no")) as client:
        with pytest.raises(ClientAuthenticationError):
            await client.complete(messages=[UserMessage("?")])
    async with aio.ChatCompletionsClient(keyed_server.url, AzureKeyCredential(KEY)) as client:
        assert (await client.complete(messages=[UserMessage("?")])).choices


def test_a_cut_answer_says_length(server: Server, client: ChatCompletionsClient) -> None:
    server.says([TextDelta("It is"), Finished("length", Usage(3, 2))])
    answer = client.complete(messages=[UserMessage("?")], max_tokens=2)
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage.prompt_tokens == 3


def until(condition: Any, seconds: float = 2.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.005)
