"""Which tools are offered, when there are more than fit well."""

from __future__ import annotations

import time
from typing import Any

from puna.chat import Message, ToolCall, message
from puna.tools.selection import Selection, relevance
from puna.tools.tool import Arguments, Output, Session, Tool


async def nothing(arguments: Arguments, session: Session) -> Output:
    return Output("")


def made(name: str, description: str = "", **parameters: str) -> Tool:
    properties = {key: {"type": "string", "description": said} for key, said in parameters.items()}
    return Tool(name, description, {"type": "object", "properties": properties}, nothing)


TOOLS = [
    made("get_weather", "The weather in a city.", city="Name of the city"),
    made("createInvoice", "Write an invoice for a customer.", customer="Who pays"),
    made("list_files", "Files of a folder.", path="The folder"),
    made("play_music", "Play a song.", song="Title of the song"),
    made("book_room", "Reserve a hotel.", guest="Name of the guest"),
]


def offered(*messages: Message | str, context: int = 100_000, **fields: Any) -> list[str]:
    said = [message("user", each) if isinstance(each, str) else each for each in messages]
    return [tool.name for tool in Selection(**fields).choose(TOOLS, said, context=context)[0]]


def test_all_are_offered_where_they_fit() -> None:
    assert len(offered("Hello", most=5)) == 5


def test_the_one_that_is_asked_for_is_offered() -> None:
    for question, name in (
        ("What will the weather be like?", "get_weather"),
        ("Please write invoices for ACME", "createInvoice"),
        ("Which FILES are there?", "list_files"),
        ("I want to hear a song", "play_music"),
        ("Reserve something for my guests", "book_room"),
    ):
        assert offered(question, most=1) == [name]


def test_what_was_asked_before_counts_less() -> None:
    talk = ["Which files are there?", "And the weather?"]
    assert offered(*talk, most=1) == ["get_weather"]
    assert offered(*talk, most=2) == ["get_weather", "list_files"]


def test_what_was_called_stays() -> None:
    called = message("assistant", tool_calls=(ToolCall("1", "play_music", "{}"),))
    assert offered("x", called, "And the weather in that city?", most=1) == ["play_music"]


def test_what_is_pinned_stays_however_little_fits() -> None:
    pinned = frozenset({"book_room", "list_files"})
    assert offered("The weather?", most=1, pinned=pinned) == ["list_files", "book_room"]
    assert offered("The weather?", tokens=1, pinned=pinned) == ["list_files", "book_room"]


def test_tokens_bound_the_offer_and_a_small_context_does() -> None:
    assert offered("The weather?", tokens=60) == ["get_weather"]
    assert offered("The weather?", context=240) == ["get_weather"]


def test_the_order_of_the_offer_is_that_of_the_tools() -> None:
    chosen, left = Selection(most=3).choose(
        TOOLS, [message("user", "room, song, weather")], context=100_000
    )
    assert [tool.name for tool in chosen] == ["get_weather", "play_music", "book_room"]
    assert [tool.name for tool in left] == ["createInvoice", "list_files"]


def test_words_of_other_scripts_count_too() -> None:
    tools = [made("a", "Väder i en stad"), made("b", "天気 予報")]
    scores = relevance(tools, [message("user", "天気 は?")])
    assert scores[1] > scores[0]
    scores = relevance(tools, [message("user", "Hur är VÄDER?")])
    assert scores[0] > scores[1]


def test_a_thousand_tools_are_chosen_from_at_once() -> None:
    many = [made(f"tool_{i}", f"Does the thing number {i}.", a="b" * 200) for i in range(1000)]
    question = [message("user", "the thing number 777 " * 100)]
    began = time.process_time()
    chosen, _ = Selection(most=4).choose(many, question, context=100_000)
    assert "tool_777" in [tool.name for tool in chosen]
    assert time.process_time() - began < 2
