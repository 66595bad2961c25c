"""Tools in a terminal: what is shown, asked and saved; what the options refuse."""

from __future__ import annotations

import io
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from puna.api import Model
from puna.chat import File, ToolCall, ToolResult, ToolsChosen, ToolStarted
from puna.cli.chat import Conversation
from puna.cli.main import run_command_line
from puna.cli.steps import Steps
from puna.cli.tools import describe_call, save_files, shortened
from puna.scripted import ScriptedModel
from puna.tools.approvals import Approvals, Asking
from puna.tools.function import tool
from puna.tools.loop import ToolLoop

Captured = pytest.CaptureFixture[str]

ORDER = ToolCall("1", "order", '{"pizzas": 2}')


@tool
def order(pizzas: int) -> str:
    """Order pizzas."""
    return f"{pizzas} ordered"


# --- What is shown


def test_steps_are_shown_on_stderr(tmp_path: Path, capsys: Captured) -> None:
    steps = Steps(folder=tmp_path)
    files = (File("plot.png", "image/png", b"png"),)
    steps.show(ToolsChosen(("a", "b"), ("c",)))
    steps.show(ToolStarted(ORDER))
    steps.show(ToolResult(ORDER, "two\nordered", files=files, source="the kitchen"))
    steps.show(ToolResult(ORDER, "closed", is_error=True))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines() == [
        "· 2 of 3 tools are offered for this: a, b",
        "· order(pizzas=2)",
        "·   two ordered (the kitchen)",
        f"· saved {tmp_path / 'plot.png'}",
        "·   failed: closed",
    ]
    assert (tmp_path / "plot.png").read_bytes() == b"png"


@pytest.mark.parametrize(
    ("arguments", "shown"),
    [
        ('{"city": "Åre", "days": [1]}', 'f(city="Åre", days=[1])'),
        ("", "f()"),
        ("{", "f({)"),
        ("[1,\n2]", "f([1, 2])"),
        ('{"a": "' + "x" * 500 + '"}', 'f(a="' + "x" * 295 + " …)"),
    ],
)
def test_a_call_is_described_on_one_line(arguments: str, shown: str) -> None:
    assert describe_call("f", arguments) == shown


def test_a_long_result_is_shortened() -> None:
    assert len(shortened("word " * 100)) == 160


# --- What is saved


@pytest.mark.parametrize(
    ("wanted", "name"),
    [
        ("plot.png", "plot.png"),
        ("../../.bashrc", "bashrc"),
        ("/etc/passwd", "passwd"),
        ("a\x1b[2J\nb.txt", "a__2J_b.txt"),
        ("..", "file"),
        ("", "file"),
        ("x" * 300, "x" * 100),
    ],
)
def test_files_get_names_that_lead_nowhere_else(tmp_path: Path, wanted: str, name: str) -> None:
    folder = tmp_path / "files"
    assert save_files([(wanted, b"1")], folder) == [folder / name]
    assert [path.name for path in folder.iterdir()] == [name]


def test_no_file_replaces_another(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"mine")
    os.symlink("/nowhere/at/all", tmp_path / "a-1.txt")
    saved = save_files([("a.txt", b"1"), ("a.txt", b"2")], tmp_path)
    assert [path.name for path in saved] == ["a-2.txt", "a-3.txt"]
    assert (tmp_path / "a.txt").read_bytes() == b"mine"


# --- What is asked


class Chat:
    """A chat in which somebody types these answers when asked."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *typed: Any, asking: Asking = "always"
    ) -> None:
        answers = iter(typed)
        self.asked: list[str] = []

        def typing(prompt: str) -> str:
            self.asked.append(prompt.strip())
            answer = next(answers)
            if isinstance(answer, BaseException):
                raise answer
            return answer

        monkeypatch.setattr("builtins.input", typing)
        self.model = ScriptedModel([ORDER], "done", [ORDER], "done")
        steps = Steps(can_ask=True)
        approvals = Approvals({"order": asking}, steps.ask)
        steps.approvals, steps.tools = approvals, {"order": order}
        self.loop = ToolLoop(self.model, (order,), approvals=approvals)
        self.talk = Conversation(Model(self.loop), sampling={}, steps=steps)

    def say(self, line: str) -> str:
        return "".join(self.talk.answer(line))

    def given(self) -> str:
        return self.model.requests[-1].messages[-1].text


def test_a_person_is_shown_the_call_and_asked(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    chat = Chat(monkeypatch, "y", "")
    assert chat.say("Two pizzas!") == "done"
    assert chat.given() == "2 ordered"
    assert "· the model wants to run order(pizzas=2)\n" in capsys.readouterr().err
    chat.say("Two more!")
    assert chat.given() == "Error: the user did not allow this call"
    assert chat.asked == ["run it? [y/N]"] * 2


def test_asked_once_a_yes_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(monkeypatch, "Yes", asking="once")
    chat.say("Two pizzas!")
    chat.say("Two more!")
    assert chat.given() == "2 ordered"
    assert chat.asked == ["run it, now and from now on? [y/N]"]


def test_never_asked_it_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    chat = Chat(monkeypatch, asking="never")
    chat.say("Two pizzas!")
    assert chat.given() == "2 ordered"
    assert chat.asked == []


def test_ctrl_c_at_the_question_stops_the_answer_and_runs_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chat = Chat(monkeypatch, KeyboardInterrupt(), "y")
    with pytest.raises(KeyboardInterrupt):
        chat.say("Two pizzas!")
    assert len(chat.model.requests) == 1
    assert chat.model.running == 0
    assert chat.say("Hello") == "done"  # and the chat goes on


# --- Commands


TICK = """
from puna import tool

@tool(read_only=True)
def tick() -> str:
    "Ticks."
    return "tock"

@tool
def explode() -> str:
    "Explodes."
    return "boom"
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    monkeypatch.setenv("PUNA_CONFIG_DIR", str(tmp_path))
    (tmp_path / "mine.py").write_text(TICK)
    return str(tmp_path / "mine.py")


def test_ask_runs_tools_and_tells_the_steps(
    file: str, monkeypatch: pytest.MonkeyPatch, capsys: Captured
) -> None:
    model = ScriptedModel([ToolCall("1", "tick", "{}")], "It says tock.")
    monkeypatch.setattr("puna.opening.open_model", lambda _name, _settings: model)
    assert run_command_line(["ask", "Tick?", "--tools", file]) == 0
    out, err = capsys.readouterr()
    assert out == "It says tock.\n"
    assert err.splitlines() == ["· tick()", "·   tock"]
    assert [each.name for each in model.requests[0].tools] == ["tick"]


def test_ask_runs_what_may_change_things_only_when_that_was_allowed(
    file: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = ScriptedModel([ToolCall("1", "explode", "{}")], "Boom.")
    monkeypatch.setattr("puna.opening.open_model", lambda _name, _settings: model)
    assert run_command_line(["ask", "Go!", "--tools", file, "--ask", "explode=never"]) == 0
    assert model.requests[1].messages[-1].text == "boom"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--tools", "google"], "no tool called 'google'"),
        (["--tools", "nowhere.py"], "no such file"),
        (["--ask", "tick=never"], "name them with --tools"),
        (["--tools", "FILE", "--ask", "tick"], "NAME=never, NAME=once or NAME=always"),
        (["--tools", "FILE", "--ask", "explode=always"], "nobody can be asked here"),
        (["--tools", "FILE", "--pin", "tok"], "--pin tok: there is no such tool"),
        (["--record", "tape"], "name tools with --tools"),
        (["--replay", "nowhere"], "cannot read nowhere"),
        (["--tools", "FILE", "--record", "a", "--replay", "b"], "written or played, not both"),
    ],
)
def test_wrong_options_are_told_before_a_model_is_loaded(
    file: str, words: list[str], told: str, capsys: Captured
) -> None:
    """By every command: the model does not exist."""
    words = [file if word == "FILE" else word for word in words]
    for command in (["ask", "Hi", "-m", "./none"], ["serve", "./none", "--port", "0"]):
        assert run_command_line([*command, *words]) == 1
        error = capsys.readouterr().err
        assert told in error
        assert error.count("\n") == 1


def test_the_server_says_what_it_offers_and_what_not(file: str) -> None:
    from puna.cli.tools import Wanted, inventory, opened_tools
    from puna.settings import Settings

    with opened_tools(Wanted(names=[file]), Settings()) as ready:
        assert ready is not None
        assert inventory(ready) == [
            "tools: tick",
            "not offered, because they may change things and nobody can be asked: explode "
            "(--ask NAME=never lets one run without asking)",
        ]


def test_neither_a_call_nor_its_result_can_steer_the_terminal(capsys: Captured) -> None:
    Steps().show(ToolStarted(ToolCall("1", "f", '{"a": "\x1b[2J", "\\u001b[1m": 1}')))
    Steps().show(ToolResult(ORDER, "\x1b[2Jgone\x07", source="\x1b[5m"))
    assert capsys.readouterr().err.replace("\n", "").isprintable()
