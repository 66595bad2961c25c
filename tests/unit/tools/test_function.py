"""`@tool`: the signature is the schema, the docstring the description."""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Any, Literal

import pytest
from pydantic import BaseModel, Field

from puna.chat import File
from puna.errors import ToolFailed
from puna.tools.function import FunctionTool, read_docstring, tool
from puna.tools.tool import Output, Session


async def run(tool: FunctionTool, **arguments: Any) -> Output:
    return await tool.run(arguments, Session())


def test_name_description_and_schema_come_from_the_function() -> None:
    @tool(read_only=True)
    def get_weather(city: str, days: int = 1, unit: Literal["C", "F"] | None = None) -> str:
        """The weather in a city.

        Args:
            city: The city,
                e.g. Paris.
            days (int): How many days.

        Returns:
            A sentence.
        """
        return f"{city} {days} {unit}"

    assert get_weather.name == "get_weather"
    assert get_weather.description == "The weather in a city."
    assert get_weather.read_only
    assert get_weather.parameters == {
        "type": "object",
        "properties": {
            "city": {"type": "string", "description": "The city, e.g. Paris."},
            "days": {"type": "integer", "default": 1, "description": "How many days."},
            "unit": {"type": "string", "enum": ["C", "F"]},
        },
        "required": ["city"],
    }
    assert get_weather("Oslo") == "Oslo 1 None"


def test_a_tool_changes_things_unless_it_says_otherwise() -> None:
    @tool
    def order(pizzas: int) -> None: ...

    assert not order.read_only


GOOGLE = """Do it.

    In two paragraphs: this is one.

    Args:
        a: First: with a colon.
        b (int, optional): Second.

    Raises:
        ValueError: never.
    """
NUMPY = """Do it.

    In two paragraphs: this is one.

    Parameters
    ----------
    a : str
        First: with a colon.
    b : int, optional
        Second.

    Returns
    -------
    str
        Nothing.
    """
SPHINX = """Do it.

    In two paragraphs: this is one.

    :param a: First:
        with a colon.
    :param int b: Second.
    :returns: Nothing.
    """


@pytest.mark.parametrize("text", [GOOGLE, NUMPY, SPHINX], ids=["google", "numpy", "sphinx"])
def test_every_manner_of_writing_arguments_is_read(text: str) -> None:
    told, of_arguments = read_docstring(text)
    assert told == "Do it.\n\nIn two paragraphs: this is one."
    assert of_arguments == {"a": "First: with a colon.", "b": "Second."}


def test_a_docstring_without_sections_is_all_description() -> None:
    assert read_docstring("Note: this is prose.\nArgs: too.") == (
        "Note: this is prose.\nArgs: too.",
        {},
    )
    assert read_docstring("") == ("", {})


Note = Annotated[str, Field(max_length=3)]


class Colour(Enum):
    RED = "red"


class Place(BaseModel):
    title: str
    latitude: float


@dataclass
class Box:
    width: int


async def test_nested_types_arrive_as_what_they_are() -> None:
    @tool
    def draw(
        colour: Colour, at: Place, boxes: list[Box], note: Annotated[str, Field(max_length=3)]
    ):
        """Draw."""
        return [type(colour).__name__, type(at).__name__, boxes[0].width, note]

    place = {"title": "here", "latitude": 1}
    output = await run(draw, colour="red", at=place, boxes=[{"width": 2}], note="abc")
    assert output.text == '["Colour", "Place", 2, "abc"]'
    # `title` as a name stays, as pydantic's label it goes
    assert set(draw.parameters["$defs"]["Place"]["properties"]) == {"title", "latitude"}
    assert "title" not in draw.parameters["$defs"]["Place"]
    with pytest.raises(ToolFailed, match="note: String should have at most 3"):
        await run(draw, note="abcd")


async def test_wrong_arguments_never_reach_the_function() -> None:
    called = False

    @tool
    def send(amount: int) -> None:
        nonlocal called
        called = True

    with pytest.raises(ToolFailed, match="amount: Input should be a valid integer"):
        await run(send, amount="much")
    with pytest.raises(ToolFailed, match="receiver: there is no such argument"):
        await run(send, amount=1, receiver="me")
    assert not called


async def test_a_plain_function_keeps_nobody_waiting() -> None:
    release = threading.Event()

    @tool
    def wait() -> str:
        assert release.wait(10)
        return threading.current_thread().name

    running = asyncio.create_task(run(wait))
    await asyncio.sleep(0.01)
    release.set()
    assert (await running).text == "puna-tool"


async def test_an_async_function_runs_on_the_loop() -> None:
    @tool
    async def where() -> bool:
        await asyncio.sleep(0)
        return threading.current_thread() is threading.main_thread()

    assert (await run(where)).text == "true"


async def test_what_a_function_raises_is_raised() -> None:
    @tool
    def crash(how: str) -> None:
        if how == "stop":
            raise StopIteration
        if how == "exit":
            raise SystemExit
        raise KeyError(how)

    with pytest.raises(KeyError):
        await run(crash, how="key")
    for how in ("stop", "exit"):
        with pytest.raises(RuntimeError):
            await run(crash, how=how)


async def test_results_are_text_json_or_outputs() -> None:
    plot = Output("a plot", (File("a.png", "image/png", b"png"),))
    results = iter(["å", {"å": 1}, None, plot, object()])

    @tool
    def give() -> Any:
        return next(results)

    assert (await run(give)).text == "å"
    assert (await run(give)).text == '{"å": 1}'
    assert (await run(give)).text == "null"
    assert await run(give) == plot
    with pytest.raises(ToolFailed, match="cannot be written as JSON"):
        await run(give)


def test_what_cannot_be_a_tool_is_said_at_once() -> None:
    with pytest.raises(TypeError, match="cannot name a tool"):
        tool(lambda: 1)

    def many(*cities: str) -> None: ...
    def bare(city) -> None: ...  # type: ignore[no-untyped-def]
    def strange(lock: threading.Thread) -> None: ...

    with pytest.raises(TypeError, match=r"\*cities"):
        tool(many)
    with pytest.raises(TypeError, match="parameter city needs a type"):
        tool(bare)
    with pytest.raises(TypeError, match="no JSON can give parameter lock"):
        tool(strange)
