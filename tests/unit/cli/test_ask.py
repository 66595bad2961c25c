"""`puna ask`: arguments, pipes and pictures in, one answer out."""

import io
import json
import sys
from pathlib import Path

import pytest

from puna.chat import Finished, Image, TextDelta, Usage
from puna.cli.main import run_command_line
from puna.scripted import ScriptedModel, echo

Output = pytest.CaptureFixture[str]


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the models that were opened."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(""))
    return []


def answering(
    model: ScriptedModel, opened: list[str], monkeypatch: pytest.MonkeyPatch
) -> ScriptedModel:
    def open_model(name: str, _: object) -> ScriptedModel:
        opened.append(name)
        return model

    monkeypatch.setattr("puna.opening.open_model", open_model)
    return model


def test_the_answer_goes_to_stdout(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    answering(ScriptedModel("It rains."), opened, monkeypatch)
    assert run_command_line(["ask", "And the weather?"]) == 0
    assert capsys.readouterr() == ("It rains.\n", "")
    assert opened == ["cria-text"]


def test_a_pipe_follows_the_question(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = answering(ScriptedModel(echo), opened, monkeypatch)
    monkeypatch.setattr(sys, "stdin", io.StringIO("the notes\n"))
    run_command_line(["ask", "What is this?", "--system", "Be brief."])
    system, user = model.requests[0].messages
    assert (system.role, system.text) == ("system", "Be brief.")
    assert user.text == "What is this?\n\nthe notes"


def test_a_dash_reads_the_pipe_alone(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = answering(ScriptedModel(echo), opened, monkeypatch)
    monkeypatch.setattr(sys, "stdin", io.StringIO("from the pipe\n"))
    run_command_line(["ask", "-"])
    assert model.requests[0].messages[0].text == "from the pipe"


def test_pictures_come_first_and_choose_a_model_that_sees(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = answering(ScriptedModel("a dot"), opened, monkeypatch)
    picture = tmp_path / "dot.png"
    picture.write_bytes(b"dot")
    run_command_line(["ask", "What is it?", "-i", str(picture)])
    assert model.requests[0].messages[0].content[0] == Image(b"dot")
    assert opened == ["cria-vision"]


def test_sampling_is_passed_on(opened: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    model = answering(ScriptedModel("x"), opened, monkeypatch)
    run_command_line(["ask", "x", "--temperature", "0.5", "--seed", "7", "--max-tokens", "9"])
    sampling = model.requests[0].sampling
    assert (sampling.temperature, sampling.seed, sampling.max_tokens) == (0.5, 7, 9)


def test_json_is_one_object(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    answering(ScriptedModel("Grüße"), opened, monkeypatch)
    run_command_line(["ask", "one two", "--json"])
    printed = capsys.readouterr().out
    assert printed.count("\n") == 1
    assert json.loads(printed) == {
        "text": "Grüße",
        "tool_calls": [],
        "steps": [],
        "finish_reason": "stop",
        "usage": {"prompt_tokens": 2, "completion_tokens": 1, "total_tokens": 3},
    }


def test_an_answer_that_was_cut_says_so_on_stderr(
    opened: list[str], monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    cut = [TextDelta("It ra"), Finished("length", Usage(3, 2))]
    answering(ScriptedModel(cut), opened, monkeypatch)
    assert run_command_line(["ask", "x"]) == 0
    assert capsys.readouterr() == (
        "It ra\n",
        "puna: cut after 2 tokens (--max-tokens allows more)\n",
    )


def test_nothing_to_ask_is_wrong_usage(opened: list[str], capsys: Output) -> None:
    assert run_command_line(["ask"]) == 2
    assert "nothing to ask" in capsys.readouterr().err


def test_a_picture_that_is_not_there_is_told_before_a_model_is_loaded(
    opened: list[str], capsys: Output
) -> None:
    assert run_command_line(["ask", "x", "-i", "/nowhere.png"]) == 1
    assert capsys.readouterr().err == (
        "puna: cannot read the image /nowhere.png: no such file or directory\n"
    )
    assert opened == []
