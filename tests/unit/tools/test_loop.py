"""The tool loop: runs the calls that it owns, hands on the rest, and ends."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.chat import (
    ChatEvent,
    ChatRequest,
    File,
    Finished,
    Message,
    ModelCard,
    NamedTool,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolResult,
    ToolsChosen,
    ToolSpec,
    ToolStarted,
    Usage,
    collect,
    message,
    request,
)
from puna.errors import ContextTooLong, EngineFailed, InvalidValue, ToolFailed
from puna.scripted import Script, ScriptedModel
from puna.tools.approvals import Approvals
from puna.tools.function import tool
from puna.tools.loop import Limits, ToolLoop, fitted
from puna.tools.selection import Selection
from puna.tools.tool import Arguments, Output, Session, Tool

QUESTION = message("user", "What is the weather in Oslo?")


def call(name: str = "get_weather", number: str = "1", /, **arguments: Any) -> ToolCall:
    return ToolCall(number, name, json.dumps(arguments))


OSLO = call(city="Oslo")


@tool(read_only=True)
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"{city}: 3 degrees"


def made(name: str, run: Callable[..., Any], **fields: Any) -> Tool:
    async def running(arguments: Arguments, session: Session) -> Output:
        result = run(session)
        return await result if asyncio.iscoroutine(result) else result

    return Tool(name, "", {"type": "object"}, running, read_only=True, **fields)


class Looped:
    """A loop round a script, and what came of a question."""

    open: ClassVar[list[ToolLoop]] = []

    def __init__(self, *scripts: Script, tools: Any = (get_weather,), **fields: Any) -> None:
        card = fields.pop("card", None)
        self.model = ScriptedModel(*scripts, card=card)
        self.loop = ToolLoop(self.model, tools, **fields)
        self.open.append(self.loop)

    async def events(self, *messages: Message, **fields: Any) -> list[ChatEvent]:
        asked = request(messages or (QUESTION,), **fields)
        return [event async for event in self.loop.stream(asked)]

    def given(self, number: int = -1) -> list[str]:
        """What the tools of a turn gave the model."""
        messages = self.model.requests[number].messages
        return [each.text for each in messages if each.role == "tool"]


@pytest.fixture(autouse=True)
def _closed() -> Iterator[None]:
    yield
    while Looped.open:
        Looped.open.pop().close()


async def test_a_call_is_run_and_the_model_answers_from_its_result() -> None:
    looped = Looped([OSLO], "It is 3 degrees.")
    events = await looped.events()
    assert events[:2] == [ToolStarted(OSLO), ToolResult(OSLO, "Oslo: 3 degrees")]
    assert "".join(e.text for e in events if isinstance(e, TextDelta)) == "It is 3 degrees."
    first, second = looped.model.requests
    assert first.tools == second.tools == (get_weather.spec,)
    assert second.messages == (
        QUESTION,
        message("assistant", tool_calls=(OSLO,)),
        message("tool", "Oslo: 3 degrees", tool_call_id="1"),
    )


async def test_usage_is_the_sum_of_all_turns() -> None:
    looped = Looped(
        [OSLO, Finished("tool_calls", Usage(10, 5, 2))],
        [TextDelta("cold"), Finished("stop", Usage(20, 3, 10))],
    )
    assert (await looped.events())[-1] == Finished("stop", Usage(30, 8, 12))


async def test_the_clients_calls_are_handed_on_and_the_answer_ends() -> None:
    theirs = call("book", room=1)
    looped = Looped([theirs])
    events = await looped.events(tools=(ToolSpec("book"),))
    assert events[0] == theirs
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "tool_calls"
    assert [each.name for each in looped.model.requests[0].tools] == ["book", "get_weather"]


async def test_a_tool_that_the_client_brings_along_is_the_clients() -> None:
    looped = Looped([OSLO])
    own = ToolSpec("get_weather", "Mine.")
    events = await looped.events(tools=(own,))
    assert events[0] == OSLO
    assert looped.model.requests[0].tools == (own,)


async def test_a_turn_that_calls_both_runs_ours_and_hands_on_theirs() -> None:
    theirs = call("book", "2", room=1)
    looped = Looped([TextDelta("Let me see."), OSLO, theirs], "Booked, and it is cold.")
    offered = (ToolSpec("book"),)
    first = await looped.events(tools=offered)
    assert first == [
        TextDelta("Let me see."),
        ToolStarted(OSLO),
        ToolResult(OSLO, "Oslo: 3 degrees"),
        theirs,
        Finished("tool_calls", Usage(6, 3)),
    ]
    # The client knows of its own call alone; the model gets both results.
    seen = message("assistant", "Let me see.", tool_calls=(theirs,))
    booked = message("tool", "room 1", tool_call_id="2")
    await looped.events(QUESTION, seen, booked, tools=offered)
    assert looped.model.requests[1].messages == (
        QUESTION,
        message("assistant", "Let me see.", tool_calls=(OSLO, theirs)),
        message("tool", "Oslo: 3 degrees", tool_call_id="1"),
        booked,
    )


async def test_several_calls_run_at_once_and_their_results_keep_their_order() -> None:
    loops: set[int] = set()
    fast_was_told = threading.Event()

    async def slow() -> Output:
        loops.add(threading.get_ident())
        assert await asyncio.to_thread(fast_was_told.wait, 300)
        return Output("slow")

    async def fast() -> Output:
        loops.add(threading.get_ident())
        return Output("fast")

    looped = Looped(
        [call("slow", "1"), call("fast", "2")],
        "done",
        tools=(made("slow", lambda _: slow()), made("fast", lambda _: fast())),
    )
    results: list[str] = []
    async for event in looped.loop.stream(request([QUESTION])):
        if isinstance(event, ToolResult):
            results.append(event.content)
            fast_was_told.set()
    assert results == ["fast", "slow"]  # as they came
    assert looped.given() == ["slow", "fast"]  # as they were called
    assert len(loops) == 1


async def test_calls_with_the_same_id_get_each_their_result() -> None:
    looped = Looped([call(city="Oslo"), call(city="Rome")], "done")
    await looped.events()
    assert looped.given() == ["Oslo: 3 degrees", "Rome: 3 degrees"]


async def test_text_of_several_turns_is_parted() -> None:
    looped = Looped([TextDelta("I will look."), OSLO], [TextDelta("It is"), TextDelta(" cold.")])
    reply = await collect(looped.loop.stream(request([QUESTION])))
    assert reply.text == "I will look.\n\nIt is cold."
    assert [step.content for step in reply.steps] == ["Oslo: 3 degrees"]
    assert reply.tool_calls == ()
    assert looped.model.requests[1].messages[1].text == "I will look."


# --- What goes wrong goes back to the model


def crash(_: Session) -> Output:
    raise KeyError("x")


def fail(_: Session) -> Output:
    raise ToolFailed("no such city; try another")


async def forever() -> Output:
    await asyncio.sleep(60)
    raise AssertionError


@pytest.mark.parametrize(
    ("run", "told"),
    [
        (fail, "no such city; try another"),
        (crash, "the tool crashed: KeyError: 'x'"),
        (lambda _: forever(), "it did not end in time, and was stopped"),
    ],
    ids=["failure", "crash", "timeout"],
)
async def test_a_tool_that_fails_tells_the_model(run: Any, told: str) -> None:
    looped = Looped(
        [call("t")], "Sorry.", tools=(made("t", run),), limits=Limits(call_seconds=0.05)
    )
    events = await looped.events()
    assert events[1] == ToolResult(call("t"), told, is_error=True)
    assert looped.given() == [f"Error: {told}"]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        ("{}", "'city' is a required property"),
        ('{"city": ["Oslo"]}', "city: ['Oslo'] is not of type 'string'"),
        ("[1]", "no JSON object"),
        ("{", "are no JSON"),
    ],
)
async def test_wrong_arguments_tell_the_model_and_run_nothing(arguments: str, told: str) -> None:
    looped = Looped([ToolCall("1", "get_weather", arguments)], "Sorry.")
    result = (await looped.events())[1]
    assert isinstance(result, ToolResult)
    assert result.is_error
    assert told in result.content


async def test_what_a_small_model_writes_almost_right_is_taken_for_what_it_means() -> None:
    got: list[Any] = []

    @tool(read_only=True)
    def add(a: int, b: float = 1, label: str = "", really: bool = False) -> None:
        got.extend((a, b, label, really))

    wrong = call("add", a="2", b=None, label=7, really="True")
    await Looped([wrong], "done", tools=(add,)).events()
    assert got == [2, 1, "7", True]


async def test_a_schema_from_outside_is_never_fetched_and_never_fatal() -> None:
    for schema in (
        {"properties": {"a": {"$ref": "http://127.0.0.1:9/x.json"}}},
        {"properties": {"a": {"pattern": "("}}},
        {"properties": {"a": {"type": 3}}},
    ):
        strange = Tool("strange", "", schema, get_weather.run, read_only=True)
        looped = Looped([call("strange", a="b")], "done", tools=(strange,))
        result = (await looped.events())[1]
        assert isinstance(result, ToolResult)
        assert "the tool's own schema cannot be used" in result.content


async def test_a_model_that_fails_before_the_first_event_raises() -> None:
    looped = Looped(InvalidValue("messages is wrong", param="messages"))
    with pytest.raises(InvalidValue):
        await anext(looped.loop.stream(request([QUESTION])))


async def test_a_model_that_fails_later_raises_too() -> None:
    with pytest.raises(EngineFailed):
        await Looped([OSLO], EngineFailed("out of luck")).events()


# --- Limits


async def test_the_limit_of_steps_ends_in_an_answer_without_tools() -> None:
    def script(asked: ChatRequest) -> Any:
        return "I give up." if asked.tool_choice == "none" else [OSLO]

    looped = Looped(script, limits=Limits(steps=3))
    events = await looped.events()
    assert sum(isinstance(event, ToolStarted) for event in events) == 3
    assert [each.tool_choice for each in looped.model.requests] == ["auto"] * 3 + ["none"]
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"


async def test_the_last_answer_keeps_the_tools_of_the_client() -> None:
    book = ToolSpec("book")
    looped = Looped([OSLO], [call("book")], limits=Limits(steps=1))
    events = await looped.events(tools=(book,))
    assert looped.model.requests[1].tools == (book,)
    assert looped.model.requests[1].tool_choice == "auto"
    assert events[-2] == call("book")


async def test_a_model_that_never_stops_calling_is_stopped() -> None:
    looped = Looped([OSLO], limits=Limits(steps=2))
    events = await asyncio.wait_for(looped.events(), 5)
    assert sum(isinstance(event, ToolStarted) for event in events) == 2
    assert isinstance(events[-1], Finished)
    assert events[-1].reason == "stop"


async def test_the_limit_of_tokens_ends_in_a_last_answer() -> None:
    looped = Looped([OSLO, Finished("tool_calls", Usage(90, 10))], limits=Limits(tokens=100))
    await looped.events()
    assert [each.tool_choice for each in looped.model.requests] == ["auto", "none"]


async def test_the_limit_of_seconds_counts_all_turns_together() -> None:
    async def slow() -> Output:
        await asyncio.sleep(0.06)
        return Output("slow")

    tools = (made("slow", lambda _: slow()),)
    looped = Looped([call("slow")], tools=tools, limits=Limits(seconds=0.1, steps=50))
    await looped.events()
    assert [each.tool_choice for each in looped.model.requests] == ["auto", "auto", "none"]
    assert looped.given(-1)[-1].startswith("Error: it did not end")


async def test_too_many_calls_at_once_are_told_to_come_again() -> None:
    calls = [call("get_weather", str(i), city="Oslo") for i in range(5)]
    looped = Looped(calls, "done", limits=Limits(calls=3))
    await looped.events()
    assert [each.startswith("Error: at most 3") for each in looped.given()] == [False] * 3 + [
        True
    ] * 2


async def test_a_long_result_is_cut_and_says_so() -> None:
    text = "a" * 5000 + "the end"
    long = made("t", lambda _: Output(text))
    looped = Looped([call("t")], "x", tools=(long,), limits=Limits(result_chars=1000))
    await looped.events()
    [given] = looped.given()
    assert len(given) < 1100
    assert "4007 characters left out" in given
    assert given.endswith("the end")


async def test_a_result_takes_no_more_than_a_part_of_a_small_context() -> None:
    card = ModelCard("small", context_length=512)
    looped = Looped([call("t")], "x", tools=(made("t", lambda _: Output("a" * 5000)),), card=card)
    await looped.events()
    assert len(looped.given()[0]) < 600


def short_context(limit: int) -> Callable[[ChatRequest], Any]:
    """Answers like a model whose context takes `limit` characters; calls `t` first."""

    def script(asked: ChatRequest) -> Any:
        length = sum(len(each.text) for each in asked.messages)
        if length > limit:
            return ContextTooLong("too long", prompt_tokens=length, limit=limit)
        return "short enough" if asked.messages[-1].role == "tool" else [call("t")]

    return script


async def test_results_that_do_not_fit_the_context_are_made_to_fit() -> None:
    looped = Looped(short_context(2000), tools=(made("t", lambda _: Output("a" * 15000)),))
    reply = await collect(looped.loop.stream(request([QUESTION])))
    assert reply.text == "short enough"


async def test_a_prompt_that_is_too_long_by_itself_is_told() -> None:
    looped = Looped(short_context(10), tools=(made("t", lambda _: Output("a" * 15000)),))
    with pytest.raises(ContextTooLong):
        await looped.events()


def test_what_no_text_can_hold_does_not_get_into_one() -> None:
    assert fitted("a\ud800b", 10) == "a?b"


# --- tool_choice


async def test_a_call_that_is_forced_by_name_is_offered_however_many_there_are() -> None:
    others = [made(f"thing_{i}", lambda _: Output("")) for i in range(5)]
    looped = Looped("x", tools=(*others, get_weather), selection=Selection(most=1))
    await looped.events(message("user", "thing 1"), tool_choice=NamedTool("get_weather"))
    assert "get_weather" in [each.name for each in looped.model.requests[0].tools]


async def test_a_forced_call_is_forced_once() -> None:
    looped = Looped([OSLO], "done")
    await looped.events(tool_choice="required")
    assert [each.tool_choice for each in looped.model.requests] == ["required", "auto"]


async def test_a_named_call_of_ours_is_forced_once() -> None:
    looped = Looped([OSLO], "done")
    await looped.events(tool_choice=NamedTool("get_weather"))
    assert [each.tool_choice for each in looped.model.requests] == [
        NamedTool("get_weather"),
        "auto",
    ]


async def test_a_client_that_forces_a_call_gets_one_of_its_own() -> None:
    book = ToolSpec("book")
    looped = Looped([call("book")])
    await looped.events(tool_choice="required", tools=(book,))
    assert looped.model.requests[0].tools == (book,)


async def test_tool_choice_none_means_no_tools_of_ours_either() -> None:
    looped = Looped("plain")
    await looped.events(tool_choice="none")
    assert looped.model.requests[0].tools == ()


async def test_a_model_that_was_not_made_for_tools_gets_none() -> None:
    looped = Looped("plain", card=ModelCard("plain", tools=False))
    await looped.events()
    assert looped.model.requests[0].tools == ()


# --- Schemas that a model cannot use

LOOKAHEAD = {
    "type": "object",
    "properties": {"city": {"type": "string", "pattern": "^(?=O).*$", "description": "Where."}},
    "required": ["city"],
}


def takes_no(word: str) -> Callable[[ChatRequest], Any]:
    """A model that refuses tools whose schema holds `word`, as one that makes grammars does."""

    def script(asked: ChatRequest) -> Any:
        for number, spec in enumerate(asked.tools):
            if word in json.dumps(dict(spec.parameters)):
                param = f"tools[{number}].function.parameters"
                return InvalidValue(f"{param}: no grammar can be made of this", param=param)
        return "done" if asked.messages[-1].role == "tool" or not asked.tools else [OSLO]

    return script


async def test_a_schema_that_the_model_refuses_is_offered_plainer_and_still_checked() -> None:
    strange = Tool("get_weather", "", LOOKAHEAD, get_weather.run, read_only=True)
    looped = Looped(takes_no("pattern"), tools=(order, strange), approvals=Approvals({}, None))
    events = await looped.events()
    assert events[1] == ToolResult(OSLO, "Oslo: 3 degrees")
    assert looped.model.requests[-1].tools[0].parameters == {
        "type": "object",
        "properties": {"city": {"type": "string", "description": "Where."}},
        "required": ["city"],
    }
    refused = len(looped.model.requests)
    await looped.events()
    assert len(looped.model.requests) == refused + 2  # it need not be refused again
    looped.model._scripts = ([call(city="Rome")], "done")  # a city that the pattern excludes
    looped.model.requests.clear()
    result = (await looped.events())[1]
    assert isinstance(result, ToolResult)
    assert result.is_error


async def test_a_tool_that_the_model_refuses_in_any_form_is_left_out() -> None:
    looped = Looped(takes_no("city"))
    events = await looped.events()
    assert isinstance(events[0], TextDelta)
    assert looped.model.requests[-1].tools == ()


async def test_the_clients_own_schema_is_the_clients_to_mend() -> None:
    looped = Looped(takes_no("wrong"))
    with pytest.raises(InvalidValue):
        await looped.events(tools=(ToolSpec("book", "", {"wrong": 1}),))


# --- Logprobs


def logprob(token: str) -> TokenLogprob:
    return TokenLogprob(token, token.encode(), -1.0)


async def test_logprobs_of_calls_that_nobody_sees_are_not_told() -> None:
    looped = Looped(
        [TextDelta("", (logprob("call"),)), OSLO],
        [TextDelta("", (logprob("half"),)), TextDelta("å", (logprob("rest"),))],
    )
    reply = await collect(looped.loop.stream(request([QUESTION])))
    assert [each.token for each in reply.logprobs] == ["half", "rest"]


async def test_logprobs_of_the_clients_calls_are_told() -> None:
    looped = Looped([TextDelta("", (logprob("call"),)), call("book")])
    reply = await collect(looped.loop.stream(request([QUESTION], tools=(ToolSpec("book"),))))
    assert [each.token for each in reply.logprobs] == ["call"]


# --- Approval


@tool
def order(pizzas: int) -> str:
    """Order pizzas."""
    return f"{pizzas} are on their way"


async def test_what_may_change_something_is_not_even_offered_where_nobody_can_be_asked() -> None:
    looped = Looped([call("order", pizzas=2)], tools=(order,))
    events = await looped.events()
    assert looped.model.requests[0].tools == ()
    assert events[0] == call("order", pizzas=2)


@pytest.mark.parametrize(("asking", "asked"), [("never", 0), ("once", 1), ("always", 3)])
async def test_a_person_is_asked_as_often_as_was_said(asking: Any, asked: int) -> None:
    questions: list[str] = []

    async def ask(tool: Tool, call: ToolCall) -> bool:
        questions.append(call.arguments)
        return True

    looped = Looped(
        *([call("order", pizzas=2)], "done") * 3,
        tools=(order,),
        approvals=Approvals({"order": asking}, ask),
    )
    for _ in range(3):
        await looped.events()
    assert looped.given() == ["2 are on their way"]
    assert len(questions) == asked


async def test_a_no_is_told_to_the_model_and_asked_again_next_time() -> None:
    answers = iter([False, True])

    async def ask(tool: Tool, call: ToolCall) -> bool:
        return next(answers)

    looped = Looped(
        *([call("order", pizzas=2)], "done") * 2,
        tools=(order,),
        approvals=Approvals({"order": "once"}, ask),
    )
    await looped.events()
    assert looped.given() == ["Error: the user did not allow this call"]
    await looped.events()
    assert looped.given() == ["2 are on their way"]


# --- Conversations


class Interpreter:
    """What a tool keeps: counts its calls."""

    def __init__(self) -> None:
        self.count = 0
        self.closed = 0

    async def close(self) -> None:
        self.closed += 1


class Counting:
    def __init__(self) -> None:
        self.kept: list[Interpreter] = []
        self.tool = made("count", self._run)

    def _run(self, session: Session) -> Output:
        def make() -> Interpreter:
            self.kept.append(Interpreter())
            return self.kept[-1]

        interpreter = session.keep("count", make)
        interpreter.count += 1
        return Output(str(interpreter.count))


def counts(asked: ChatRequest) -> Any:
    """Calls `count`, then says what it gave."""
    last = asked.messages[-1]
    return f" It is {last.text}. \n" if last.role == "tool" else [call("count")]


async def test_a_conversation_finds_again_what_its_tools_keep_and_did() -> None:
    counting = Counting()
    looped = Looped(counts, tools=(counting.tool,))
    first = await collect(looped.loop.stream(request([QUESTION])))
    # Clients strip what they show, and send that back.
    visible = (QUESTION, message("assistant", first.text.strip()), message("user", "Again!"))
    second = await collect(looped.loop.stream(request(visible)))
    assert second.text.strip() == "It is 2."
    assert [each.role for each in looped.model.requests[2].messages] == [
        "user", "assistant", "tool", "assistant", "user",
    ]  # fmt: skip
    visible = (*visible, message("assistant", second.text), message("user", "Again!"))
    third = await collect(looped.loop.stream(request(visible)))
    assert third.text.strip() == "It is 3."
    assert len(counting.kept) == 1
    looped.loop.close()
    assert counting.kept[0].closed == 1


async def test_another_conversation_begins_anew() -> None:
    counting = Counting()
    looped = Looped(counts, tools=(counting.tool,))
    await looped.events()
    for _ in range(2):
        reply = await collect(looped.loop.stream(request([message("user", "And now?")])))
        assert reply.text.strip() == "It is 1."
    looped.loop.close()
    assert [each.closed for each in counting.kept] == [1, 1, 1]


async def test_who_goes_on_twice_from_the_same_answer_gets_the_tools_state_once() -> None:
    counting = Counting()
    looped = Looped(counts, tools=(counting.tool,))
    first = await collect(looped.loop.stream(request([QUESTION])))
    visible = (QUESTION, first.message, message("user", "Again!"))
    texts = [(await collect(looped.loop.stream(request(visible)))).text.strip() for _ in range(2)]
    assert texts == ["It is 2.", "It is 1."]


async def test_a_request_that_fails_can_be_sent_again() -> None:
    counting = Counting()
    looped = Looped([call("count")], "one", EngineFailed("busy"), counts, tools=(counting.tool,))
    first = await collect(looped.loop.stream(request([QUESTION])))
    visible = (QUESTION, first.message, message("user", "Again!"))
    with pytest.raises(EngineFailed):
        await collect(looped.loop.stream(request(visible)))
    assert (await collect(looped.loop.stream(request(visible)))).text.strip() == "It is 2."


async def test_an_answer_that_was_stopped_can_be_gone_on_from() -> None:
    counting = Counting()
    looped = Looped([call("count")], "one two three", counts, tools=(counting.tool,))
    stream = looped.loop.stream(request([QUESTION]))
    said = ""
    async for event in stream:
        if isinstance(event, TextDelta):
            said += event.text
            break
    await stream.aclose()
    visible = (QUESTION, message("assistant", said), message("user", "Again!"))
    assert (await collect(looped.loop.stream(request(visible)))).text.strip() == "It is 2."


async def test_what_idles_is_closed() -> None:
    counting = Counting()
    looped = Looped(counts, tools=(counting.tool,), idle=0.05)
    first = await collect(looped.loop.stream(request([QUESTION])))
    await asyncio.sleep(0.2)
    assert counting.kept[0].closed == 1
    visible = (QUESTION, first.message, message("user", "Again!"))
    assert (await collect(looped.loop.stream(request(visible)))).text.strip() == "It is 1."


async def test_of_too_many_conversations_the_oldest_goes() -> None:
    counting = Counting()
    looped = Looped(counts, tools=(counting.tool,), conversations=2)
    for number in range(3):
        await looped.events(message("user", str(number)))
    await asyncio.sleep(0.05)
    assert [each.closed for each in counting.kept] == [1, 0, 0]


async def test_a_tool_ends_when_the_client_goes() -> None:
    began, ended = threading.Event(), threading.Event()

    async def waiting() -> Output:
        began.set()
        try:
            await asyncio.sleep(60)
        finally:
            await asyncio.sleep(0.05)
            ended.set()
        raise AssertionError

    looped = Looped([call("t")], tools=(made("t", lambda _: waiting()),))
    task = asyncio.create_task(looped.events())
    assert await asyncio.to_thread(began.wait, 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended.is_set()  # it had ended before we went on


def test_a_loop_serves_many_event_loops() -> None:
    counting = Counting()
    looped = Looped(counts, tools=(counting.tool,))
    first = asyncio.run(collect(looped.loop.stream(request([QUESTION]))))
    visible = (QUESTION, first.message, message("user", "Again!"))
    second = asyncio.run(collect(looped.loop.stream(request(visible))))
    assert second.text.strip() == "It is 2."
    looped.loop.close()


# --- The rest


async def test_files_and_sources_reach_the_caller_and_not_the_model() -> None:
    plot = File("plot.png", "image/png", b"png")
    looped = Looped(
        [call("t")], "x", tools=(made("t", lambda _: Output("a plot", (plot,), "Python")),)
    )
    assert (await looped.events())[1] == ToolResult(
        call("t"), "a plot", files=(plot,), source="Python"
    )
    assert looped.given() == ["a plot"]


async def test_too_many_tools_are_chosen_from_visibly() -> None:
    others = [made(f"thing_{i}", lambda _: Output("")) for i in range(5)]
    looped = Looped("x", tools=(*others, get_weather), selection=Selection(most=2))
    events = await looped.events()
    assert isinstance(events[0], ToolsChosen)
    assert events[0].offered == ("thing_0", "get_weather")
    assert len(events[0].left_out) == 4
    assert [each.name for each in looped.model.requests[0].tools] == ["thing_0", "get_weather"]


async def test_a_refusal_comes_before_any_other_event() -> None:
    others = [made(f"thing_{i}", lambda _: Output("")) for i in range(5)]
    wrong = InvalidValue("wrong", param="messages")
    looped = Looped(wrong, tools=others, selection=Selection(most=2))
    with pytest.raises(InvalidValue):
        await anext(looped.loop.stream(request([QUESTION])))


def test_two_tools_of_one_name_are_refused() -> None:
    with pytest.raises(ValueError, match="two tools are called 'get_weather'"):
        ToolLoop(ScriptedModel("x"), (get_weather, get_weather))


async def test_a_loop_in_a_loop_tells_the_steps_of_both() -> None:
    inner = made("inner", lambda _: Output("i"))
    model = ScriptedModel([call("inner")], [OSLO], "done")
    loop = ToolLoop(ToolLoop(model, (inner,)), (get_weather,))
    events = [event async for event in loop.stream(request([QUESTION]))]
    results = [event.content for event in events if isinstance(event, ToolResult)]
    assert results == ["i", "Oslo: 3 degrees"]


# --- Whatever a model does


TURNS = st.lists(
    st.lists(
        st.one_of(
            st.sampled_from(["a", " b ", ""]).map(TextDelta),
            st.tuples(st.sampled_from(["get_weather", "crash", "book", "nobodys"]), st.text("12"))
            .map(lambda pair: ToolCall(pair[1], pair[0], '{"city": "Oslo"}')),
        ),
        max_size=4,
    ),
    min_size=1,
    max_size=6,
)  # fmt: skip


@given(turns=TURNS, steps=st.integers(1, 4), most=st.integers(1, 3))
@settings(max_examples=150, deadline=None)
def test_every_answer_ends_and_every_step_has_its_result(
    turns: list[Any], steps: int, most: int
) -> None:
    tools = (get_weather, made("crash", crash))
    model = ScriptedModel(*turns)
    loop = ToolLoop(model, tools, Limits(steps=steps, calls=most))
    asked = request([QUESTION], tools=(ToolSpec("book"),))

    async def answer() -> list[ChatEvent]:
        return [event async for event in loop.stream(asked)]

    events = asyncio.run(answer())
    loop.close()
    assert [isinstance(event, Finished) for event in events] == [False] * (len(events) - 1) + [True]
    started = [event.call for event in events if isinstance(event, ToolStarted)]
    results = [event.call for event in events if isinstance(event, ToolResult)]
    assert sorted(map(str, started)) == sorted(map(str, results))
    assert {call.name for call in started} <= {"get_weather", "crash"}
    handed = [event.name for event in events if isinstance(event, ToolCall)]
    assert set(handed) <= {"book", "nobodys"}
    reason = events[-1].reason if isinstance(events[-1], Finished) else None
    assert reason == ("tool_calls" if handed else "stop")
    assert len(model.requests) <= steps + 1
    for each in model.requests:
        calls = [call.id for turn in each.messages for call in turn.tool_calls]
        answers = [turn.tool_call_id for turn in each.messages if turn.role == "tool"]
        assert calls == answers  # every call that the model is shown has its result, in order
