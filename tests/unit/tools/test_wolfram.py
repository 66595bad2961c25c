from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from puna.errors import ToolFailed
from puna.settings import Settings
from puna.tools import wolfram
from puna.tools.tool import Output, Session, Tool
from puna.tools.wolfram import wolfram_alpha
from tests.unit.tools.fakes import WOLFRAM_ID, FakeWolfram
from tests.unit.tools.web import web


def settings(folder: Path, **fields: Any) -> Settings:
    known = {"wolfram_app_id": WOLFRAM_ID, "keyring": False, **fields}
    return Settings(config_dir=folder / "config", state_dir=folder / "state", **known)


async def ask(tool: Tool, query: str) -> Output:
    return await tool.run({"query": query}, Session())


async def test_the_model_reads_the_documented_shape_up_to_the_result(tmp_path: Path) -> None:
    with web(FakeWolfram()) as server:
        output = await ask(wolfram_alpha(settings(tmp_path), base_url=server.url), "2x = 8")
    assert output.source == "Wolfram|Alpha"
    assert json.loads(output.text) == {
        "queryresult": {
            "success": True,
            "inputstring": "2x = 8",
            "pods": [
                {
                    "title": "Input interpretation",
                    "subpods": [{"title": "", "plaintext": "solve 2x = 8"}],
                },
                {"title": "Result", "subpods": [{"title": "", "plaintext": "x = 4"}]},
            ],
        }
    }
    assert server.asked[0].params == {
        "input": "2x = 8", "appid": WOLFRAM_ID, "format": "plaintext", "output": "json",
    }  # fmt: skip


async def test_the_api_for_language_models_answers_in_text(tmp_path: Path) -> None:
    with web(FakeWolfram()) as server:
        tool = wolfram_alpha(settings(tmp_path, wolfram_endpoint="llm"), base_url=server.url)
        output = await ask(tool, "2x = 8")
    assert output == Output('Query:\n"2x = 8"\n\nResult:\nx = 4', source="Wolfram|Alpha")
    assert WOLFRAM_ID not in str(server.asked[0].params)


@pytest.mark.parametrize("endpoint", ["full", "llm"])
@pytest.mark.parametrize(
    ("mood", "told"),
    [
        ("501", "no answer to 'x'; ask in other words"),
        ("429", "429: too many"),
        ("500", "answered 500"),
        ("hang", "cannot be reached: it took longer"),
    ],
)
async def test_each_failure_says_what_it_is(
    tmp_path: Path, endpoint: str, mood: str, told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wolfram, "SECONDS", 0.3)
    with web(FakeWolfram([mood])) as server:
        tool = wolfram_alpha(settings(tmp_path, wolfram_endpoint=endpoint), base_url=server.url)
        with pytest.raises(ToolFailed, match=told) as caught:
            await ask(tool, "x")
    assert WOLFRAM_ID not in str(caught.value)


async def test_what_it_suggests_is_passed_on(tmp_path: Path) -> None:
    with web(FakeWolfram(["not understood", "truncated", "gzip"])) as server:
        tool = wolfram_alpha(settings(tmp_path), base_url=server.url)
        with pytest.raises(ToolFailed, match="suggests: weather Stockholm"):
            await ask(tool, "wether")
        with pytest.raises(ToolFailed, match="broke off"):
            await ask(tool, "x")
        assert "x = 4" in (await ask(tool, "x")).text


@pytest.mark.parametrize("endpoint", ["full", "llm"])
async def test_a_wrong_app_id_is_told_without_showing_it(tmp_path: Path, endpoint: str) -> None:
    with web(FakeWolfram()) as server:
        known = settings(tmp_path, wolfram_app_id="WRONG-ID", wolfram_endpoint=endpoint)
        with pytest.raises(ToolFailed, match="puna keys set wolfram_alpha") as caught:
            await ask(wolfram_alpha(known, base_url=server.url), "x")
    assert "WRONG-ID" not in str(caught.value)


@pytest.mark.parametrize("body", [b"null", b"[]", b'{"queryresult": 3}', b'{"queryresult": {}}',
    b'{"queryresult": {"success": true, "pods": [3, {"subpods": [3, {"plaintext": 4}]}]}}',
    b'{"queryresult": {"success": false, "didyoumeans": {"val": 3}}}', b"[" * 100_000])  # fmt: skip
async def test_no_answer_breaks_the_reading(tmp_path: Path, body: bytes) -> None:
    from tests.unit.tools.web import Told

    with (
        web(lambda _: Told(200, body)) as server,
        pytest.raises(ToolFailed, match=r"broke off|no answer"),
    ):
        await ask(wolfram_alpha(settings(tmp_path), base_url=server.url), "x")


async def test_without_an_app_id_this_machine_answers_and_says_so(tmp_path: Path) -> None:
    tool = wolfram_alpha(settings(tmp_path, wolfram_app_id=None))
    output = await ask(tool, "solve x^3 - 4x^2 + 6x - 24 = 0")
    assert output.source == "SymPy and Pint on this machine"
    told = json.loads(output.text)["queryresult"]
    assert told["source"] == output.source
    (solutions,) = [pod for pod in told["pods"] if pod["title"] == "Solutions"]
    assert [one["plaintext"] for one in solutions["subpods"]] == [
        "x = 4", "x = -sqrt(6)*I", "x = sqrt(6)*I",
    ]  # fmt: skip
    with pytest.raises(ToolFailed, match=r"cannot answer 'population of France'.*puna keys set"):
        await ask(tool, "population of France")


@pytest.mark.parametrize("query", ["", "  ", "x" * 1001])
async def test_an_empty_or_endless_query_is_refused(tmp_path: Path, query: str) -> None:
    with pytest.raises(ToolFailed, match="query"):
        await ask(wolfram_alpha(settings(tmp_path, wolfram_app_id=None)), query)
