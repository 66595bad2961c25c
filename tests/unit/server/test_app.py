"""The app as a whole, without a socket."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable
from html.parser import HTMLParser
from typing import Any

import httpx2
import pytest

from puna.chat import ModelCard
from puna.errors import StartupError
from puna.scripted import ScriptedModel
from puna.server import completions, create_app, images
from puna.settings import Settings

ASK = {"messages": [{"role": "user", "content": "Hello?"}]}


def client(base_url: str = "http://localhost:8080", **options: Any) -> httpx2.AsyncClient:
    settings = Settings(**options.pop("settings", {}))
    models = options.pop("models", {"cria-text": ScriptedModel("Hello there!")})
    app = create_app(models, settings=settings, **options)
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app=app), base_url=base_url)


# --- Browsers: only they send Origin


@pytest.mark.parametrize(
    "origin",
    ["https://evil.example", "null", "http://localhost:9999", "http://localhost", "", "x"],
)
async def test_foreign_pages_cannot_use_a_server_without_a_key(origin: str) -> None:
    model = ScriptedModel("x")
    async with client(models={"m": model}) as http:
        answer = await http.post("/chat/completions", json=ASK, headers={"Origin": origin})
    assert answer.status_code == 403
    assert answer.json()["error"]["code"] == "forbidden_origin"
    assert not model.requests


async def test_a_name_that_was_pointed_at_this_machine_is_still_foreign() -> None:
    async with client("http://evil.example:8080") as http:
        answer = await http.post(
            "/chat/completions", json=ASK, headers={"Origin": "http://evil.example:8080"}
        )
    assert answer.status_code == 403


@pytest.mark.parametrize(
    "base",
    ["http://localhost:8080", "http://127.0.0.1:8080", "http://[::1]:8080", "http://192.168.1.5"],
)
async def test_the_servers_own_pages_may_use_it(base: str) -> None:
    async with client(base) as http:
        answer = await http.post("/chat/completions", json=ASK, headers={"Origin": base})
    assert answer.status_code == 200


async def test_with_a_key_a_name_of_ones_own_is_good_enough() -> None:
    async with client("http://llama.example", settings={"api_key": "k"}) as http:
        headers = {"Origin": "http://llama.example", "api-key": "k"}
        answer = await http.post("/chat/completions", json=ASK, headers=headers)
    assert answer.status_code == 200


async def test_cross_origin_sharing_is_off_until_an_origin_is_named() -> None:
    preflight = {
        "Origin": "https://app.example",
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization",
    }
    async with client() as http:
        answer = await http.options("/v1/chat/completions", headers=preflight)
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    settings = {"cors_origins": ("https://app.example",), "api_key": "k"}
    async with client(settings=settings) as http:
        answer = await http.options("/v1/chat/completions", headers=preflight)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        headers = {"Origin": "https://app.example", "api-key": "k"}
        answer = await http.post("/v1/chat/completions", json=ASK, headers=headers)
        assert answer.status_code == 200
        assert answer.headers["access-control-allow-origin"] == "https://app.example"
        headers["Origin"] = "https://other.example"
        assert (await http.post("/v1/chat/completions", json=ASK, headers=headers)).is_error


# --- Ids


async def test_only_a_sane_request_id_is_echoed() -> None:
    async with client() as http:
        for sent, echoed in (
            ("abc-123", "abc-123"),
            ("x" * 201, None),
            ("a b", None),
            ("", None),
        ):
            answer = await http.get("/health", headers={"x-ms-client-request-id": sent})
            assert answer.headers.get("x-ms-client-request-id") == echoed
            assert len(answer.headers["x-request-id"]) == 32


# --- What is not served


@pytest.mark.parametrize("prefix", ["", "/inference", "/v1", "/openai/deployments/cria-text"])
@pytest.mark.parametrize(
    ("tail", "told"),
    [
        ("embeddings", "Embeddings are"),
        ("images/embeddings", "Image embeddings are"),
        ("completions", "The older completions API is"),
        ("responses", "The Responses API is"),
    ],
)
async def test_what_is_not_served_is_called_by_its_own_name(
    prefix: str, tail: str, told: str
) -> None:
    async with client() as http:
        answer = await http.post(f"{prefix}/{tail}", json={})
    assert answer.status_code == 404
    assert answer.json()["error"]["message"].startswith(f"{told} not served here")


# --- extra-parameters


@pytest.mark.parametrize(
    ("header", "status"),
    [
        ({}, 400),
        ({"extra-parameters": "error"}, 400),
        ({"extra-parameters": "pass-through"}, 400),
        ({"extra-parameters": "DROP"}, 200),
        ({"unknown-parameters": "drop"}, 200),
        ({"unknown-parameters": "pass_through"}, 400),
        ({"extra-parameters": "perhaps"}, 400),
    ],
)
async def test_extra_parameters_mean_what_the_header_says(
    header: dict[str, str], status: int
) -> None:
    async with client() as http:
        answer = await http.post("/chat/completions", json={**ASK, "min_p": 1}, headers=header)
    assert answer.status_code == status
    if status == 400:
        assert answer.json()["error"]["param"] in ("min_p", "extra-parameters")


# --- Large bodies


async def test_what_may_take_long_is_not_done_in_the_event_loop(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    threads: list[int] = []

    def watched(function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any) -> Any:
            threads.append(threading.get_ident())
            return function(*given)

        return call

    monkeypatch.setattr(completions, "parse_json", watched(completions.parse_json))
    monkeypatch.setattr(images, "data_url_bytes", watched(images.data_url_bytes))
    part = {"type": "image_url", "image_url": {"url": "data:;base64,aGVsbG8="}}
    async with client() as http:
        answer = await http.post(
            "/chat/completions", json={"messages": [{"role": "user", "content": [part]}]}
        )
    assert answer.status_code == 200
    assert len(threads) == 2
    assert threading.get_ident() not in threads


# --- What a card excludes


async def test_what_a_model_cannot_take_is_refused_by_name() -> None:
    blind = ScriptedModel("x", card=ModelCard("blind", tools=False))
    part = {"type": "image_url", "image_url": {"url": "data:;base64,aGVsbG8="}}
    async with client(models={"blind": blind}) as http:
        answer = await http.post(
            "/chat/completions",
            json={"messages": [ASK["messages"][0], {"role": "user", "content": [part]}]},
        )
        assert answer.json()["error"]["param"] == "messages[1].content[0]"
        assert "no model here sees" in answer.json()["error"]["message"]
        tool = {"type": "function", "function": {"name": "f"}}
        answer = await http.post("/chat/completions", json={**ASK, "tools": [tool]})
        assert answer.json()["error"]["param"] == "tools"
    assert not blind.requests


async def test_a_model_that_says_nothing_at_all_is_a_failure() -> None:
    class Mute(ScriptedModel):
        async def stream(self, request: Any) -> Any:
            return
            yield

    async with client(models={"mute": Mute("x")}) as http:
        for stream in (False, True):
            answer = await http.post("/chat/completions", json={**ASK, "stream": stream})
            assert answer.status_code == 500
            assert answer.json()["error"]["code"] == "internal_error"


# --- Start


def test_an_app_without_a_model_or_with_a_lost_alias_does_not_start() -> None:
    with pytest.raises(StartupError):
        create_app({}, settings=Settings())
    with pytest.raises(StartupError):
        create_app({"m": ScriptedModel("x")}, aliases={"a": "b"}, settings=Settings())


async def test_two_apps_in_one_process_share_nothing() -> None:
    async with client() as one, client() as two:
        await one.post("/chat/completions", json=ASK)
        counted = 'puna_requests_total{route="completions",status="200"} 1.0'
        assert counted in (await one.get("/metrics")).text
        assert counted not in (await two.get("/metrics")).text


async def test_the_engines_gauges_are_asked_for_when_they_are_read() -> None:
    running = 0.0

    def stats() -> dict[str, dict[str, float]]:
        return {"a": {"running": running, "waiting": 2.0}, "b": {"running": 0.0}}

    async with client(stats=stats) as http:
        running = 3.0
        text = (await http.get("/metrics")).text
    assert 'puna_engine_running{model="a"} 3.0' in text
    assert 'puna_engine_running{model="b"} 0.0' in text
    assert 'puna_engine_waiting{model="a"} 2.0' in text
    assert text.count("# TYPE puna_engine_running gauge") == 1


# --- The page


class Page(HTMLParser):
    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.text += data


async def test_the_landing_page_has_what_to_paste_and_needs_no_network() -> None:
    card = ModelCard("cria-text", publisher="puna", summary="<b>Small</b> & quick.")
    models = {"cria-text": ScriptedModel("x", card=card)}
    async with client(models=models, aliases={"<script>": "cria-text"}) as http:
        answer = await http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    page = Page(answer.text)
    assert 'ChatCompletionsClient("http://localhost:8080"' in page.text
    assert 'base_url="http://localhost:8080/v1"' in page.text
    assert 'model="cria-text"' in page.text
    assert "<b>Small</b> & quick." in page.text
    assert "<script>" in page.text
    assert not [tag for tag, _ in page.tags if tag in ("script", "img", "b", "link", "iframe")]
    addresses = [v for _, attrs in page.tags for k, v in attrs.items() if k in ("href", "src")]
    assert all(address and address.startswith("/") for address in addresses)
    assert not re.search(r"url\(|@import", answer.text)


async def test_the_landing_page_does_not_give_the_key_away() -> None:
    async with client(settings={"api_key": "very-secret"}) as http:
        page = (await http.get("/")).text
    assert "very-secret" not in page
    assert "asks for its key" in page
