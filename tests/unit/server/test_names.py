from __future__ import annotations

import pytest

from puna.chat import ModelCard
from puna.errors import StartupError, UnknownModel
from puna.scripted import ScriptedModel
from puna.server.names import Models


def model(publisher: str = "meta") -> ScriptedModel:
    return ScriptedModel("x", card=ModelCard("x", publisher=publisher))


def models(**options: object) -> Models:
    loaded = {"Llama-3.1-8B-Instruct": model(), "cria-text": model("puna")}
    return Models(loaded, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("llama-3.1-8b-instruct", "Llama-3.1-8B-Instruct"),
        (" LLAMA-3.1-8B-INSTRUCT ", "Llama-3.1-8B-Instruct"),
        ("meta/llama-3.1-8b-instruct", "Llama-3.1-8B-Instruct"),
        ("Meta/Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("meta-llama/Llama-3.1-8B-Instruct", "Llama-3.1-8B-Instruct"),
        ("cria-text", "cria-text"),
        ("puna/cria-text", "cria-text"),
        ("old-name", "cria-text"),
        ("meta/OLD-NAME", "cria-text"),
        ("puna/old-name", "cria-text"),
        (None, "Llama-3.1-8B-Instruct"),
    ],
)
def test_a_name_finds_its_model(name: str | None, found: str) -> None:
    assert models(aliases={"Old-Name": "CRIA-text"}).find(name).name == found


@pytest.mark.parametrize(
    "name", ["", "gpt-4o", "openai/cria-text", "cria", "cria-text/", "/cria-text", "x" * 10_000]
)
def test_a_name_that_is_not_loaded_is_refused_with_those_that_are(name: str) -> None:
    with pytest.raises(UnknownModel) as caught:
        models(aliases={"old": "cria-text"}).find(name)
    message = caught.value.message
    assert message.startswith("Unknown model: ")
    assert "Loaded here: Llama-3.1-8B-Instruct, cria-text, old (answered by cria-text)." in message
    assert len(message) < 300
    assert caught.value.param == "model"


def test_the_default_is_the_first_or_the_one_named() -> None:
    assert models().default.name == "Llama-3.1-8B-Instruct"
    assert models(default="puna/cria-text").default.name == "cria-text"
    with pytest.raises(UnknownModel):
        models(default="gpt-4o")


def test_an_alias_may_hold_a_slash() -> None:
    found = models(aliases={"meta/meta-llama-3.1-405b-instruct": "cria-text"})
    for name in ("meta/Meta-Llama-3.1-405B-Instruct", "Meta-Llama-3.1-405B-Instruct"):
        assert found.find(name).name == "cria-text"


def test_names_that_cannot_be_kept_apart_are_refused_at_the_start() -> None:
    with pytest.raises(StartupError, match="Two models"):
        Models({"a": model(), "A": model()})
    with pytest.raises(StartupError, match="Two models"):
        Models({"a": model(), "meta/a": model()})
    with pytest.raises(StartupError, match="already"):
        models(aliases={"Meta/llama-3.1-8b-instruct": "cria-text"})
    with pytest.raises(StartupError, match="already"):
        models(aliases={"old": "cria-text", "OLD": "Llama-3.1-8B-Instruct"})
    with pytest.raises(StartupError, match=r"nowhere: 'gpt' is not loaded"):
        models(aliases={"old": "gpt"})
    with pytest.raises(StartupError, match="no model"):
        Models({})
