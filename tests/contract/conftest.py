"""Real servers on 127.0.0.1 for real clients; each test writes what the model will say."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import httpx2
import pytest

from puna.chat import ChatEvent, ChatRequest, ModelCard
from puna.scripted import Script, ScriptedModel
from puna.server import background, create_app
from puna.settings import Settings

Headers: TypeAlias = Mapping[str, str] | Sequence[tuple[bytes, bytes]]

KEY = "a-key-for-tests"


class Stage:
    """A model whose script is changed between tests, so that one server serves them all."""

    def __init__(self, card: ModelCard) -> None:
        self.card = card
        self.model = ScriptedModel("Nothing was scripted.")

    def says(self, *scripts: Script, delay: float = 0.0) -> ScriptedModel:
        self.model = ScriptedModel(*scripts, delay=delay)
        return self.model

    def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        return self.model.stream(request)


@dataclass
class Server:
    url: str
    text: Stage
    vision: Stage

    def says(self, *scripts: Script, **fields: Any) -> ScriptedModel:
        return self.text.says(*scripts, **fields)

    def get(self, path: str, headers: Headers | None = None) -> httpx2.Response:
        """Plain HTTP, without the time that it takes to read certificates."""
        with httpx2.Client(verify=False) as client:
            return client.get(self.url + path, headers=headers)

    def post(self, path: str, headers: Headers | None = None, **fields: Any) -> httpx2.Response:
        with httpx2.Client(verify=False) as client:
            return client.post(self.url + path, headers=headers, **fields)

    def answered(self, status: int) -> int:
        """How many requests for a completion were answered with `status` so far."""
        text = self.get("/metrics", {"api-key": KEY}).text
        line = rf'puna_requests_total\{{route="(?:completions|none)",status="{status}"\}} (\d+)'
        return sum(int(count) for count in re.findall(line, text))


def _serve(**settings: Any) -> Iterator[Server]:
    text = Stage(ModelCard("cria-text", publisher="puna", summary="Small.", context_length=4096))
    vision = Stage(ModelCard("Llama-3.2-11B-Vision-Instruct", modalities=("text", "image")))
    app = create_app(
        {"cria-text": text, "Llama-3.2-11B-Vision-Instruct": vision},
        aliases={
            "meta-llama-3.1-405b-instruct": "cria-text",
            "Llama-3.2-90B-Vision-Instruct": "Llama-3.2-11B-Vision-Instruct",
        },
        settings=Settings(**settings),
    )
    with background(app) as url:
        yield Server(url, text, vision)


@pytest.fixture(scope="session")
def _open_server() -> Iterator[Server]:
    yield from _serve()


@pytest.fixture
def server(_open_server: Server) -> Server:
    """Asks for no key."""
    _open_server.text.says("Hello there!")
    _open_server.vision.says("A red square.")
    return _open_server


@pytest.fixture(scope="session")
def keyed_server() -> Iterator[Server]:
    """Asks for KEY, takes small bodies and two answers at a time."""
    yield from _serve(api_key=KEY, max_body_bytes=20_000, max_queue=2)
