"""The model's token ids to chat events: text as it comes, tool calls when they are whole.

It knows no prompt and no engine. The dialects of calls are `puna.llama.dialects`'; here is the
search. Wherever a call may begin, its readers are tried in turn on the same text, and the text is
held back as long as one still hopes. When all have given up, the first character is prose and the
search goes on behind it. Everything is decided character by character, so that it makes no
difference how the stream was cut; and what did not become a call is content, as the model wrote it:
a call that was cut off, one whose name was not offered, and the python tag before them.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from itertools import chain
from typing import Any, Literal, TypeAlias

from puna.chat import FinishReason, TextDelta, TokenLogprob, ToolCall, ToolSpec
from puna.llama.dialects import (
    SEPARATORS,
    TAG,
    Call,
    Dialects,
    EndOfMessage,
    Found,
    NoCall,
    Reader,
)
from puna.llama.literals import write_json
from puna.llama.stops import StopStrings
from puna.llama.tokenizer import StreamDecoder, Tokenizer

PYTHON_TAG = "<|python_tag|>"
OPENING = re.compile(f"[<{TAG}]")  # where a call may begin after prose

ReplyEvent: TypeAlias = TextDelta | ToolCall


def new_call_id() -> str:
    """An id that no other call of any conversation bears."""
    return "call_" + secrets.token_hex(12)


class ReplyParser:
    """One answer. `feed` it each sampled id; when generation ends, or `ended`, call `finish`.

    `tools`: those offered; without any, nothing becomes a call. `stop`: stop strings, which end the
    answer wherever they come up, in a call too (the call is then cut off, and content).
    `parallel=False` gives out the first call alone. `guarded`: whether a grammar saw to it that
    what has come fits; if not, what reads like a call of a strict tool is none.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        tools: Sequence[ToolSpec] = (),
        *,
        stop: Sequence[str] = (),
        parallel: bool = True,
        guarded: Callable[[], bool] = lambda: True,
        call_id: Callable[[], str] = new_call_id,
    ) -> None:
        self.ended = False
        """Whether a stop token or a stop string has come: nothing more is to be fed."""
        self._tokenizer = tokenizer
        self._decoder = StreamDecoder()
        self._stops = StopStrings([*stop, *(text.replace(PYTHON_TAG, TAG) for text in stop)])
        strict = {tool.name for tool in tools if tool.strict}
        dialects = Dialects(
            [tool.name for tool in tools], counts=lambda name: name not in strict or guarded()
        )
        self._search = _Search(dialects) if tools else None
        self._parallel = parallel
        self._call_id = call_id
        self._called = False
        # Where its token begins in the text, and the logprob: what a stop string eats goes unsaid.
        self._logprobs: list[tuple[int, TokenLogprob]] = []
        self._read = 0  # characters that came in
        self._passed = 0  # characters that no stop string can eat any more

    def feed(self, token_id: int, logprob: TokenLogprob | None = None) -> list[ReplyEvent]:
        """The events that this id makes certain.

        Logprobs go out in order, each once, with their text or (in calls) before the call; those of
        stop tokens and stop strings, which leave no text, do not.
        """
        if self.ended:
            return []
        if logprob is not None and token_id not in self._tokenizer.stop_ids:
            self._logprobs.append((self._read, logprob))
        if not self._tokenizer.is_special(token_id):
            return self._text(self._decoder.feed(self._tokenizer.token_bytes(token_id)))
        text = self._decoder.finish()
        if self._tokenizer.token_text(token_id) == PYTHON_TAG:
            text += TAG
        self.ended = token_id in self._tokenizer.stop_ids
        return self._text(text)

    def finish(self, reason: Literal["stop", "length"]) -> tuple[list[ReplyEvent], FinishReason]:
        """The last events, and why the answer ended: `length` wins, then `tool_calls`."""
        events = self._text(self._decoder.finish())
        whole = reason == "stop" and self._stops.hit is None
        rest = self._stops.finish()
        if self._stops.hit is None:
            self._passed = self._read + 1
        if self._search is None:
            events += self._events([rest])
        else:
            events += self._events(chain(self._search.feed(rest), self._search.finish(whole=whole)))
        events += self._deltas("")
        self.ended = True
        if reason == "stop" and self._called:
            return events, "tool_calls"
        return events, reason

    def _text(self, text: str) -> list[ReplyEvent]:
        told = self._stops.feed(text)
        self._read += len(text)
        self._passed += len(told)
        if self._stops.hit is not None:
            self.ended = True
        return self._events(self._search.feed(told) if self._search else [told])

    def _events(self, parts: Iterable[str | Call]) -> list[ReplyEvent]:
        events: list[ReplyEvent] = []
        text = ""
        for part in parts:
            if isinstance(part, str):
                text += part
            elif self._parallel or not self._called:
                self._called = True
                events += self._deltas(text)
                text = ""
                arguments = write_json(dict(part.arguments))
                events.append(ToolCall(self._call_id(), part.name, arguments))
        return events + self._deltas(text) if text else events

    def _deltas(self, text: str) -> list[TextDelta]:
        """One or none."""
        logprobs = self._ready_logprobs()
        if not (text or logprobs):
            return []
        return [TextDelta(text.replace(TAG, PYTHON_TAG), logprobs)]

    def _ready_logprobs(self) -> tuple[TokenLogprob, ...]:
        ready = [logprob for start, logprob in self._logprobs if start < self._passed]
        del self._logprobs[: len(ready)]
        return tuple(ready)


class _Search:
    """Text in; prose and calls out, in order."""

    def __init__(self, dialects: Dialects) -> None:
        self._dialects = dialects
        self._reader: Reader | None = None
        self._others: Iterator[Reader] = iter(())  # to try after it
        self._held: list[str] = []  # what the reader has read
        self._tagged = False  # whether that began with the python tag
        self._fresh = True  # only calls and blanks so far: a bare call may begin here
        self._blanks = ""  # and separators: told only if prose follows
        self._called = False

    def feed(self, text: str) -> Iterator[str | Call]:
        position = 0
        while position < len(text):
            if self._reader is None:
                start = position if self._fresh else _next_opening(text, position)
                if start > position:
                    yield from self._prose(text[position:start])
                position = start
                if position < len(text):
                    self._tagged = text[position] == TAG
                    self._others = self._dialects.readers(text[position], called=self._called)
                    self._try_next()
            else:
                char = text[position]
                position += 1
                self._held.append(char)
                again = yield from self._advance(self._reader.send, char)
                if again:
                    text, position = again + text[position:], 0

    def finish(self, *, whole: bool) -> Iterator[str | Call]:
        """No more text comes. `whole`: the model ended its message by itself."""
        while self._reader is not None:
            end = EndOfMessage() if whole else NoCall()
            again = yield from self._advance(self._reader.throw, end)
            yield from self.feed(again)
        if not self._called:
            yield self._blanks

    def _advance(
        self, move: Callable[[Any], None], what: str | NoCall
    ) -> Generator[str | Call, None, str]:
        """Send or throw `what` into the reader; give back the text to be read again."""
        try:
            move(what)
        except StopIteration as stop:
            found: Found = stop.value
            yield from self._accept(found)
            return found.rest
        except NoCall:
            held = "".join(self._held)
            self._try_next()
            if self._reader is not None:
                return held
            return (yield from self._give_up(held))
        return ""

    def _try_next(self) -> None:
        self._held = []
        self._reader = next(self._others, None)
        if self._reader is not None:
            next(self._reader)

    def _accept(self, found: Found) -> Iterator[str | Call]:
        for part in found.parts:
            if isinstance(part, str):
                yield from self._prose(part)
            else:
                self._blanks = ""
                yield part
        self._reader, self._held = None, []
        self._called = True
        self._fresh = self._fresh or self._tagged

    def _give_up(self, held: str) -> Generator[str | Call, None, str]:
        """No call begins here: tell the first character, or lay blanks aside. The rest is left."""
        if self._fresh:
            blanks = _leading_blanks(held, SEPARATORS if self._called else "")
            if blanks:
                self._blanks += held[:blanks]
                return held[blanks:]
        yield from self._prose(held[0])
        return held[1:]

    def _prose(self, text: str) -> Iterator[str]:
        yield self._blanks + text
        self._blanks, self._fresh = "", False


def _leading_blanks(text: str, separators: str) -> int:
    length = 0
    while length < len(text) and (text[length].isspace() or text[length] in separators):
        length += 1
    return length


def _next_opening(text: str, start: int) -> int:
    match = OPENING.search(text, start)
    return match.start() if match else len(text)
