"""The state of a terminal chat, and its commands."""

from pathlib import Path

import pytest

from puna.api import Model
from puna.chat import Image, ModelCard
from puna.cli.chat import Conversation
from puna.cli.main import run_command_line
from puna.errors import EngineFailed
from puna.scripted import ScriptedModel, echo


def talk(model: ScriptedModel, system: str | None = None) -> Conversation:
    return Conversation(Model(model), system=system, sampling={})


def roles(model: ScriptedModel) -> list[list[str]]:
    return [[message.role for message in request.messages] for request in model.requests]


def test_what_was_said_is_sent_again_each_time() -> None:
    model = ScriptedModel(echo)
    chat = talk(model, system="Be brief.")
    assert "".join(chat.answer("one")) == "one"
    assert "".join(chat.answer("two")) == "two"
    assert roles(model)[1] == ["system", "user", "assistant", "user"]


def test_an_answer_that_is_stopped_is_kept_as_far_as_it_went() -> None:
    model = ScriptedModel("one two three")
    chat = talk(model)
    answer = chat.answer("go")
    assert next(answer) == "one"
    answer.close()
    assert model.cancelled == 1
    "".join(chat.answer("and"))
    assert [message.text for message in model.requests[1].messages] == ["go", "one", "and"]


def test_a_question_that_fails_leaves_the_conversation_as_it_was(tmp_path: Path) -> None:
    picture = tmp_path / "a.png"
    picture.write_bytes(b"bytes")
    model = ScriptedModel(EngineFailed("out of luck"), "fine")
    chat = talk(model)
    chat.command(f"/image {picture}")
    with pytest.raises(EngineFailed):
        "".join(chat.answer("look"))
    "".join(chat.answer("again"))
    [message] = model.requests[1].messages
    assert message.content[0] == Image(b"bytes")
    assert message.text == "again"


def test_a_picture_goes_with_the_next_message_alone(tmp_path: Path) -> None:
    picture = tmp_path / "a b.png"
    picture.write_bytes(b"bytes")
    model = ScriptedModel("seen")
    chat = talk(model)
    assert chat.command(f"/image '{picture}'") == "1 picture will go with your next message"
    "".join(chat.answer("what is this?"))
    "".join(chat.answer("sure?"))
    first, second = model.requests[0].messages[0], model.requests[1].messages[-1]
    assert [type(part).__name__ for part in first.content] == ["Image", "Text"]
    assert [type(part).__name__ for part in second.content] == ["Text"]


def test_a_model_that_sees_nothing_says_so_at_once(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"bytes")
    chat = talk(ScriptedModel("x", card=ModelCard(name="blind")))
    told = chat.command(f"/image {tmp_path / 'a.png'}")
    assert told is not None
    assert told.startswith("blind sees no pictures")
    assert "".join(chat.answer("hello")) == "x"


def test_system_and_reset_begin_anew() -> None:
    model = ScriptedModel(echo)
    chat = talk(model)
    "".join(chat.answer("one"))
    assert chat.command("/system Be kind.") == "begun anew"
    assert chat.command("/system") == "Be kind."
    "".join(chat.answer("two"))
    assert roles(model)[-1] == ["system", "user"]
    chat.command("/reset")
    "".join(chat.answer("three"))
    assert roles(model)[-1] == ["system", "user"]


def test_save_writes_what_was_said_and_overwrites_nothing(tmp_path: Path) -> None:
    chat = talk(ScriptedModel(echo), system="Be brief.")
    "".join(chat.answer("one"))
    file = tmp_path / "talk.txt"
    assert chat.command(f"/save {file}") == f"3 messages are in {file}"
    assert file.read_text() == "system: Be brief.\n\nuser: one\n\nassistant: one\n"
    assert "file exists" in (chat.command(f"/save {file}") or "")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("/image", "which one?"),
        ("/image /nowhere.png", "cannot read the image /nowhere.png: no such file"),
        ("/save", "where to?"),
        ("/save /nowhere/at/all", "cannot write"),
        ("/hlep", "there is no /hlep; /help lists what there is"),
        ("/help", "/image FILE"),
    ],
)
def test_commands_answer_in_plain_words(line: str, said: str) -> None:
    assert said in (talk(ScriptedModel("x")).command(line) or "")


def test_quit_ends() -> None:
    assert talk(ScriptedModel("x")).command("/quit") is None


def test_a_pipe_is_a_conversation_line_by_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import io
    import sys

    model = ScriptedModel(echo)
    monkeypatch.setattr("puna.opening.open_model", lambda *_: model)
    monkeypatch.setattr(sys, "stdin", io.StringIO("one\n\ntwo \\\nlines\n/quit\nnever\n"))
    assert run_command_line(["chat", "x"]) == 0
    assert capsys.readouterr().out == "one\ntwo \nlines\n"
    assert len(model.requests) == 2
