"""Structured output and tools that are forced, with the real clients and a real (random) Llama."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from azure.ai.inference import ChatCompletionsClient
from azure.ai.inference.models import (
    ChatCompletionsNamedToolChoice,
    ChatCompletionsNamedToolChoiceFunction,
    ChatCompletionsToolDefinition,
    FunctionDefinition,
    JsonSchemaFormat,
    UserMessage,
)
from azure.core.credentials import AzureKeyCredential
from azure.core.exceptions import HttpResponseError
from openai import pydantic_function_tool
from pydantic import BaseModel

from puna.chat import JsonFormat, NamedTool, ToolSpec, collect, message, request
from puna.local import LocalModel
from puna.remote import RemoteModel
from puna.server import background, create_app
from puna.settings import Settings
from tests.checkpoints import TINY_TEXT, random_weights, write_hf

USER: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]


class Forecast(BaseModel):
    """Finite, so that even random weights come to an end."""

    city: Literal["Oslo", "Rome"]
    sunny: bool
    degrees: list[Literal[1, 20, 300]] | None


class get_weather(BaseModel):
    """The weather of a city."""

    city: Literal["Oslo", "Rome"]


CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Oslo", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
WEATHER = ChatCompletionsToolDefinition(
    function=FunctionDefinition(name="get_weather", description="Weather", parameters=CITY)
)
NAMED = ChatCompletionsNamedToolChoice(
    function=ChatCompletionsNamedToolChoiceFunction(name="get_weather")
)


@pytest.fixture(scope="module")
def url(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder = tmp_path_factory.mktemp("model") / "tiny"
    write_hf(folder, TINY_TEXT, random_weights(TINY_TEXT, seed=1))
    model = LocalModel.load(folder, Settings(max_context=2048, max_output_tokens=400))
    with background(create_app({"tiny": model})) as url:
        yield url
    model.close()


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{url}/v1", api_key="any", max_retries=0) as client:
        yield client


@pytest.fixture
def azure(url: str) -> Iterator[ChatCompletionsClient]:
    with ChatCompletionsClient(url, AzureKeyCredential("any")) as client:
        yield client


def asked(**fields: Any) -> Any:
    return {"model": "tiny", "messages": USER, "temperature": 1.2, **fields}


def until_it_ends(ask: Any) -> Any:
    """Lists may go on beyond the limit; another seed, then."""
    for seed in range(20):
        try:
            return ask(seed)
        except openai.LengthFinishReasonError:
            continue
    raise AssertionError("no seed came to an end")


def test_openai_parses_a_pydantic_model(client: openai.OpenAI) -> None:
    answer = until_it_ends(
        lambda seed: client.chat.completions.parse(**asked(response_format=Forecast, seed=seed))
    )
    assert isinstance(answer.choices[0].message.parsed, Forecast)
    assert answer.choices[0].finish_reason == "stop"


def test_openai_parses_a_stream_of_it(client: openai.OpenAI) -> None:
    def ask(seed: int) -> Any:
        with client.chat.completions.stream(**asked(response_format=Forecast, seed=seed)) as stream:
            return stream.get_final_completion()

    assert isinstance(until_it_ends(ask).choices[0].message.parsed, Forecast)


def test_openai_parses_the_arguments_of_strict_tools(client: openai.OpenAI) -> None:
    for choice in ("required", {"type": "function", "function": {"name": "get_weather"}}):
        answer: Any = client.chat.completions.parse(
            **asked(
                tools=[pydantic_function_tool(get_weather)],
                tool_choice=choice,
                parallel_tool_calls=False,
            )
        )
        [call] = answer.choices[0].message.tool_calls
        assert isinstance(call.function.parsed_arguments, get_weather)
        assert answer.choices[0].finish_reason == "tool_calls"


def test_openai_gets_a_forced_call_in_a_stream(client: openai.OpenAI) -> None:
    chunks = client.chat.completions.create(
        **asked(
            tools=[pydantic_function_tool(get_weather)],
            tool_choice="required",
            parallel_tool_calls=False,
            stream=True,
        )
    )
    arguments, reasons = "", []
    for chunk in chunks:
        [choice] = chunk.choices
        assert not choice.delta.content
        arguments += "".join(call.function.arguments for call in choice.delta.tool_calls or [])
        reasons.append(choice.finish_reason)
    assert get_weather.model_validate_json(arguments)
    assert reasons[-1] == "tool_calls"


def test_openai_gets_a_json_object_or_what_the_limit_left_of_it(client: openai.OpenAI) -> None:
    answer = client.chat.completions.create(
        **asked(response_format={"type": "json_object"}, max_tokens=30, n=3)
    )
    for choice in answer.choices:
        assert choice.message.content.startswith("{")
        if choice.finish_reason == "stop":
            assert isinstance(json.loads(choice.message.content), dict)
        else:
            assert choice.finish_reason == "length"


def test_tool_choice_none_calls_nothing(client: openai.OpenAI) -> None:
    tools = [pydantic_function_tool(get_weather)]
    answer = client.chat.completions.create(**asked(tools=tools, tool_choice="none", max_tokens=20))
    assert answer.choices[0].message.tool_calls is None


def test_openai_learns_what_no_grammar_can_do(client: openai.OpenAI) -> None:
    schema = {"type": "object", "properties": {"x": {"type": "array", "uniqueItems": True}}}
    wanted = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    with pytest.raises(openai.BadRequestError, match="uniqueItems") as caught:
        client.chat.completions.create(**asked(response_format=wanted))
    assert caught.value.param == "response_format.json_schema.schema"


@pytest.mark.parametrize("strict", [True, False, None])
def test_azure_gets_json_by_a_schema(azure: ChatCompletionsClient, strict: bool | None) -> None:
    wanted = JsonSchemaFormat(name="city", schema=CITY, description="A city.", strict=strict)
    answer = azure.complete(messages=[UserMessage("Where?")], response_format=wanted)
    assert json.loads(answer.choices[0].message.content)["city"] in ("Oslo", "Rome")
    assert answer.choices[0].finish_reason == "stop"


@pytest.mark.parametrize("choice", ["required", NAMED])
def test_azure_gets_a_forced_call(azure: ChatCompletionsClient, choice: Any) -> None:
    answer = azure.complete(
        messages=[UserMessage("Where?")],
        tools=[WEATHER],
        tool_choice=choice,
        model_extras={"parallel_tool_calls": False},
    )
    [call] = answer.choices[0].message.tool_calls
    assert call.function.name == "get_weather"
    assert json.loads(call.function.arguments)["city"] in ("Oslo", "Rome")
    assert answer.choices[0].finish_reason == "tool_calls"


def test_azure_gets_a_json_object_as_a_stream(azure: ChatCompletionsClient) -> None:
    chunks = azure.complete(
        messages=[UserMessage("Where?")], response_format="json_object", max_tokens=20, stream=True
    )
    text = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert text.startswith("{")


def test_azure_learns_what_contradicts_itself(azure: ChatCompletionsClient) -> None:
    schema = {"type": "object", "required": ["a"], "additionalProperties": False}
    with pytest.raises(HttpResponseError, match="'a' is unsatisfiable") as caught:
        azure.complete(
            messages=[UserMessage("?")], response_format=JsonSchemaFormat(name="x", schema=schema)
        )
    assert caught.value.status_code == 400


async def test_a_remote_model_passes_all_of_it_on(url: str) -> None:
    remote = RemoteModel(url, "tiny")
    turns = [message("user", "Where?")]
    reply = await collect(remote.stream(request(turns, response_format=JsonFormat(CITY))))
    assert json.loads(reply.text)["city"] in ("Oslo", "Rome")
    tools = (ToolSpec("get_weather", "Weather", CITY, strict=True),)
    for choice in ("required", NamedTool("get_weather")):
        asked = request(turns, tools=tools, tool_choice=choice, parallel_tool_calls=False)
        [call] = (await collect(remote.stream(asked))).tool_calls
        assert json.loads(call.arguments)["city"] in ("Oslo", "Rome")
