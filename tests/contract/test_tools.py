"""A server with tools of its own, seen by real clients: the wire stays as it is, the answer comes
finished, and what was done for it stands in a field that trips nobody."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterator
from typing import Any, cast

import httpx2
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import SystemMessage, UserMessage
from azure.core.credentials import AzureKeyCredential
from openai import OpenAI

from puna.chat import ChatRequest, File, ModelCard, TextDelta, ToolCall, message
from puna.scripted import ScriptedModel
from puna.server import background, create_app
from puna.tools.function import tool
from puna.tools.loop import ToolLoop
from puna.tools.selection import Selection
from puna.tools.tool import Output

OSLO = ToolCall("call_1", "get_weather", '{"city": "Oslo"}')
PLOT = File("plot.png", "image/png", b"\x89PNG")
QUESTION = [{"role": "user", "content": "What is the weather in Oslo?"}]


@tool(read_only=True)
def get_weather(city: str) -> Output:
    """The weather in a city."""
    return Output(f"{city}: 3 degrees", (PLOT,), "a table")


def answers(request: ChatRequest) -> Any:
    """Calls the weather, then says what it gave."""
    last = request.messages[-1]
    if last.role == "tool":
        return [TextDelta("It is "), TextDelta(last.text)]
    return [OSLO]


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    loop = ToolLoop(ScriptedModel(answers, card=ModelCard("cria-text")), (get_weather,))
    with background(create_app({"cria-text": loop})) as url:
        yield url
    loop.close()


STEP = {
    "id": "call_1",
    "name": "get_weather",
    "arguments": '{"city": "Oslo"}',
    "content": "Oslo: 3 degrees",
    "is_error": False,
    "source": "a table",
    "files": [
        {
            "name": "plot.png",
            "media_type": "image/png",
            "data": base64.b64encode(PLOT.data).decode(),
        }
    ],
}


def post(url: str, **body: Any) -> httpx2.Response:
    with httpx2.Client(verify=False) as client:
        return client.post(f"{url}/v1/chat/completions", json={"messages": QUESTION, **body})


def chunks(url: str, **body: Any) -> list[dict[str, Any]]:
    lines = post(url, stream=True, **body).text.split("\n\n")
    assert lines[-2:] == ["data: [DONE]", ""]
    return [json.loads(line.removeprefix("data: ")) for line in lines[:-2]]


# --- openai


def test_openai_gets_the_answer_and_finds_the_steps(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        answer = client.chat.completions.create(messages=cast(Any, QUESTION), model="cria-text")
    [choice] = answer.choices
    assert choice.message.content == "It is Oslo: 3 degrees"
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "stop"
    assert answer.usage is not None
    assert answer.usage.completion_tokens == 3  # of both turns
    assert choice.model_extra == {"puna": {"steps": [STEP]}}
    assert not choice.message.model_extra  # so that what clients send back stays small


def test_openai_streams_the_final_answer_alone_unless_it_asks(url: str) -> None:
    with OpenAI(base_url=f"{url}/v1", api_key="any") as client:
        for asked in (None, {"puna": {"steps": True}}):
            stream = client.chat.completions.create(
                messages=cast(Any, QUESTION), model="cria-text", stream=True, extra_body=asked
            )
            text, steps = "", []
            for chunk in stream:
                [choice] = chunk.choices
                text += choice.delta.content or ""
                assert not choice.delta.tool_calls
                steps += (choice.model_extra or {}).get("puna", {}).get("steps", [])
            assert text == "It is Oslo: 3 degrees"
            begun = {key: STEP[key] for key in ("id", "name", "arguments")}
            assert steps == ([begun, STEP] if asked else [])


def test_a_stream_that_was_not_asked_for_steps_has_no_chunk_of_them(url: str) -> None:
    plain = chunks(url)
    assert all("puna" not in choice for chunk in plain for choice in chunk["choices"])
    assert len(plain) == 4  # the role, two pieces of text, the end
    asked = chunks(url, puna={"steps": True})
    assert len(asked) == 6


def test_the_steps_can_be_left_out(url: str) -> None:
    assert "puna" not in post(url, puna={"steps": False}).json()["choices"][0]


@pytest.mark.parametrize(
    ("field", "named"),
    [
        ({"step": True}, "puna.step"),
        ({"steps": "yes"}, "puna.steps"),
        (True, "puna"),
    ],
)
def test_what_the_field_does_not_know_is_refused_by_name(url: str, field: Any, named: str) -> None:
    answer = post(url, puna=field)
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == named


def test_a_client_with_tools_of_its_own_gets_its_own_calls_alone(url: str) -> None:
    own = {"type": "function", "function": {"name": "get_weather"}}
    [choice] = post(url, tools=[own]).json()["choices"]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "get_weather"
    assert "puna" not in choice


def test_several_choices_have_their_own_steps(url: str) -> None:
    choices = post(url, n=2).json()["choices"]
    assert [choice["puna"]["steps"] for choice in choices] == [[STEP], [STEP]]


# --- azure-ai-inference


@pytest.fixture
def azure(url: str) -> Iterator[ChatCompletionsClient]:
    with ChatCompletionsClient(url, AzureKeyCredential("any")) as client:
        yield client


def test_azure_gets_the_answer_and_finds_the_steps(azure: ChatCompletionsClient) -> None:
    answer = azure.complete(messages=[SystemMessage("Be brief."), UserMessage("Oslo?")])
    [choice] = answer.choices
    assert choice.message.content == "It is Oslo: 3 degrees"
    assert choice.message.tool_calls is None
    assert choice.finish_reason == "stop"
    assert choice["puna"] == {"steps": [STEP]}


def test_azure_streams_and_asks_for_steps_with_model_extras(azure: ChatCompletionsClient) -> None:
    for extras in (None, {"puna": {"steps": True}}):
        stream = azure.complete(messages=[UserMessage("Oslo?")], stream=True, model_extras=extras)
        text, steps = "", []
        for update in stream:
            [choice] = update.choices
            text += choice.delta.content or ""
            steps += choice.get("puna", {}).get("steps", [])
        assert text == "It is Oslo: 3 degrees"
        assert len(steps) == (2 if extras else 0)


# --- Choosing


def test_a_choice_of_tools_is_told() -> None:
    tools = [tool(name=f"thing_{i}", read_only=True)(lambda: "x") for i in range(3)]
    loop = ToolLoop(ScriptedModel("Hello"), tools, selection=Selection(most=1))
    with background(create_app({"m": loop})) as few:
        [choice] = post(few).json()["choices"]
        told = {"offered": ["thing_0"], "left_out": ["thing_1", "thing_2"]}
        assert choice["puna"] == {"steps": [], "tools": told}
        streamed = [
            choice["puna"]
            for chunk in chunks(few, puna={"steps": True})
            for choice in chunk["choices"]
            if "puna" in choice
        ]
        assert streamed == [{"tools": told}]
    loop.close()


def test_a_conversation_over_the_wire_keeps_what_was_done() -> None:
    """The client sends visible messages alone; the model is given the steps again."""
    model = ScriptedModel(answers, answers, "And again?")
    loop = ToolLoop(model, (get_weather,))
    with background(create_app({"m": loop})) as other:
        said = post(other).json()["choices"][0]["message"]
        post(other, messages=[*QUESTION, said, {"role": "user", "content": "Sure?"}])
    assert [each.role for each in model.requests[2].messages] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    assert model.requests[2].messages[-1] == message("user", "Sure?")
    loop.close()
