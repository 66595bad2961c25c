"""RemoteModel against Puna's own server, and against servers that misbehave."""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import aclosing, contextmanager
from typing import Any

import httpx2
import pytest

from puna.chat import (
    ChatModel,
    ChatRequest,
    Finished,
    Image,
    JsonFormat,
    ModelCard,
    NamedTool,
    Sampling,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolSpec,
    Usage,
    collect,
    message,
    request,
)
from puna.errors import (
    ContextTooLong,
    EngineFailed,
    InvalidImage,
    InvalidValue,
    Overloaded,
    PunaError,
    RemoteFailed,
    StartupError,
    Unauthorized,
    UnknownModel,
    Unsupported,
)
from puna.remote import RemoteModel, data_url, error_of, request_json
from puna.scripted import ScriptedModel
from puna.server import background, create_app
from puna.settings import Settings

ASK = request([message("user", "How are you?")])
EVERYTHING = ChatRequest(
    messages=(
        message("system", "Be brief."),
        message("user", "What is this?", Image(b"\x89PNG..."), "And this?", Image(b"GIF89a")),
        message("assistant", tool_calls=(ToolCall("1", "f", '{"a": 1}'),)),
        message("tool", "42", tool_call_id="1"),
        message("assistant", "It is 42."),
        message("user", "Thanks 😀\u2028"),
    ),
    tools=(
        ToolSpec("f", "Does f.", {"type": "object", "properties": {"a": {}}}, strict=True),
        ToolSpec("g"),
    ),
    tool_choice=NamedTool("g"),
    parallel_tool_calls=False,
    response_format=JsonFormat({"type": "object"}, "x", strict=True),
    sampling=Sampling(
        temperature=0.0,
        top_p=0.5,
        top_k=3,
        seed=0,
        max_tokens=7,
        stop=("a", "b"),
        frequency_penalty=0.5,
        presence_penalty=-0.5,
        logit_bias={5: -100.0},
        logprobs=True,
        top_logprobs=2,
    ),
)


@contextmanager
def served(model: ChatModel, **settings: Any) -> Iterator[str]:
    with background(create_app({"m": model}, settings=Settings(**settings))) as url:
        yield url


async def test_a_request_reaches_the_other_side_equal_to_itself() -> None:
    model = ScriptedModel("x")
    with served(model) as url:
        for asked in (ASK, EVERYTHING):
            await collect(RemoteModel(url, "m").stream(asked))
    assert model.requests == [ASK, EVERYTHING]


async def test_an_answer_comes_back_equal_to_what_the_other_side_said() -> None:
    token = TokenLogprob("å", "å".encode(), -0.5, (TokenLogprob("a", b"a", -1.5),))
    said: list[Any] = [
        TextDelta("Hej "),
        TextDelta("på dig 😀\u2028", (token,)),
        ToolCall("a", "f", json.dumps({"x": "y" * 10_000})),
        ToolCall("b", "g", "{}"),
        Finished("tool_calls", Usage(7, 9, cached_tokens=2)),
    ]
    with served(ScriptedModel(said)) as url:
        events = [event async for event in RemoteModel(f"{url}/v1/").stream(ASK)]
    assert events == said


@pytest.mark.parametrize(
    "error",
    [
        InvalidValue("temperature: expected less.", param="temperature"),
        Unsupported("tool_choice: not yet.", param="tool_choice"),
        InvalidImage("messages[0]: not an image.", param="messages[0]"),
        Overloaded("Busy.", retry_after=3),
        ContextTooLong("The prompt has 5,000 tokens; 4096 fit.", prompt_tokens=5000, limit=4096),
    ],
)
async def test_the_other_sides_refusals_are_raised_as_what_they_are(error: PunaError) -> None:
    with served(ScriptedModel(error)) as url, pytest.raises(type(error)) as caught:
        await collect(RemoteModel(url).stream(ASK))
    assert type(caught.value) is type(error)
    assert vars(caught.value) == vars(error)
    assert caught.value.message == error.message


async def test_unknown_models_wrong_keys_and_failures_are_told_apart() -> None:
    with served(ScriptedModel(EngineFailed("It broke.")), api_key="k") as url:
        with pytest.raises(Unauthorized, match="Bad credentials"):
            await collect(RemoteModel(url, api_key="wrong").stream(ASK))
        for root in (url, f"{url}/v1"):
            with pytest.raises(UnknownModel, match="Loaded here: m"):
                await collect(RemoteModel(root, "gpt", api_key="k").stream(ASK))
        with pytest.raises(RemoteFailed, match="500: It broke"):
            await collect(RemoteModel(url, api_key="k").stream(ASK))
        with pytest.raises(RemoteFailed, match="404: There is no route"):
            await collect(RemoteModel(f"{url}/v9", api_key="k").stream(ASK))


async def test_a_failure_in_the_middle_is_a_failure_and_not_a_short_answer() -> None:
    with (
        served(ScriptedModel([TextDelta("half"), EngineFailed("It broke.")])) as url,
        pytest.raises(RemoteFailed, match="It broke"),
    ):
        await collect(RemoteModel(url).stream(ASK))


async def test_closing_the_stream_stops_the_model_on_the_other_side() -> None:
    model = ScriptedModel("word " * 2000, delay=0.002)
    with served(model) as url:
        async with aclosing(RemoteModel(url).stream(ASK)) as events:
            await anext(events)
        started = time.monotonic()
        while model.running:
            assert time.monotonic() - started < 1
            await asyncio.sleep(0.005)
    assert model.cancelled == 1


async def test_remote_models_chain() -> None:
    with served(ScriptedModel("Hello there!")) as url, served(RemoteModel(url)) as second:
        assert (await collect(RemoteModel(second).stream(ASK))).text == "Hello there!"


# --- Other servers


@contextmanager
def canned(answer: bytes) -> Iterator[str]:
    """A server that reads one request and says `answer`, whatever was asked."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def run() -> None:
            connection, _ = listener.accept()
            # the whole request: what is left unread at the end would reset the connection
            with connection, connection.makefile("rb") as request:
                head = list(iter(request.readline, b"\r\n"))
                length = [line for line in head if line.lower().startswith(b"content-length")]
                request.read(int(length[0].partition(b":")[2]) if length else 0)
                connection.sendall(answer)

        thread = threading.Thread(target=run)
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        thread.join()


def sse(*lines: str, ending: str = "\n\n") -> bytes:
    body = "".join(f"data: {line}{ending}" for line in lines)
    return f"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n{body}".encode()


DELTA = '{"choices":[{"index":0,"delta":{"content":"hi"}}]}'
END = '{"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


@pytest.mark.parametrize(
    "answer",
    [
        sse(DELTA, END, "[DONE]"),
        sse(DELTA, END),
        sse(DELTA, END, "[DONE]", ending="\r\n\r\n"),
        sse(DELTA, END, '{"choices":[],"usage":null}', "[DONE]").replace(
            b"\n\ndata", b"\n\n: ping\n\nevent: x\ndata"
        ),
    ],
)
async def test_other_servers_ways_of_framing_are_read_too(answer: bytes) -> None:
    with canned(answer) as url:
        reply = await collect(RemoteModel(url).stream(ASK))
    assert (reply.text, reply.reason, reply.usage) == ("hi", "stop", Usage(0, 0))


@pytest.mark.parametrize(
    ("answer", "told"),
    [
        (sse(DELTA), "broke off"),
        (sse(DELTA, "[DONE]"), "broke off"),
        (sse("{nonsense"), "no known shape"),
        (sse("[1, 2]"), "no known shape"),
        (sse('{"choices": [{"delta": {"tool_calls": 5}}]}'), "no known shape"),
        (sse('{"error": "out of memory"}'), "out of memory"),
        (b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n{}", "event-stream"),
        (b"HTTP/1.1 302 Found\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n", "302"),
        (b"HTTP/1.1 503 Busy\r\nContent-Length: 5\r\n\r\n<h1>\xff", "503: <h1>"),
        (b"", "broke off"),
        (b"nonsense\r\n\r\n", "broke off"),
    ],
)
async def test_misbehaving_servers_are_one_clear_line(answer: bytes, told: str) -> None:
    with canned(answer) as url, pytest.raises(RemoteFailed) as caught:
        await collect(RemoteModel(url).stream(ASK))
    assert told in caught.value.message
    assert "\n" not in caught.value.message


async def test_a_call_that_was_cut_is_not_an_event() -> None:
    def call(arguments: str) -> str:
        piece = {"index": 0, "id": "1", "function": {"name": "f", "arguments": arguments}}
        return json.dumps({"choices": [{"delta": {"tool_calls": [piece]}}]})

    cut = '{"choices":[{"delta":{},"finish_reason":"length"}]}'
    with canned(sse(call('{"a": '), cut)) as url:
        assert (await collect(RemoteModel(url).stream(ASK))).tool_calls == ()
    with canned(sse(call('{"a": 1}'), cut)) as url:
        reply = await collect(RemoteModel(url).stream(ASK))
    assert reply.tool_calls == (ToolCall("1", "f", '{"a": 1}'),)


async def test_nobody_there_is_one_clear_line() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(RemoteFailed, match="Is the server running"):
        await collect(RemoteModel(f"http://127.0.0.1:{port}").stream(ASK))


async def test_a_silent_server_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        model = RemoteModel(
            f"http://127.0.0.1:{silent.getsockname()[1]}", timeout=httpx2.Timeout(0.1)
        )
        with pytest.raises(RemoteFailed, match="in time"):
            await collect(model.stream(ASK))


@pytest.mark.parametrize("endpoint", ["", "localhost:8080", "ftp://x", "http://", "http:// x"])
def test_an_endpoint_that_is_no_address_is_refused_at_once(endpoint: str) -> None:
    with pytest.raises(StartupError, match="http://"):
        RemoteModel(endpoint)


@pytest.mark.parametrize("key", ["“quoted”", "two words", "a\nX-Header: b", "ключ"])
def test_a_key_that_no_header_can_carry_is_refused_at_once(key: str) -> None:
    with pytest.raises(StartupError, match="The key") as caught:
        RemoteModel("http://x", api_key=key)
    assert key not in caught.value.message


# --- Pieces


def test_nothing_is_sent_that_was_not_asked_for() -> None:
    assert request_json(ASK) == {
        "messages": [{"role": "user", "content": "How are you?"}],
        "stream": True,
        "stream_options": {"include_usage": True},
    }


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x89PNG\r\n", "png"),
        (b"\xff\xd8\xff\xe0", "jpeg"),
        (b"GIF89a", "gif"),
        (b"RIFF....WEBPVP8", "webp"),
        (b"BM..", "bmp"),
    ],
)
def test_pictures_are_labelled_by_their_bytes(data: bytes, kind: str) -> None:
    assert data_url(Image(data)).startswith(f"data:image/{kind};base64,")


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b'{"error": {"message": "no\\n way"}}', "no way"),
        (b'{"error": "no way"}', "no way"),
        (b'{"detail": "no way"}', "no way"),
        (b'{"message": "no way"}', "no way"),
        (b"no way", "no way"),
        (b"", "no reason given (status 400)"),
        (b"{}", "no reason given (status 400)"),
        (b"[]", "[]"),
    ],
)
def test_every_servers_way_of_saying_why_is_understood(body: bytes, message: str) -> None:
    assert error_of(400, {}, body).message == message


def test_too_many_tokens_without_numbers_is_still_a_bad_request() -> None:
    error = error_of(413, {}, b'{"error":{"code":"tokens_limit_reached","message":"Too many."}}')
    assert type(error) is InvalidValue


def test_the_card_is_what_was_said_of_the_model() -> None:
    assert RemoteModel("http://x/chat/completions", "m").card.name == "m"
    card = ModelCard("other")
    assert RemoteModel("http://x", card=card).card is card
