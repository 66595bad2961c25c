"""`import puna`: what library users hold in their hands."""

import asyncio
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import puna
from puna.api import Model, conversation, sampling_from
from puna.chat import Finished, Image, TextDelta, ToolCall, ToolSpec
from puna.errors import CheckpointError, EngineFailed, InvalidValue, StartupError
from puna.scripted import Script, ScriptedModel, echo
from tests.checkpoints import TINY_TIED, random_weights, write_hf


def test_importing_puna_imports_nothing_else() -> None:
    program = "import sys, puna; print([n for n in ('torch', 'asyncio') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=True)
    assert done.stdout == b"[]\n"


@pytest.mark.parametrize("name", puna.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(puna, name).__name__ == name


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="'puna' has no attribute 'lod'"):
        _ = puna.lod  # type: ignore[attr-defined]


def test_a_string_is_a_conversation() -> None:
    reply = Model(ScriptedModel(echo)).chat("Hello there")
    assert reply.text == "Hello there"
    assert reply.reason == "stop"
    assert reply.usage.completion_tokens == 2


def test_a_reply_goes_on_as_a_message() -> None:
    scripted = ScriptedModel(echo)
    model = Model(scripted)
    first = model.chat("one")
    model.chat(
        [{"role": "user", "content": "one"}, first.message, {"role": "user", "content": "two"}]
    )
    assert [message.text for message in scripted.requests[1].messages] == ["one", "one", "two"]


def test_a_stream_gives_text_and_events_give_everything() -> None:
    call = ToolCall("1", "f", "{}")
    model = Model(ScriptedModel([TextDelta("a"), TextDelta("b"), call]))
    assert list(model.stream("x")) == ["a", "b"]
    *events, last = model.events("x", tools=[ToolSpec("f")])
    assert events == [TextDelta("a"), TextDelta("b"), call]
    assert isinstance(last, Finished)
    assert last.reason == "tool_calls"


def test_leaving_a_stream_stops_the_work() -> None:
    scripted = ScriptedModel("one two three")
    for piece in Model(scripted).stream("x"):
        assert piece == "one"
        break
    assert (scripted.running, scripted.cancelled) == (0, 1)


def test_ctrl_c_in_a_stream_stops_the_work_and_nothing_else() -> None:
    """The signal comes while the next piece is awaited."""
    scripted = ScriptedModel("one two three", "again", delay=0.2)
    model = Model(scripted)
    threading.Timer(0.3, signal.raise_signal, [signal.SIGINT]).start()
    with pytest.raises(KeyboardInterrupt):
        list(model.stream("x"))
    assert (scripted.running, scripted.cancelled) == (0, 1)
    assert model.chat("x").text == "again"


async def test_async_programs_have_the_same() -> None:
    model = Model(ScriptedModel(echo))
    assert (await model.achat("Hello")).text == "Hello"
    assert [piece async for piece in model.astream("Hello there")] == ["Hello", " there"]
    replies = await asyncio.gather(*(model.achat(str(n)) for n in range(10)))
    assert [reply.text for reply in replies] == [str(n) for n in range(10)]


async def test_the_sync_side_works_inside_a_running_loop() -> None:
    """As in a notebook, where a loop runs already."""
    assert Model(ScriptedModel(echo)).chat("Hello").text == "Hello"


def test_threads_may_share_a_model() -> None:
    model = Model(ScriptedModel(echo, delay=0.001))
    answers: list[str] = []
    threads = [
        threading.Thread(target=lambda n=n: answers.append(model.chat(f"say {n}").text))
        for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [f"say {n}" for n in range(8)]


def test_an_error_of_the_model_is_the_callers() -> None:
    with pytest.raises(EngineFailed, match="out of luck"):
        Model(ScriptedModel(EngineFailed("out of luck"))).chat("x")


def test_pictures_are_parts_of_a_message(tmp_path: Path) -> None:
    file = tmp_path / "dot.png"
    file.write_bytes(b"dot")
    [message] = conversation([{"role": "user", "content": ["Look:", puna.image(file)]}])
    assert message.content[1] == Image(b"dot") == puna.image(b"dot")


@pytest.mark.parametrize(
    ("messages", "said"),
    [
        ([], "messages is empty"),
        ([{"role": "robot", "content": "x"}], r"messages\[0\].role is 'robot'; expected one of"),
        ([{"content": "x"}], r"messages\[0\].role is None"),
        (["hello"], r"messages\[0\] is a str; expected a dict"),
        ([{"role": "user", "contents": "x"}], r"messages\[0\].contents is unknown"),
        ([{"role": "user", "content": [1]}], r"messages\[0\].content holds a int"),
        ([{"role": "user", "content": 1}], r"messages\[0\].content is a int"),
    ],
)
def test_a_wrong_message_is_named(messages: list[object], said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        conversation(messages)  # type: ignore[arg-type]


def test_sampling_takes_what_callers_write() -> None:
    sampling = sampling_from({"stop": "END", "temperature": 0, "seed": None})
    assert sampling.stop == ("END",)
    assert (sampling.temperature, sampling.seed) == (0, None)


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({"temprature": 1}, "temprature is no sampling parameter"),
        ({"temperature": 2.1}, "temperature is 2.1; expected a number from 0 to 2"),
        ({"temperature": float("nan")}, "temperature is nan"),
        ({"top_p": "half"}, "top_p is 'half'"),
        ({"max_tokens": 1.5}, "max_tokens is 1.5; expected a whole number of at least 1"),
        ({"max_tokens": True}, "max_tokens is True"),
        ({"top_k": 0}, "top_k is 0"),
        ({"frequency_penalty": -3}, "frequency_penalty is -3; expected a number from -2 to 2"),
    ],
)
def test_a_wrong_sampling_parameter_is_named(fields: dict[str, object], said: str) -> None:
    with pytest.raises(InvalidValue, match=said):
        Model(ScriptedModel("x")).chat("x", **fields)


def test_a_checkpoint_answers(tmp_path: Path) -> None:
    write_hf(tmp_path, TINY_TIED, random_weights(TINY_TIED, seed=1))
    model = puna.load(str(tmp_path), device="cpu", max_context=256)
    try:
        assert model.card.context_length == 256
        once = model.chat("Hello", max_tokens=5, temperature=1, seed=3)
        assert once.usage.completion_tokens == 5
        assert model.chat("Hello", max_tokens=5, temperature=1, seed=3).text == once.text
    finally:
        model.close()


@pytest.mark.parametrize(
    ("name", "options", "error", "said"),
    [
        ("/nowhere", {}, CheckpointError, "/nowhere: there is no such file or folder"),
        ("Llama-3.2-1B", {"hub_cache": "/nowhere"}, StartupError, "puna pull Llama-3.2-1B"),
        ("llama-5", {}, StartupError, "there is no model 'llama-5'"),
        ("x", {"devise": "cpu"}, StartupError, "there is no setting devise"),
    ],
)
def test_what_cannot_be_loaded_is_told(
    name: str, options: dict[str, str], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        puna.load(name, **options)


# --- Tools that run here


@puna.tool(read_only=True)
def get_weather(city: str) -> str:
    """The weather."""
    return f"{city}: 3 degrees"


def order(pizzas: int) -> str:
    """Order pizzas."""
    return f"{pizzas} ordered"


def opened(monkeypatch: pytest.MonkeyPatch, *scripts: Script) -> ScriptedModel:
    model = ScriptedModel(*scripts)
    monkeypatch.setattr("puna.opening.open_model", lambda _name, _settings: model)
    return model


def test_a_function_is_run_and_its_step_told(monkeypatch: pytest.MonkeyPatch) -> None:
    opened(monkeypatch, [ToolCall("1", "get_weather", '{"city": "Oslo"}')], "cold")
    model = puna.load(tools=[get_weather])
    reply = model.chat("And in Oslo?")
    assert reply.text == "cold"
    assert [step.content for step in reply.steps] == ["Oslo: 3 degrees"]
    model.close()


def test_what_may_change_things_needs_approval(monkeypatch: pytest.MonkeyPatch) -> None:
    call = ToolCall("1", "order", '{"pizzas": 2}')
    opened(monkeypatch, [call], "ok", [call], "ok")
    with pytest.raises(StartupError, match="order may change things"):
        puna.load(tools=[order])
    answers = iter([True, False])
    asked: list[tuple[str, ToolCall]] = []

    def approve(tool: puna.Tool, call: ToolCall) -> bool:
        asked.append((tool.name, call))
        return next(answers)

    model = puna.load(tools=[order], approve=approve)
    results = [model.chat(question).steps[0].content for question in ("Two!", "Again!")]
    assert results == ["2 ordered", "the user did not allow this call"]
    assert asked == [("order", call)] * 2
    model.close()


def test_names_and_functions_may_be_mixed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    file = tmp_path / "more.py"
    file.write_text("import puna\n@puna.tool(read_only=True)\ndef now() -> str:\n    return 'noon'")
    scripted = opened(monkeypatch, "hello")
    model = puna.load(tools=[str(file), get_weather])
    model.chat("Hello")
    assert [tool.name for tool in scripted.requests[0].tools] == ["now", "get_weather"]
    model.close()
    with pytest.raises(StartupError, match="two tools are called get_weather"):
        puna.load(tools=[get_weather, get_weather])
