"""The lesson's first program, unchanged, against a server that searches: it ends in an answer.

Everything is real but the search service, which is a SearXNG of three pages on this machine.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.unit.tools.web import Asked, Told, web

EXAMPLES = Path(__file__).parents[2] / "examples"
PUNA = str(Path(sys.executable).with_name("puna"))
ALIAS = ("--alias", "meta-llama-3.1-405b-instruct=cria-text")
PAGES = [
    {
        "title": "Stockholm weather",
        "url": "https://weather.example/stockholm",
        "content": "The weather in Stockholm is light rain, 7 degrees.",
    },
    {
        "title": "The archipelago",
        "url": "https://islands.example/",
        "content": "Boats leave every hour.",
    },
]


def searxng(asked: Asked) -> Told:
    assert (asked.path, asked.params) == ("/search", {"q": "Stockholm weather", "format": "json"})
    body = {"query": asked.params["q"], "results": PAGES, "answers": [], "suggestions": []}
    return Told(200, body, {"Content-Type": "application/json"})


@contextmanager
def serving(*options: str, folder: Path, **environment: str) -> Iterator[str]:
    environment |= {"PUNA_KEYRING": "false", "PUNA_CONFIG_DIR": str(folder)}
    with subprocess.Popen(
        [PUNA, "serve", "cria-text", "--port", "0", *ALIAS, *options],
        env={**keyless(), **environment},
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            lines = iter(server.stdout or ())
            yield next(line.split()[3] for line in lines if line.startswith("Puna answers at"))
        finally:
            server.terminate()


def keyless() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name != "BRAVE_API_KEY"}


def lesson(url: str) -> str:
    done = subprocess.run(
        [sys.executable, str(EXAMPLES / "built_in_search.py")],
        env={**os.environ, "GITHUB_TOKEN": "any", "AZURE_INFERENCE_ENDPOINT": url},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What the program prints: with the service, without any, and with the tape of the first."""
    folder = tmp_path_factory.mktemp("lesson")
    tape = str(folder / "tape.jsonl")
    with web(searxng) as service:
        options = ("--tools", "brave_search", "--record", tape)
        with serving(*options, folder=folder, PUNA_SEARXNG_URL=service.url) as url:
            live = lesson(url)
            steps = httpx2.post(
                f"{url}/chat/completions",
                timeout=300,
                json={
                    "messages": [{"role": "user", "content": "What is the weather in Stockholm?"}]
                },
            ).text
    with serving("--tools", "brave_search", "--replay", tape, folder=folder) as url:
        replayed = lesson(url)
    with serving(folder=folder) as url:
        plain = lesson(url)
    return {"live": live, "replayed": replayed, "plain": plain, "steps": steps}


def test_with_one_flag_the_lesson_ends_in_an_answer(told: dict[str, str]) -> None:
    assert told["live"] == "The weather in Stockholm is light rain, 7 degrees.\n"


def test_the_answer_says_what_was_searched_and_by_whom(told: dict[str, str]) -> None:
    [step] = json.loads(told["steps"])["choices"][0]["puna"]["steps"]
    assert step["name"] == "brave_search"
    assert json.loads(step["arguments"]) == {"query": "Stockholm weather"}
    assert json.loads(step["content"])["top_k"][0]["url"] == "https://weather.example/stockholm"
    assert "SearXNG" in step["source"]


def test_a_tape_gives_the_same_answer_without_any_service(told: dict[str, str]) -> None:
    assert told["replayed"] == told["live"]


def test_without_the_flag_the_program_gets_the_call_as_ever(told: dict[str, str]) -> None:
    assert told["plain"] == '<|python_tag|>brave_search.call(query="Stockholm weather")\n'


def test_a_server_without_anyone_to_ask_says_what_to_do(tmp_path: Path) -> None:
    done = subprocess.run(
        [PUNA, "serve", "cria-text", "--port", "0", "--tools", "brave_search"],
        env={**keyless(), "PUNA_KEYRING": "false", "PUNA_CONFIG_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "puna keys set brave_search" in done.stderr
    assert "Traceback" not in done.stderr
