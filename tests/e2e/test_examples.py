"""Every program in examples/ runs as it stands, against a server whose replies are known."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from puna.chat import ChatRequest, Image, ToolCall
from puna.scripted import ScriptedModel
from puna.server import background, create_app

EXAMPLES = Path(__file__).parents[2] / "examples"
PUNA = str(Path(sys.executable).with_name("puna"))
CALL = '<|python_tag|>brave_search.call(query="Stockholm weather")'
RAN: set[str] = set()


def run(program: str, *through: str, **environment: str) -> str:
    RAN.add(program)
    done = subprocess.run(
        [*through, sys.executable, "-W", "error::SyntaxWarning", str(EXAMPLES / program)],
        env={**os.environ, "GITHUB_TOKEN": "any", "OPENAI_API_KEY": "any", **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def against(model: ScriptedModel, ask: Callable[[str], str]) -> str:
    """What `ask` makes of the URL of a server with `model`, under every name that examples use."""
    aliases = dict.fromkeys(
        ("cria-text", "meta-llama-3.1-405b-instruct", "Llama-3.2-90B-Vision-Instruct"), "scripted"
    )
    with background(create_app({"scripted": model}, aliases=aliases)) as url:
        return ask(url)


def test_built_in_search_sends_the_raw_prompt_and_prints_the_call() -> None:
    model = ScriptedModel(CALL)
    printed = against(model, lambda url: run("built_in_search.py", AZURE_INFERENCE_ENDPOINT=url))
    assert printed == f"{CALL}\n"
    system, question = model.requests[0].messages
    assert system.text.startswith("<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n")
    assert system.text.endswith("You are a helpful assistant<|eot_id|>")
    assert question.text == "What is the weather in Stockholm?"


def test_describe_image_sends_the_picture() -> None:
    model = ScriptedModel("A red circle.")
    printed = against(model, lambda url: run("describe_image.py", AZURE_INFERENCE_ENDPOINT=url))
    assert printed == "A red circle.\n"
    images = [part for part in model.requests[0].messages[1].content if isinstance(part, Image)]
    assert [image.data for image in images] == [(EXAMPLES / "sample.jpg").read_bytes()]


def test_streaming_prints_the_pieces_in_order() -> None:
    printed = against(
        ScriptedModel("one two three"),
        lambda url: run("streaming.py", AZURE_INFERENCE_ENDPOINT=url),
    )
    assert printed == "one two three\n"


def calls_then_tells(request: ChatRequest) -> str | list[ToolCall]:
    last = request.messages[-1]
    assert [tool.name for tool in request.tools] == ["get_weather"]
    if last.role == "tool":
        assert last.tool_call_id == "call_1"
        return f"I was told: {last.text}"
    return [ToolCall("call_1", "get_weather", '{"city": "Stockholm"}')]


@pytest.mark.parametrize(
    ("program", "variable", "path"),
    [
        ("tools_azure.py", "AZURE_INFERENCE_ENDPOINT", ""),
        ("tools_openai.py", "OPENAI_BASE_URL", "/v1"),
    ],
)
def test_a_tool_is_called_and_its_result_told(program: str, variable: str, path: str) -> None:
    printed = against(
        ScriptedModel(calls_then_tells), lambda url: run(program, **{variable: f"{url}{path}"})
    )
    assert 'get_weather({"city": "Stockholm"})' in printed
    assert printed.endswith("I was told: The weather in Stockholm is sunny, 21 degrees.\n")


def test_the_retired_address_is_answered_under_puna_run() -> None:
    printed = against(
        ScriptedModel("600"),
        lambda url: run("retired_address.py", PUNA, "run", "-q", "--endpoint", url, "--"),
    )
    assert printed == "scripted: 600\n"


def test_the_python_api_talks_to_a_server_as_to_a_file() -> None:
    printed = against(
        ScriptedModel("Well met."), lambda url: run("python_api.py", PUNA_EXAMPLE_MODEL=url)
    )
    assert printed == "Well met.\nWell met.\nHello! -> Well met.\nThank you! -> Well met.\n"


def test_the_file_of_tools_is_run_for_a_model_elsewhere() -> None:
    def ask(url: str) -> str:
        RAN.add("tools.py")
        command = [PUNA, "ask", "The weather?", "-m", url, "--tools", str(EXAMPLES / "tools.py")]
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    printed = against(ScriptedModel(calls_then_tells), ask)
    assert printed == "I was told: The weather in Stockholm is light snow, 1 degree.\n"


def test_every_example_has_been_run() -> None:
    if len(RAN) < 2:
        pytest.skip("the other tests of this file were not chosen")
    programs = {file.name for file in EXAMPLES.glob("*.py")}
    assert programs - {"demo.py"} == RAN, "demo.py has a test file of its own"
