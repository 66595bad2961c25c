"""`ToolLoop`: a `ChatModel` that holds another, offers it tools and runs the calls that it makes.

A turn of the model that calls our tools is no answer yet: the calls run, all at once, their results
go back to the model, and it goes on. The first turn without such a call is the answer. Each step is
told as it happens (`ToolStarted`, `ToolResult`); what the model says reaches the caller as
`TextDelta`s, as ever.

It knows no wire, no terminal and no particular tool. Whose call is whose:

  - A tool that the request brings along is the client's. One of ours with the same name stands
    back, for the client expects to run it. Calls of names that nobody offered are handed on, too.
  - A turn that calls both: ours run at once, theirs are handed on, and the answer ends there with
    `tool_calls`. The client sees its own calls alone. When it comes back with their results, what
    ours gave stands where it belongs, before the model (see sessions.py); if that was forgotten
    meanwhile, the model goes on from the client's results alone.
  - In a conversation with pictures ours are not offered: no Llama was taught to call tools there.
  - `tool_choice` none: no tools, neither theirs nor ours. A forced call is forced in the first turn
    alone, or the loop would never end; and where the client forces a call and has tools, it wants
    one of them, so ours are not offered at all.

Whatever a tool returns is a message of role tool: text, which no renderer takes for anything else.
That does not keep a model from believing what it reads there.
"""

from __future__ import annotations

import asyncio
import logging
import re
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any, cast

from puna.chat import (
    ChatEvent,
    ChatModel,
    ChatRequest,
    Finished,
    Image,
    Message,
    ModelCard,
    NamedTool,
    TextDelta,
    TokenLogprob,
    ToolCall,
    ToolChoice,
    ToolResult,
    ToolsChosen,
    ToolSpec,
    ToolStarted,
    Usage,
    message,
)
from puna.errors import ContextTooLong, EngineFailed, InvalidValue, ToolFailed
from puna.loopthread import LoopThread
from puna.tools.approvals import Approvals
from puna.tools.arguments import read_arguments
from puna.tools.selection import Selection
from puna.tools.sessions import Conversations, Transcript
from puna.tools.tool import STOPPED, Output, Session, Tool, crashed

logger = logging.getLogger("puna.tools")

# A result that does not fit the context is halved down to this many characters.
SHORTEST = 200


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one answer. Whatever is reached, the model is asked for a last answer without our tools.

    `steps`: turns that call our tools. `calls`: of one turn; further ones fail. `call_seconds`: of
    one call; `seconds`: of all turns' calls together (the model's own time does not count).
    `tokens`: prompts and answers of all turns. `result_chars`: characters of a result that the
    model is given, and in any case no more than a quarter of its context, about.
    """

    steps: int = 8
    calls: int = 16
    call_seconds: float = 60.0
    seconds: float = 300.0
    tokens: int = 200_000
    result_chars: int = 20_000


class ToolLoop:
    """`tools` must have names of their own. Closing it closes what its tools keep for conversations
    (at most `conversations` of them, each for `idle` seconds), and neither model nor tools.

    Tools run on the loop of `thread`: whatever loop the answer is streamed on, and for as long.
    """

    def __init__(
        self,
        model: ChatModel,
        tools: Sequence[Tool],
        limits: Limits | None = None,
        *,
        approvals: Approvals | None = None,
        selection: Selection | None = None,
        thread: LoopThread | None = None,
        conversations: int = 256,
        idle: float = 1800.0,
    ) -> None:
        names = [tool.name for tool in tools]
        if len(set(names)) != len(names):
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"two tools are called {twice!r}: leave one out")
        self.tools = tuple(tools)
        self._specs = {tool.name: tool.spec for tool in tools}  # as this model takes them
        self._model = model
        self._limits = limits or Limits()
        self._approvals = approvals or Approvals()
        self._selection = selection or Selection()
        self._own_thread = thread is None
        self._thread = thread or LoopThread("puna-tools")
        self._conversations = Conversations(self._thread, most=conversations, idle=idle)

    @property
    def card(self) -> ModelCard:
        return self._model.card

    async def stream(self, request: ChatRequest) -> AsyncGenerator[ChatEvent, None]:
        """See `ChatModel.stream`: raises what the model raises."""
        transcript = await asyncio.to_thread(Transcript, request.messages)
        answer = _Answer(request, transcript, *self._conversations.recall(transcript))
        chosen = self._choose(answer)
        own = {tool.name: tool for tool in self.tools if tool.name in chosen.offered}
        choice = request.tool_choice
        try:
            while True:
                turn = _Turn(own, last=self._is_last(answer))
                async with aclosing(self._events(answer, turn, choice)) as events:
                    async for event in events:
                        if chosen.left_out:
                            yield chosen
                            chosen = replace(chosen, left_out=())
                        for told in turn.add(event, answer):
                            yield told
                answer.count(turn.end)
                if not turn.ours:
                    break
                answer.steps += 1
                for call in turn.ours:
                    yield ToolStarted(call)
                results: dict[int, ToolResult] = {}
                async with aclosing(self._run(turn.ours, own, answer)) as running:
                    async for number, result in running:
                        results[number] = result
                        yield result
                answer.went(turn, [results[number] for number in range(len(results))])
                if turn.theirs:
                    break
                choice = "auto"
            answer.ends(turn)
            self._remember(answer)
        except BaseException as fault:
            self._broke_off(answer, failed=isinstance(fault, Exception))
            raise
        for call in turn.theirs:
            yield call
        reason = turn.end.reason
        if reason != "length":
            reason = "tool_calls" if turn.theirs else "stop" if reason == "tool_calls" else reason
        yield Finished(reason, answer.usage)

    def close(self) -> None:
        self._conversations.close()
        if self._own_thread:
            self._thread.close()

    def _choose(self, answer: _Answer) -> ToolsChosen:
        request = answer.request
        theirs = {tool.name for tool in request.tools}
        forced_theirs = request.tools and request.tool_choice not in ("auto", "none")
        pictures = any(
            isinstance(part, Image) for each in request.messages for part in each.content
        )
        if request.tool_choice == "none" or forced_theirs or pictures or not self.card.tools:
            return ToolsChosen((), ())
        ours = [
            tool for tool in self.tools if tool.name not in theirs and self._approvals.can_run(tool)
        ]
        selection = self._selection
        if isinstance(request.tool_choice, NamedTool):
            pinned = selection.pinned | {request.tool_choice.name}
            selection = replace(selection, pinned=pinned)
        offered, left_out = selection.choose(ours, answer.before, context=self.card.context_length)
        return ToolsChosen(
            tuple(tool.name for tool in offered), tuple(tool.name for tool in left_out)
        )

    def _is_last(self, answer: _Answer) -> bool:
        """Whether our tools are not on offer any more."""
        limits = self._limits
        last = answer.steps > 0 and (
            answer.steps >= limits.steps
            or answer.seconds >= limits.seconds
            or answer.usage.total_tokens >= limits.tokens
        )
        if last:
            logger.info("no more tools for this answer, after %d steps", answer.steps)
        return last

    def _request(self, answer: _Answer, turn: _Turn, choice: ToolChoice) -> ChatRequest:
        request = answer.request
        tools = (*request.tools, *(self._specs[name] for name in turn.own))
        if turn.last:
            tools, choice = (request.tools, "auto") if request.tools else (tools, "none")
        messages = (*answer.before, *answer.turns)
        return replace(request, messages=messages, tools=tools, tool_choice=choice)

    async def _events(
        self, answer: _Answer, turn: _Turn, choice: ToolChoice
    ) -> AsyncGenerator[ChatEvent, None]:
        """The model's events. What it refuses because of us, it is asked again without: results
        that do not fit its context, a schema that it cannot use."""
        while True:
            stream = self._model.stream(self._request(answer, turn, choice))
            async with aclosing(stream):
                try:
                    first = await anext(stream)
                except StopAsyncIteration:
                    raise EngineFailed("The model gave no answer at all.") from None
                except ContextTooLong:
                    if not answer.shorten():
                        raise
                    continue
                except InvalidValue as error:
                    if not self._mend_spec(error, answer, turn):
                        raise
                    continue
                yield first
                async for event in stream:
                    yield event
                return

    def _mend_spec(self, error: InvalidValue, answer: _Answer, turn: _Turn) -> bool:
        """Offer a tool whose schema the model refused with a plainer one from now on (the whole one
        is checked here in any case), and if that is refused, too, not at all."""
        number = re.match(r"tools\[(\d+)\]", error.param or "")
        ours = int(number[1]) - len(answer.request.tools) if number else -1
        if not 0 <= ours < len(turn.own):
            return False
        name = list(turn.own)[ours]
        plainer = plain(self._specs[name])
        if plainer != self._specs[name]:
            logger.info("%s is offered with a plainer schema: %s", name, error.message)
            self._specs[name] = plainer
        else:
            logger.warning("%s is not offered: %s", name, error.message)
            del self._specs[name]
            del turn.own[name]
        return True

    async def _run(
        self, calls: Sequence[ToolCall], own: dict[str, Tool], answer: _Answer
    ) -> AsyncGenerator[tuple[int, ToolResult], None]:
        """(number of the call, its result) as they come. Who must be asked is asked first, one call
        after the other."""
        ready: list[Callable[[], Awaitable[Output]]] = []
        for number, call in enumerate(calls):
            try:
                ready.append(await self._checked(number, call, own[call.name], answer.session))
            except ToolFailed as error:
                ready.append(_failing(error))
        share = min(self._limits.result_chars, self.card.context_length) // len(calls)
        seconds = min(self._limits.call_seconds, self._limits.seconds - answer.seconds)

        async def run(number: int) -> tuple[int, ToolResult]:
            result = await self._result(calls[number], ready[number], max(seconds, 0.01))
            return number, replace(result, content=fitted(result.content, max(share, SHORTEST)))

        began = time.monotonic()
        tasks = [asyncio.create_task(run(number)) for number in range(len(calls))]
        try:
            for task in asyncio.as_completed(tasks):
                yield await task
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            answer.seconds += time.monotonic() - began

    async def _checked(
        self, number: int, call: ToolCall, tool: Tool, session: Session
    ) -> Callable[[], Awaitable[Output]]:
        """How to run a call that may. Raises `ToolFailed`."""
        if number >= self._limits.calls:
            raise ToolFailed(f"at most {self._limits.calls} calls run at once; call it again")
        arguments = read_arguments(call.arguments, tool.parameters)
        await self._approvals.check(tool, call)
        return lambda: tool.run(arguments, session)

    async def _result(
        self, call: ToolCall, run: Callable[[], Awaitable[Output]], seconds: float
    ) -> ToolResult:
        async def limited() -> Output:
            limit = asyncio.timeout(seconds)
            try:
                async with limit:
                    return await run()
            except TimeoutError:
                if limit.expired():
                    raise ToolFailed(STOPPED) from None
                raise

        began = time.monotonic()
        try:
            output = await self._thread.within(limited())
        except ToolFailed as error:
            result = ToolResult(call, error.message, is_error=True)
        except Exception as error:
            logger.warning("%s crashed", call.name, exc_info=True)
            result = ToolResult(call, crashed(error), is_error=True)
        else:
            result = ToolResult(call, output.text, files=output.files, source=output.source)
        took = time.monotonic() - began
        logger.info("%s %s, %.2f s", call.name, "failed" if result.is_error else "done", took)
        return result

    def _remember(self, answer: _Answer) -> None:
        said = message("assistant", answer.text, tool_calls=answer.theirs)
        self._conversations.remember(answer.transcript, said, tuple(answer.turns), answer.session)

    def _broke_off(self, answer: _Answer, *, failed: bool) -> None:
        """Whoever stopped an answer may go on from what it said; who saw it fail asks again."""
        if answer.text and not failed:
            if answer.said():
                answer.turns.append(message("assistant", answer.said()))
            self._remember(answer)
        elif answer.recalled:
            self._conversations.give_back(answer.transcript, answer.session)
        else:
            self._conversations.discard(answer.session)


class _Answer:
    """One answer while it is made."""

    def __init__(
        self,
        request: ChatRequest,
        transcript: Transcript,
        before: tuple[Message, ...],
        session: Session | None,
    ) -> None:
        self.request = request
        self.transcript = transcript
        self.before = before
        """What was said before, with the steps that made it."""
        self.recalled = session is not None
        self.session = session or Session()
        self.turns: list[Message] = []
        """What the model said and was given for this answer."""
        self.text = ""
        """All that the caller was told."""
        self.theirs: tuple[ToolCall, ...] = ()
        self.usage = Usage(0, 0)
        self.steps = 0
        self.seconds = 0.0
        self._told = 0  # how much of `text` earlier turns said

    def said(self) -> str:
        """What this turn said so far."""
        return self.text[self._told :]

    def parting(self) -> str:
        """What goes between the texts of two turns."""
        new = self._told == len(self.text)
        return "\n\n" if self.steps and new and self.text.strip() else ""

    def count(self, end: Finished) -> None:
        self.usage = Usage(
            self.usage.prompt_tokens + end.usage.prompt_tokens,
            self.usage.completion_tokens + end.usage.completion_tokens,
            self.usage.cached_tokens + end.usage.cached_tokens,
        )

    def went(self, turn: _Turn, results: Sequence[ToolResult]) -> None:
        """A turn that called our tools is over."""
        self.turns.append(message("assistant", *turn.texts(), tool_calls=tuple(turn.calls)))
        for result in results:
            given = f"Error: {result.content}" if result.is_error else result.content
            self.turns.append(message("tool", given, tool_call_id=result.call.id))
        self._told = len(self.text)

    def ends(self, turn: _Turn) -> None:
        self.theirs = tuple(turn.theirs)
        if not turn.ours:
            self.turns.append(message("assistant", *turn.texts(), tool_calls=self.theirs))

    def shorten(self) -> bool:
        """Make what tools gave shorter: the longest result half as long, or, where none is long,
        forget the steps of earlier answers. False where there is nothing left to shorten."""
        known = {each.tool_call_id for each in self.request.messages}
        longest, place, index = SHORTEST, None, 0
        before = list(self.before)
        for messages in (before, self.turns):
            for number, each in enumerate(messages):
                ours = each.role == "tool" and each.tool_call_id not in known
                if ours and len(each.text) > longest:
                    longest, place, index = len(each.text), messages, number
        if place is not None:
            given = place[index]
            place[index] = message(
                "tool", fitted(given.text, longest // 2), tool_call_id=given.tool_call_id
            )
            self.before = tuple(before)
            return True
        if self.before != self.request.messages:
            self.before = self.request.messages
            return True
        return False


@dataclass(slots=True)
class _Turn:
    """One turn of the model: its calls sorted, its text told."""

    own: dict[str, Tool]
    last: bool
    calls: list[ToolCall] = field(default_factory=list[ToolCall])
    _finished: Finished | None = None
    _text: str = ""
    _logprobs: tuple[TokenLogprob, ...] = ()

    @property
    def ours(self) -> list[ToolCall]:
        return [call for call in self.calls if call.name in self.own]

    @property
    def theirs(self) -> list[ToolCall]:
        return [call for call in self.calls if call.name not in self.own]

    @property
    def end(self) -> Finished:
        if self._finished is None:
            raise EngineFailed("The model's answer broke off without an end.")
        return self._finished

    def texts(self) -> list[str]:
        return [self._text] if self._text else []

    def add(self, event: ChatEvent, answer: _Answer) -> list[ChatEvent]:
        """What to tell of it. Logprobs without text may be those of a call of ours, which nobody
        sees: they wait for what they belong to."""
        match event:
            case TextDelta():
                logprobs = (*self._logprobs, *event.logprobs)
                if not event.text:
                    self._logprobs = logprobs
                    return []
                self._logprobs = ()
                text = answer.parting() + event.text
                self._text += event.text
                answer.text += text
                return [TextDelta(text, logprobs)]
            case ToolCall():
                if event.name not in self.own:
                    self.calls.append(event)
                    return self._rest()
                self._logprobs = ()
                if not self.last:  # a call of what was not on offer is nobody's
                    self.calls.append(event)
                return []
            case Finished():
                self._finished = event
                return self._rest()
            case _:
                return [event]  # a step of a loop further in

    def _rest(self) -> list[ChatEvent]:
        rest, self._logprobs = self._logprobs, ()
        return [TextDelta("", rest)] if rest else []


def _failing(error: ToolFailed) -> Callable[[], Awaitable[Output]]:
    async def fail() -> Output:
        raise error

    return fail


def plain(spec: ToolSpec) -> ToolSpec:
    """With a schema of names, types and descriptions alone."""
    properties = spec.parameters.get("properties")
    if not isinstance(properties, dict):
        return replace(spec, parameters={"type": "object"})
    kept: dict[str, Any] = {}
    for name, schema in cast("dict[str, Any]", properties).items():
        told = cast("dict[str, Any]", schema) if isinstance(schema, dict) else {}
        kept[name] = {
            key: told[key] for key in ("type", "description") if isinstance(told.get(key), str)
        }
    required = spec.parameters.get("required")
    needed = [name for name in cast("list[Any]", required) if name in kept] if required else []
    return replace(spec, parameters={"type": "object", "properties": kept, "required": needed})


def fitted(text: str, limit: int) -> str:
    """`text` as valid Unicode of about `limit` characters: of a longer one the beginning and the
    end, and a word between them that something is missing."""
    text = text.encode("utf-8", "replace").decode("utf-8")
    if len(text) <= limit:
        return text
    tail = limit // 4
    missing = len(text) - limit
    return f"{text[: limit - tail]}\n[... {missing} characters left out ...]\n{text[-tail:]}"
