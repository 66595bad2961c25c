"""What no client library shows: the bytes, broken connections, and how gh models reads."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import httpx2
import pytest

from puna.chat import TextDelta, TokenLogprob, ToolCall
from puna.errors import EngineFailed
from tests.contract.conftest import KEY, Server
from tests.contract.test_azure import until

ASK = {"messages": [{"role": "user", "content": "Hello?"}]}


@pytest.fixture
def http(server: Server) -> Iterator[httpx2.Client]:
    with httpx2.Client(base_url=server.url, verify=False) as client:
        yield client


class Wire:
    """One connection, byte by byte."""

    def __init__(self, url: str) -> None:
        address = urlsplit(url)
        assert address.hostname is not None
        assert address.port is not None
        self.socket = socket.create_connection((address.hostname, address.port), timeout=5)

    def __enter__(self) -> Wire:
        return self

    def __exit__(self, *_: object) -> None:
        self.socket.close()

    def post(self, body: dict[str, Any], path: str = "/chat/completions") -> None:
        data = json.dumps(body).encode()
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(data)}\r\n\r\n"
        self.socket.sendall(head.encode() + data)

    def until_closed(self) -> bytes:
        data = b""
        while piece := self.socket.recv(65536):
            data += piece
        return data

    def until(self, end: bytes) -> bytes:
        data = b""
        while not data.endswith(end):
            piece = self.socket.recv(65536)
            assert piece, f"closed before {end!r}: {data!r}"
            data += piece
        return data

    def abort(self) -> None:
        """Close as a killed program does: with a reset."""
        linger = (1).to_bytes(4, "little") + (0).to_bytes(4, "little")
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.socket.close()


# --- Framing


def test_a_stream_is_made_of_data_lines_and_nothing_else(server: Server) -> None:
    server.says([TextDelta("Hej "), TextDelta("Göteborg 😀\r\n\u2028")])
    with Wire(server.url) as wire:
        wire.post({**ASK, "stream": True})
        answer = wire.until(b"\r\n0\r\n\r\n")
    head, _, rest = answer.partition(b"\r\n\r\n")
    assert b"\r\ncontent-type: text/event-stream\r\n" in head + b"\r\n"
    assert b"\r\ncache-control: no-cache\r\n" in head + b"\r\n"
    body = unchunked(rest)
    first = re.match(rb'data: \{"id":"(chatcmpl-\w+)".*?"created":(\d+)', body)
    assert first is not None
    identity, created = first[1].decode(), first[2].decode()
    base = (
        f'data: {{"id":"{identity}","object":"chat.completion.chunk","created":{created},'
        '"model":"cria-text","choices":[{"index":0,"delta":'
    )
    expected = (
        base + '{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
        + base + '{"content":"Hej "},"finish_reason":null}]}\n\n'
        + base + '{"content":"G\\u00f6teborg \\ud83d\\ude00\\r\\n\\u2028"},'
        '"finish_reason":null}]}\n\n'
        + base + '{},"finish_reason":"stop"}]}\n\n'
        "data: [DONE]\n\n"
    )  # fmt: skip
    assert body.decode() == expected


def test_no_line_is_as_long_as_gh_models_cannot_read(server: Server) -> None:
    space = TokenLogprob(" " * 128, b" " * 128, -123.456789012345)
    token = TokenLogprob(" " * 128, b" " * 128, -123.456789012345, (space,) * 20)
    server.says(
        [
            TextDelta("😀\x00" * 40_000),
            TextDelta(" " * 128 * 50, (token,) * 50),
            ToolCall("c", "f", json.dumps("\U0010ffff" * 40_000, ensure_ascii=False)),
        ]
    )
    tool = {"type": "function", "function": {"name": "f"}}
    asked = {**ASK, "stream": True, "tools": [tool], "logprobs": True, "top_logprobs": 20}
    answer = server.post("/inference/chat/completions", json=asked)
    lines = answer.content.split(b"\n")
    assert max(map(len, lines)) < 2**16
    chunks = [json.loads(line[6:]) for line in lines if line.startswith(b"data: {")]
    text = "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks)
    assert text == "😀\x00" * 40_000 + " " * 128 * 50
    assert sum(len((c["choices"][0].get("logprobs") or {"content": ()})["content"])
               for c in chunks) == 50  # fmt: skip


@pytest.mark.parametrize("accept", ["application/json", "text/html", "nonsense", ""])
def test_accept_is_never_a_reason_to_refuse(http: httpx2.Client, accept: str) -> None:
    for stream in (False, True):
        answer = http.post(
            "/chat/completions", json={**ASK, "stream": stream}, headers={"Accept": accept}
        )
        assert answer.status_code == 200
        kind = "text/event-stream" if stream else "application/json"
        assert answer.headers["content-type"] == kind


def test_a_body_is_json_whatever_its_content_type_says(http: httpx2.Client) -> None:
    for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
        answer = http.post(
            "/chat/completions", content=json.dumps(ASK), headers={"Content-Type": kind}
        )
        assert answer.status_code == 200


def test_a_connection_serves_on_after_a_stream_and_after_a_refusal(server: Server) -> None:
    with Wire(server.url) as wire:
        wire.post({**ASK, "stream": True})
        wire.until(b"\r\n0\r\n\r\n")
        wire.post({**ASK, "temperature": "hot"})
        assert b" 400 " in wire.until(b'"details":[]}}')
        wire.post(ASK)
        assert b" 200 " in wire.until(b"}}}")


# --- Broken ends


def test_a_stream_that_fails_ends_in_an_error_and_a_broken_connection(server: Server) -> None:
    server.says([TextDelta("half"), EngineFailed("The engine failed.")])
    with Wire(server.url) as wire:
        wire.post({**ASK, "stream": True})
        answer = wire.until_closed()
    assert b"[DONE]" not in answer
    assert not answer.endswith(b"0\r\n\r\n")
    last = unchunked(answer.partition(b"\r\n\r\n")[2]).rstrip(b"\n").split(b"\n")[-1]
    error = json.loads(last.removeprefix(b"data: "))["error"]
    assert (error["message"], error["code"]) == ("The engine failed.", "internal_error")


def test_one_streams_failure_touches_no_other(server: Server) -> None:
    def script(request: Any) -> Any:
        if request.messages[-1].text == "fail":
            return [TextDelta("half"), EngineFailed("The engine failed.")]
        return "one two three four five"

    server.says(script, delay=0.01)
    with Wire(server.url) as good, Wire(server.url) as bad:
        good.post({**ASK, "stream": True})
        bad.post({"messages": [{"role": "user", "content": "fail"}], "stream": True})
        assert b"[DONE]" not in bad.until_closed()
        assert b"[DONE]" in good.until(b"\r\n0\r\n\r\n")


def test_a_client_that_goes_during_a_stream_stops_the_model(server: Server) -> None:
    model = server.says("word " * 2000, delay=0.002)
    for leave in (Wire.abort, Wire.__exit__):
        wire = Wire(server.url)
        wire.post({**ASK, "stream": True, "n": 2})
        wire.until(b"\n\n\r\n")
        assert model.running == 2
        leave(wire)
        until(lambda: model.running == 0)
    assert model.cancelled == 4


def test_a_client_that_goes_before_the_first_event_stops_the_model(server: Server) -> None:
    model = server.says("never", delay=30)
    for stream in (True, False):
        wire = Wire(server.url)
        wire.post({**ASK, "stream": stream})
        until(lambda: model.running == 1)
        wire.abort()
        until(lambda: model.running == 0)
    assert model.cancelled == 2


def test_a_client_that_goes_in_the_middle_of_its_body_leaves_nothing_behind(
    server: Server, http: httpx2.Client
) -> None:
    wire = Wire(server.url)
    wire.socket.sendall(
        b"POST /chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: 99\r\n\r\n{"
    )
    until(lambda: b"puna_choices_in_flight 1.0" in http.get("/metrics").content)
    wire.abort()
    until(lambda: b"puna_choices_in_flight 0.0" in http.get("/metrics").content)


# --- Keys, sizes, methods


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": f"Bearer {KEY}"},
        {"authorization": f"bEaReR  {KEY}"},
        {"api-key": KEY},
        {"x-api-key": KEY},
        {"Authorization": "Bearer wrong", "api-key": KEY},
    ],
)
def test_each_header_alone_opens_the_door(keyed_server: Server, headers: dict[str, str]) -> None:
    keyed_server.says("Welcome.")
    assert keyed_server.post("/chat/completions", headers, json=ASK).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": KEY},
        {"Authorization": f"Basic {KEY}"},
        {"Authorization": f"Bearer {KEY}x"},
        {"Authorization": "Bearer"},
        {"api-key": KEY[:-1]},
        {"api-key": "ÿ"},
    ],
)
def test_nothing_else_does(keyed_server: Server, headers: dict[str, str]) -> None:
    raw = [(name.encode(), value.encode("latin-1")) for name, value in headers.items()]
    for path in ("/v1/models", "/metrics", "/catalog/models", "/info", "/nowhere"):
        answer = keyed_server.get(path, raw)
        assert answer.status_code == 401, path
        assert answer.json()["error"]["code"] == "unauthorized"
        assert answer.headers["www-authenticate"] == "Bearer"
    for path in ("/", "/health"):
        assert keyed_server.get(path, raw).status_code == 200


def test_a_body_without_a_length_is_measured_as_it_comes(keyed_server: Server) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        for _ in range(100):
            sent += 1000
            yield b" " * 1000

    answer = keyed_server.post("/chat/completions", {"api-key": KEY}, content=endless())
    assert answer.status_code == 413
    assert "20000" in answer.json()["error"]["message"]


def test_a_length_over_the_limit_is_refused_before_the_body_comes(keyed_server: Server) -> None:
    with Wire(keyed_server.url) as wire:
        wire.socket.sendall(
            f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\napi-key: {KEY}\r\n"
            "Content-Length: 99999999\r\nExpect: 100-continue\r\n\r\n".encode()
        )
        answer = wire.until(b'"details":[]}}')
    assert answer.startswith(b"HTTP/1.1 413 ")


def test_other_methods_and_paths_are_told_what_there_is(http: httpx2.Client) -> None:
    assert http.head("/health").status_code == 200
    answer = http.get("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (405, "OPTIONS, POST")
    answer = http.options("/v1/chat/completions")
    assert (answer.status_code, answer.headers["allow"]) == (204, "OPTIONS, POST")
    assert "access-control-allow-origin" not in answer.headers
    answer = http.post("/v2/chat/completion", json=ASK)
    assert answer.status_code == 404
    assert "/chat/completions" in answer.json()["error"]["message"]
    assert http.post("//v1//chat/completions/", json=ASK).status_code == 200


# --- What gh models reads


def test_the_catalog_decodes_into_gh_models_own_types(http: httpx2.Client) -> None:
    # encoding/json fails as a whole on one field of another type.
    strings = (
        "id", "name", "registry", "publisher", "summary", "rate_limit_tier", "html_url", "version",
    )  # fmt: skip
    lists = (
        "capabilities", "tags", "supported_input_modalities", "supported_output_modalities",
    )  # fmt: skip
    models = http.get("/catalog/models", headers={"Accept": "application/vnd.github+json"}).json()
    assert isinstance(models, list)
    for model in models:
        assert all(isinstance(model[name], str) for name in strings)
        assert all(isinstance(item, str) for name in lists for item in model[name])
        assert all(isinstance(n, int) for n in model["limits"].values())
        assert set(model["limits"]) == {"max_input_tokens", "max_output_tokens"}
        assert model["id"].count("/") in (1, 2)
        # What the list calls a model, a request may call it too.
        answer = http.post("/inference/chat/completions", json={**ASK, "model": model["id"]})
        assert answer.status_code == 200
    by_name = {model["name"]: model for model in models}
    assert by_name["cria-text"]["limits"]["max_input_tokens"] == 4096
    vision = by_name["Llama-3.2-90B-Vision-Instruct"]
    assert vision["id"] == "meta/Llama-3.2-90B-Vision-Instruct"
    assert vision["supported_input_modalities"] == ["text", "image"]
    assert "Llama-3.2-11B-Vision-Instruct" in vision["summary"]


def test_the_legacy_list_is_a_bare_array(http: httpx2.Client) -> None:
    models = http.get("/models").json()
    assert models[0]["name"] == models[0]["friendly_name"] == "cria-text"
    assert models[0]["task"] == "chat-completion"
    assert {"id", "publisher", "summary", "tags"} <= set(models[0])


# --- Counting


def test_metrics_count_what_happened(server: Server, http: httpx2.Client) -> None:
    def value(name: str) -> float:
        found = re.search(rf"^{re.escape(name)} (\S+)$", http.get("/metrics").text, re.MULTILINE)
        return float(found[1]) if found else 0.0

    tokens = 'puna_completion_tokens_total{model="cria-text"}'
    refused = 'puna_requests_total{route="completions",status="400"}'
    first = 'puna_time_to_first_event_seconds_count{model="cria-text"}'
    before = value(tokens), value(refused), value(first)
    http.post("/chat/completions", json=ASK)
    http.post("/chat/completions", json={**ASK, "n": 0})
    assert (value(tokens), value(refused), value(first)) == (
        before[0] + 2,
        before[1] + 1,
        before[2] + 1,
    )
    http.get("/some-path-that-a-caller-made-up")
    assert "made-up" not in http.get("/metrics").text
    assert value('puna_requests_total{route="none",status="404"}') >= 1


def test_a_broken_stream_does_not_count_as_a_success(server: Server) -> None:
    server.says([TextDelta("half"), EngineFailed("The engine failed.")])
    before = server.answered(500)
    with Wire(server.url) as wire:
        wire.post({**ASK, "stream": True})
        wire.until_closed()
    assert server.answered(500) == before + 1


def unchunked(body: bytes) -> bytes:
    """Undo chunked transfer, which may break off."""
    data = b""
    while body:
        size, _, body = body.partition(b"\r\n")
        count = int(size, 16)
        data, body = data + body[:count], body[count + 2 :]
    return data


def test_a_fast_model_is_not_held_up_by_the_wire(server: Server) -> None:
    server.says([TextDelta("x")] * 2000)
    started = time.monotonic()
    answer = server.post("/chat/completions", json={**ASK, "stream": True})
    assert answer.text.count("data: ") == 2003
    assert time.monotonic() - started < 3
