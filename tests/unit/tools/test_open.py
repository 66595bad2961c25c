"""From the names that a user writes to tools that can run."""

from __future__ import annotations

import asyncio
import sys
import types
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from puna.errors import StartupError
from puna.settings import Settings
from puna.tools.approvals import read_asking
from puna.tools.function import tool
from puna.tools.open import open_tools, tools_in
from puna.tools.tool import Tool

FILE = '''
from dataclasses import dataclass
from puna import tool

@dataclass
class Where:
    city: str

@tool(read_only=True)
def weather(at: Where) -> str:
    """The weather."""
    return at.city

@tool
def order(pizzas: int) -> str:
    """Order."""
    return "ordered"

def no_tool() -> None: ...
'''


def written(folder: Path, text: str = FILE, name: str = "mine.py") -> str:
    (folder / name).write_text(text)
    return str(folder / name)


def settings(folder: Path, **fields: Any) -> Settings:
    return Settings(config_dir=folder, keyring=False, **fields)


def test_every_tool_of_a_file_is_opened(tmp_path: Path) -> None:
    box = open_tools([written(tmp_path)], settings(tmp_path))
    assert [each.name for each in box.tools] == ["weather", "order"]
    box.close()


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("x = 1", "has no tools"),
        ("import nothing_of_the_kind", r"line 1: ModuleNotFoundError: .*nothing_of_the_kind"),
        ("\n\n1 / 0", "line 3: ZeroDivisionError"),
        ("def f(:\n", "line 1: SyntaxError"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("from puna import tool\n@tool\ndef f(x): ...", "line 2: TypeError: f: parameter x needs"),
    ],
)
def test_a_file_that_does_not_work_is_told_with_its_line(
    tmp_path: Path, text: str, told: str
) -> None:
    with pytest.raises(StartupError, match=told):
        open_tools([written(tmp_path, text)], settings(tmp_path))


def test_a_name_that_is_none_is_told_which_there_are(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no tool called 'google'; there are brave_search"):
        open_tools(["google"], settings(tmp_path))
    with pytest.raises(StartupError, match=r"nowhere\.py: there is no such file"):
        open_tools(["nowhere.py"], settings(tmp_path))


def test_two_tools_of_one_name_are_told(tmp_path: Path) -> None:
    files = ",".join(written(tmp_path, name=name) for name in ("a.py", "b.py"))
    with pytest.raises(StartupError, match=r"a\.py and .*b\.py both bring a tool called weather"):
        open_tools([files], settings(tmp_path))


def test_a_pin_that_holds_nothing_is_told(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="--pin wether: there is no such tool"):
        open_tools([written(tmp_path)], settings(tmp_path, pinned_tools=("wether",)))


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A module in the place of the MCP client, which tells what became of its servers."""
    told: list[str] = []

    @asynccontextmanager
    async def open_server(name: str, settings: Settings) -> AsyncGenerator[list[Tool]]:
        if name == "broken":
            raise StartupError("mcp:broken: no such server")
        task = asyncio.current_task()
        told.append(f"{name} opened")

        @tool(read_only=True, name=f"{name}_tool")
        def hello() -> str:
            return "hello"

        try:
            yield [] if name == "empty" else [hello]
        finally:
            assert asyncio.current_task() is task
            told.append(f"{name} closed")

    package = types.ModuleType("puna.tools.mcp")
    client = types.ModuleType("puna.tools.mcp.client")
    client.open_server = open_server  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "puna.tools.mcp", package)
    monkeypatch.setitem(sys.modules, "puna.tools.mcp.client", client)
    return told


def testservers_live_until_the_end_and_are_left_by_who_entered(
    tmp_path: Path, servers: list[str]
) -> None:
    box = open_tools(["mcp:a,mcp:b"], settings(tmp_path))
    assert [each.name for each in box.tools] == ["a_tool", "b_tool"]
    assert servers == ["a opened", "b opened"]
    box.close()
    assert servers[2:] == ["b closed", "a closed"]


@pytest.mark.parametrize("bad", ["mcp:broken", "mcp:empty", "google"])
def test_one_that_cannot_be_opened_closes_those_that_were(
    tmp_path: Path, servers: list[str], bad: str
) -> None:
    with pytest.raises(StartupError):
        open_tools(["mcp:a", bad], settings(tmp_path))
    assert servers[-1] == "a closed"


# --- Approval


def test_where_nobody_can_be_asked_only_what_changes_nothing_runs(tmp_path: Path) -> None:
    file = written(tmp_path)
    box = open_tools([file], settings(tmp_path))
    weather, order = box.tools
    approvals = box.approvals({}, None)
    assert approvals.can_run(weather)
    assert not approvals.can_run(order)
    for name in ("order", file):
        assert box.approvals({name: "never"}, None).can_run(order)
    with pytest.raises(StartupError, match="--ask order=once: nobody can be asked here"):
        box.approvals({"order": "once"}, None)
    with pytest.raises(StartupError, match="--ask pizza: there is no such tool"):
        box.approvals({"pizza": "never"}, None)
    box.close()


def test_a_name_of_which_nothing_could_run_is_told_with_what_to_do(tmp_path: Path) -> None:
    text = "from puna import tool\n@tool\ndef order() -> None:\n    'Order.'"
    file = written(tmp_path, text)
    box = open_tools([file], settings(tmp_path))
    with pytest.raises(StartupError, match=r"--ask .*mine\.py=never"):
        box.approvals({}, None)
    box.close()


def test_words_for_asking_are_read() -> None:
    assert read_asking(["a=never", "C:\\x=y.py = once"]) == {"a": "never", "C:\\x=y.py": "once"}
    for wrong in ("a", "a=", "=never", "a=sometimes", ""):
        with pytest.raises(StartupError, match="NAME=never, NAME=once or NAME=always"):
            read_asking([wrong])


def test_tools_of_a_file_can_be_called_as_functions(tmp_path: Path) -> None:
    _, order = tools_in(Path(written(tmp_path)))
    assert order(1) == "ordered"  # type: ignore[operator]
