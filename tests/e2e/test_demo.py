"""The heart of `make demo`: both lesson programs, answered by the embedded models for real."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
ANSWER = '<|python_tag|>brave_search.call(query="Stockholm weather")'

THINGS = {("red", "heart"), ("yellow", "circle"), ("green", "triangle")}
COLOURS = "red|green|blue|yellow|orange|purple|pink|brown|black|white|gray|grey"


@pytest.fixture(scope="module")
def shown() -> dict[str, str]:
    """What the demo shows under each program's command."""
    done = subprocess.run(
        [sys.executable, str(DEMO)],
        env={**os.environ, "GITHUB_TOKEN": "any"},
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    sections = re.findall(r"^\$ .*?(\w+\.py)\n(.*?)\n(?:\n|\Z)", done.stdout, re.DOTALL | re.M)
    return dict(sections) | {"all": done.stdout, "steps": done.stderr}


def test_the_first_program_gets_exactly_the_built_in_call(shown: dict[str, str]) -> None:
    assert shown["built_in_search.py"] == ANSWER


def test_the_second_program_is_told_what_is_true_of_the_picture(shown: dict[str, str]) -> None:
    """A red heart, a yellow circle and a green triangle on light blue: nothing else, all of it."""
    text = shown["describe_image.py"].lower()
    named = set(re.findall(rf"\b({COLOURS}) (\w+)", text))
    things = {(colour, what) for colour, what in named if what != "background"}
    assert things == THINGS, text
    assert "background is light blue" in text


def test_the_program_with_the_retired_address_is_answered_by_the_same_model(
    shown: dict[str, str],
) -> None:
    assert shown["retired_address.py"].startswith("cria-text: ")


def test_it_says_who_really_answers(shown: dict[str, str]) -> None:
    assert "meta-llama-3.1-405b-instruct is answered by cria-text" in shown["all"]
    assert "Llama-3.2-90B-Vision-Instruct is answered by cria-vision" in shown["all"]


def test_a_tool_runs_and_the_model_answers_from_what_it_gave(shown: dict[str, str]) -> None:
    assert shown["tools.py"] == "The weather in Stockholm is light snow, 1 degree."
    assert shown["steps"].splitlines()[-2:] == [
        '· get_weather(city="Stockholm")',
        "·   The weather in Stockholm is light snow, 1 degree.",
    ]
