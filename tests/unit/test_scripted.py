from __future__ import annotations

from contextlib import aclosing

import pytest

from puna.chat import (
    ChatModel,
    Finished,
    Sampling,
    TextDelta,
    ToolCall,
    Usage,
    collect,
    message,
    request,
)
from puna.errors import Overloaded
from puna.scripted import ScriptedModel, echo

ASK = request([message("system", "Be brief."), message("user", "How are you?")])


def test_a_scripted_model_is_a_chat_model() -> None:
    assert isinstance(ScriptedModel("x"), ChatModel)


@pytest.mark.parametrize("text", ["", " ", "one", " two words\n", "a\n\n b  c ", "å 😀"])
async def test_a_text_comes_whole_in_pieces(text: str) -> None:
    reply = await collect(ScriptedModel(text).stream(ASK))
    assert reply.text == text
    assert reply.reason == "stop"
    assert reply.usage.prompt_tokens == 5


async def test_scripts_are_played_in_turn_and_the_last_one_stays() -> None:
    model = ScriptedModel("one", Overloaded("two", retry_after=1), echo)
    assert (await collect(model.stream(ASK))).text == "one"
    with pytest.raises(Overloaded):
        await collect(model.stream(ASK))
    for _ in range(2):
        assert (await collect(model.stream(ASK))).text == "How are you?"
    assert model.requests == [ASK] * 4


async def test_events_are_played_as_they_are_and_an_end_is_added() -> None:
    call = ToolCall("1", "f", "{}")
    events = [event async for event in ScriptedModel([TextDelta("x"), call]).stream(ASK)]
    assert events == [TextDelta("x"), call, Finished("tool_calls", Usage(5, 2))]
    own = [TextDelta("x"), Finished("content_filter", Usage(1, 1))]
    assert [event async for event in ScriptedModel(own).stream(ASK)] == own


async def test_an_answer_is_cut_at_max_tokens_pieces() -> None:
    short = request(ASK.messages, sampling=Sampling(max_tokens=2))
    reply = await collect(ScriptedModel("one two three").stream(short))
    assert (reply.text, reply.reason, reply.usage.completion_tokens) == ("one two", "length", 2)


async def test_a_closed_stream_counts_as_cancelled_and_a_finished_one_does_not() -> None:
    model = ScriptedModel("one two three")
    async with aclosing(model.stream(ASK)) as events:
        await anext(events)
        assert (model.running, model.cancelled) == (1, 0)
    assert (model.running, model.cancelled) == (0, 1)
    async with aclosing(model.stream(ASK)) as events:
        async for event in events:
            if isinstance(event, Finished):
                break
    assert (model.running, model.cancelled) == (0, 1)


def test_a_script_has_at_least_one_reply() -> None:
    with pytest.raises(ValueError, match="at least one"):
        ScriptedModel()
