"""Tapes: what was recorded is played again, byte for byte, and holds no key."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from puna.chat import File, ToolCall, collect, message, request
from puna.errors import StartupError, ToolFailed
from puna.scripted import ScriptedModel
from puna.settings import Settings
from puna.tools.cassette import Recorder, Tape
from puna.tools.loop import ToolLoop
from puna.tools.open import open_tools
from puna.tools.tool import Arguments, Output, Session, Tool

SECRET = "BSA-k3y/0123456789"
PLOT = File("p.png", "image/png", bytes(range(256)))


def made(*results: Any, name: str = "ask") -> Tool:
    """A tool that gives these, in order; an exception it raises."""
    given = iter(results)

    async def run(arguments: Arguments, session: Session) -> Output:
        result = next(given)
        if isinstance(result, BaseException):
            raise result
        return result

    return Tool(name, "Asks.", {"type": "object"}, run, read_only=True)


async def outcome(tool: Tool, **arguments: Any) -> Any:
    try:
        return await tool.run(arguments, Session())
    except ToolFailed as error:
        return error.message


def record(path: Path, tool: Tool, *secrets: str) -> tuple[Tool, Recorder]:
    recorder = Recorder(path, secrets)
    return recorder.recorded(tool, "there"), recorder


def played(path: Path) -> Tool:
    return Tape(path).tools["there"][0]


async def test_the_same_calls_get_the_same_answers(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    tool = made(
        Output("å\ud800", (PLOT,), "Somewhere"),
        Output("second"),
        ToolFailed("no luck"),
        KeyError("x"),
    )
    recorded, recorder = record(tape, tool)
    calls: list[dict[str, Any]] = [{"q": "a", "n": 1}, {"q": "a", "n": 1}, {"q": "b"}, {"q": "c"}]
    live = [await outcome(recorded, **call) for call in calls]
    recorder.close()
    replay = played(tape)
    assert (replay.name, replay.description, replay.parameters, replay.read_only) == (
        "ask",
        "Asks.",
        {"type": "object"},
        True,
    )
    calls[0] = {"n": 1, "q": "a"}  # the order of arguments does not matter
    assert [await outcome(replay, **call) for call in calls] == live
    assert live[2:] == ["no luck", "the tool crashed: KeyError: 'x'"]


async def test_a_call_that_is_not_on_the_tape_says_so(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    recorded, recorder = record(tape, made(Output("one")))
    await outcome(recorded, q="a")
    recorder.close()
    replay = played(tape)
    assert await outcome(replay, q="b") == "this call is not on the tape tape.jsonl"
    await outcome(replay, q="a")
    assert await outcome(replay, q="a") == "this call for the 2. time is not on the tape tape.jsonl"


async def test_a_call_that_was_stopped_is_on_the_tape(tmp_path: Path) -> None:
    async def run(arguments: Arguments, session: Session) -> Output:
        await asyncio.sleep(60)
        raise AssertionError

    tape = tmp_path / "tape.jsonl"
    recorded, recorder = record(tape, Tool("ask", "", {}, run))
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(outcome(recorded), 0.01)
    recorder.close()
    assert await outcome(played(tape)) == "it did not end in time, and was stopped"


async def test_no_key_gets_onto_a_tape_nor_into_an_answer(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    leaky = Output(f"url?key={SECRET}", (File("a", "text/plain", SECRET.encode()),))
    recorded, recorder = record(tape, made(leaky, ToolFailed(f"bad {SECRET}")), SECRET)
    live = [await outcome(recorded, q=SECRET), await outcome(recorded, q=[{SECRET: "BSA-k3y%2F0"}])]
    recorder.close()
    assert SECRET not in tape.read_text()
    assert live[0].text == "url?key=[redacted]"
    assert live[0].files[0].data == b"[redacted]"
    assert live[1] == "bad [redacted]"
    assert "k3y" not in str(played(tape))


def test_the_same_session_writes_the_same_bytes(tmp_path: Path) -> None:
    def session(path: Path) -> bytes:
        recorded, recorder = record(path, made(Output("one"), Output("two")))

        async def talk() -> None:
            await outcome(recorded, q="b")
            await outcome(recorded, q="a")

        asyncio.run(talk())
        recorder.close()
        return path.read_bytes()

    assert session(tmp_path / "1") == session(tmp_path / "2")


def test_a_tape_that_is_there_is_not_written_over(tmp_path: Path) -> None:
    tape = tmp_path / "tape.jsonl"
    tape.write_text("precious")
    with pytest.raises(StartupError, match="is there already"):
        Recorder(tape)
    assert tape.read_text() == "precious"
    with pytest.raises(StartupError, match="cannot write"):
        Recorder(tmp_path / "no" / "such" / "folder")


@pytest.mark.parametrize(
    "content", ["", "hello", "{}", '{"tool": "x"}', '{"call": "x", "arguments": {}}', "[]", "å"]
)
def test_what_is_no_tape_is_refused(tmp_path: Path, content: str) -> None:
    tape = tmp_path / "tape.jsonl"
    tape.write_text(content)
    with pytest.raises(StartupError, match="--replay"):
        Tape(tape)


def test_a_file_of_tools_is_recorded_and_replayed_without_the_file(tmp_path: Path) -> None:
    """Through `open_tools`, as the command line does it."""
    file = tmp_path / "mine.py"
    file.write_text(
        "import itertools\nfrom puna import tool\n\ncounter = itertools.count(1)\n\n\n"
        "@tool(read_only=True)\ndef tick() -> int:\n    '''Ticks.'''\n    return next(counter)\n"
    )
    settings = Settings(config_dir=tmp_path, keyring=False)
    tape = tmp_path / "tape.jsonl"

    def answer(names: list[str], **fields: Any) -> list[str]:
        box = open_tools(names, settings, **fields)
        call = ToolCall("1", "tick", "{}")
        loop = ToolLoop(ScriptedModel([call], [call], "done"), box.tools, thread=box.thread)
        reply = asyncio.run(collect(loop.stream(request([message("user", "x")]))))
        loop.close()
        box.close()
        return [step.content for step in reply.steps]

    assert answer([str(file)], record=tape) == ["1", "2"]
    file.unlink()
    assert answer([], replay=tape) == ["1", "2"]
    assert answer([str(file)], replay=tape) == ["1", "2"]
    with pytest.raises(StartupError, match="brave_search is not on the tape"):
        open_tools(["brave_search"], settings, replay=tape)
    assert [json.loads(line)["time"] for line in tape.read_text().splitlines()[1:]] == [1, 2]
