"""What belongs to a conversation and does not travel on the wire, found again by what does.

A client of the stateless wire sends the visible messages alone. What a tool loop did to write one
of them, and what its tools keep (an interpreter), is filed here under a digest of the transcript up
to and with that message: who sends the same transcript again goes on where it ended.

It knows no model and no tool. What it gives away it gives to whoever knows the whole transcript,
word for word. Two conversations that are the same word for word are one to it; tools that keep
something serve the first of them to go on, and the other begins anew.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from puna.chat import Image, Message
from puna.loopthread import LoopThread
from puna.tools.tool import Session

logger = logging.getLogger("puna.tools")

CLOSING_SECONDS = 10


class Transcript:
    """The visible messages, each with the digest of all up to it. Pictures make this slow: it is a
    job for a thread."""

    def __init__(self, messages: Sequence[Message]) -> None:
        self.messages = tuple(messages)
        self._running = hashlib.sha256()
        self.digests: list[bytes] = []
        self.last_answer = b""
        for message in messages:
            self._running.update(_canonical(message))
            self.digests.append(self._running.digest())
            if message.role == "assistant":
                self.last_answer = self.digests[-1]

    def after(self, said: Message) -> bytes:
        """The digest when `said` has been added."""
        running = self._running.copy()
        running.update(_canonical(said))
        return running.digest()


@dataclass(slots=True)
class _Kept:
    turns: tuple[Message, ...]
    session: Session | None = field(default=None)


class Conversations:
    """At most `most` of them, each for `idle` seconds after its last answer.

    Sessions live and are closed on `thread`. Every method may be called from any thread.
    """

    def __init__(self, thread: LoopThread, *, most: int, idle: float) -> None:
        self._thread = thread
        self._most = most
        self._idle = idle
        self._lock = threading.Lock()
        self._kept: OrderedDict[bytes, _Kept] = OrderedDict()
        self._closing: set[asyncio.Task[None]] = set()

    def recall(self, transcript: Transcript) -> tuple[tuple[Message, ...], Session | None]:
        """The messages with all that was done for them, and what the last answer's tools kept.

        The session is the caller's from now on, to be given back by `remember` or `give_back`.
        """
        whole: list[Message] = []
        last: _Kept | None = None
        with self._lock:
            for message, digest in zip(transcript.messages, transcript.digests, strict=True):
                kept = self._kept.get(digest) if message.role == "assistant" else None
                if message.role == "assistant":
                    last = kept
                if kept is None:
                    whole.append(message)
                else:
                    self._kept.move_to_end(digest)
                    whole += kept.turns
            session = None
            if last is not None:
                session, last.session = last.session, None
        return tuple(whole), session

    def remember(
        self,
        transcript: Transcript,
        said: Message,
        turns: tuple[Message, ...],
        session: Session,
    ) -> None:
        """To `transcript`, `said` was the answer, by way of `turns`."""
        if turns == (said,) and not session:
            return
        digest = transcript.after(said)
        kept = _Kept(turns, session if session else None)
        with self._lock:
            gone = [self._kept.pop(digest, None)]
            self._kept[digest] = kept
            while len(self._kept) > self._most:
                gone.append(self._kept.popitem(last=False)[1])
            old = _sessions(each for each in gone if each is not None)
        for each in old:
            self._thread.later(0, lambda each=each: self._end(each))
        self._thread.later(self._idle, lambda: self._expire(digest, kept))

    def give_back(self, transcript: Transcript, session: Session) -> None:
        """An answer to it came to nothing: the session is as recallable as it was."""
        with self._lock:
            kept = self._kept.get(transcript.last_answer)
            if kept is not None and kept.session is None:
                kept.session = session
                return
        self.discard(session)

    def discard(self, session: Session) -> None:
        """Nobody will ask for it again."""
        if session:
            self._thread.later(0, lambda: self._end(session))

    def close(self) -> None:
        """End all that is kept, and wait until it has ended."""
        with self._lock:
            old = _sessions(self._kept.values())
            self._kept.clear()
        if old or self._closing:
            self._thread.run(self._close(old))

    async def _close(self, sessions: list[Session]) -> None:
        for session in sessions:
            self._end(session)
        _, late = await asyncio.wait(self._closing, timeout=CLOSING_SECONDS)
        for task in late:
            task.cancel()

    def _expire(self, digest: bytes, kept: _Kept) -> None:
        with self._lock:
            if self._kept.get(digest) is not kept:
                return
            del self._kept[digest]
            old = _sessions([kept])
        for each in old:
            self._end(each)

    def _end(self, session: Session) -> None:
        """On the thread's loop."""

        async def end() -> None:
            try:
                await session.close()
            except Exception:
                logger.exception("what a tool kept for a conversation could not be closed")

        task = asyncio.get_running_loop().create_task(end())
        self._closing.add(task)
        task.add_done_callback(self._closing.discard)


def _sessions(kept: Iterable[_Kept]) -> list[Session]:
    return [each.session for each in kept if each.session is not None]


def _canonical(message: Message) -> bytes:
    """What a client that sends a message back may have changed does not count: blanks around it,
    and the spelling of the JSON in its calls."""
    images = [part.data for part in message.content if isinstance(part, Image)]
    said = json.dumps(
        [
            message.role,
            message.text.strip(),
            [hashlib.sha256(data).hexdigest() for data in images],
            [[call.id, call.name, _plain(call.arguments)] for call in message.tool_calls],
            message.tool_call_id,
        ]
    )
    return hashlib.sha256(said.encode()).digest()


def _plain(arguments: str) -> str:
    try:
        return json.dumps(json.loads(arguments or "{}"), sort_keys=True)
    except (ValueError, RecursionError):
        return arguments
