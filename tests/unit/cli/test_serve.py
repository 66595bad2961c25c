"""What `puna serve` says."""

import ast
import re

import pytest

from puna.cli.serve import greeting, inventory, is_loopback
from puna.scripted import ScriptedModel


@pytest.mark.parametrize("needs_key", [True, False])
def test_the_lines_to_paste_are_python(needs_key: bool) -> None:
    lines = re.findall(
        r"(?:ChatCompletionsClient|OpenAI)\(.*\)", greeting("http://h:1", needs_key=needs_key)
    )
    assert len(lines) == 2
    for line in lines:
        ast.parse(line)
    assert 'endpoint="http://h:1"' in lines[0]
    assert 'base_url="http://h:1/v1"' in lines[1]


def test_a_key_is_never_printed() -> None:
    assert "PUNA_API_KEY" in greeting("http://h:1", needs_key=True)


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("::", False),
        ("192.168.1.2", False),
        ("puna.example", False),
    ],
)
def test_only_loopback_is_private(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def test_a_model_elsewhere_is_told_without_memory() -> None:
    assert inventory({"far": ScriptedModel("x")}) == ["far: Replies from a script."]
