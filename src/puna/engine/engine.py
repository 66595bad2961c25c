"""One thread that answers many requests at once: inbox, step, outbox.

It knows token ids, and no text. Any thread may `submit` and `cancel`; all else happens in the
engine's own thread, which sleeps when there is nothing to do. A request that fails ends alone.
"""

from __future__ import annotations

import itertools
import logging
import math
import threading
import time
from collections.abc import Callable, Iterator
from collections.abc import Sequence as Ordered
from dataclasses import dataclass
from typing import Any, Literal

from puna.engine.images import ImageStore
from puna.engine.pace import Pace
from puna.engine.pages import PagePool
from puna.engine.runner import EncodedImage, Model, Runner
from puna.engine.scheduler import Scheduler, Work
from puna.engine.sequence import (
    Constraint,
    Emitted,
    Ended,
    Outbox,
    Outcome,
    Prompt,
    SamplingParams,
    Sequence,
)
from puna.engine.speculation import Speculation
from puna.errors import (
    ContextTooLong,
    EngineFailed,
    InvalidImage,
    InvalidValue,
    Overloaded,
    PunaError,
)

logger = logging.getLogger("puna.engine")


@dataclass(frozen=True, slots=True)
class EngineLimits:
    """`context`: tokens of one sequence; `num_pages` of `page_size` tokens for all together;
    `image_memory` bytes for encoded images, `bytes_per_tile` of an image each; `max_batch_tokens`
    rows, `max_sequences` sequences and `max_encodes` pieces of an image's encoding a step;
    `max_prompt_tokens` rows of prompts in a step in which someone generates (None: as many as its
    pace allows); `max_queue` requests that wait or run."""

    context: int
    num_pages: int
    page_size: int
    image_memory: int = 0
    bytes_per_tile: int = 0
    max_batch_tokens: int = 512
    max_prompt_tokens: int | None = None
    max_sequences: int = 64
    max_encodes: int = 1
    max_queue: int = 256


@dataclass(frozen=True, slots=True)
class EngineStats:
    """A moment's numbers; from `requests` on they only grow. `cancelled`: before their end, be it
    that nobody listened any more or that a stop string had come. `tokens_computed`: rows, those of
    drafts included; `tokens_guessed`: of the `tokens_drafted`, those that came true."""

    running: int
    waiting: int
    pages_held: int
    pages_total: int
    image_bytes: int

    requests: int
    finished: int
    failed: int
    cancelled: int
    steps: int
    tokens_computed: int
    tokens_generated: int
    tokens_cached: int
    tokens_drafted: int
    tokens_guessed: int
    images_encoded: int
    preemptions: int


class Engine:
    """Runs `model` over `cache`, which has `limits.num_pages` pages of `limits.page_size` tokens.

    After `start`, the engine's thread calls `step` for as long as there is work; without it (in
    tests) whoever calls `step` is the engine's thread.
    """

    def __init__(
        self,
        model: Model,
        cache: Any,
        limits: EngineLimits,
        device: str = "cpu",
        *,
        speculation: Speculation | None = None,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self.limits = limits
        self.context = min(limits.context, limits.num_pages * limits.page_size)
        self._model, self._cache, self._device = model, cache, device
        self._speculation, self._clock = speculation, clock
        self._pace = Pace()
        self._preemptions = self._cached = 0
        self._reset()

        self._wake = threading.Condition()
        self._numbers = itertools.count()
        self._live: dict[int, Sequence] = {}
        self._arrived: list[Sequence] = []
        self._cancelled: list[Sequence] = []
        self._closing = False
        self._thread: threading.Thread | None = None

        self._requests = self._finished = self._failed = self._withdrawn = 0
        self._steps = self._computed = self._generated = self._encoded = 0
        self._drafted = self._guessed = 0
        self._last_finish = time.monotonic()
        self._seconds_per_finish = 1.0

    def submit(
        self,
        prompt: Prompt,
        sampling: SamplingParams,
        outbox: Outbox,
        constraint: Constraint | None = None,
    ) -> Sequence:
        """Takes a request; `outbox` is called in the engine's thread with each `Emitted`, then once
        with `Ended` or an error, and must not block. `constraint` is this request's alone, from its
        first new token on. What is given back can be cancelled, and from its first token on it
        knows its `cached_tokens`.

        Raises `ContextTooLong` and `InvalidImage` when it could never fit, `Overloaded` when the
        queue is full, `EngineFailed` when the engine is closed.
        """
        self._check(prompt, sampling)
        sequence = Sequence(
            next(self._numbers), prompt, sampling, outbox, self.limits.page_size, constraint
        )
        needed = sequence.most_images_at_once(self.images.size_of)
        if needed > self.limits.image_memory:
            raise InvalidImage(
                f"the request's images need {needed} bytes of memory at once, and "
                f"{self.limits.image_memory} are set aside: send fewer or smaller images",
                param="messages",
            )
        if self._speculation:
            self._speculation.watch(sequence)
        with self._wake:
            if self._closing:
                raise EngineFailed("the engine is shut down")
            if len(self._live) >= self.limits.max_queue:
                raise Overloaded(
                    f"{len(self._live)} requests wait or run already, and no more are taken: "
                    "try again later",
                    retry_after=min(60, max(1, math.ceil(self._seconds_per_finish))),
                )
            self._live[sequence.number] = sequence
            self._arrived.append(sequence)
            self._requests += 1
            self._wake.notify()
        return sequence

    def cancel(self, sequence: Sequence) -> None:
        """No more is computed or said for this request from the next step on. Done ones may be
        cancelled too."""
        with self._wake:
            if self._live.pop(sequence.number, None) is not None:
                self._cancelled.append(sequence)
                self._wake.notify()

    def stats(self) -> EngineStats:
        return EngineStats(
            running=len(self.scheduler.running),
            waiting=len(self.scheduler.waiting) + len(self._arrived),
            pages_held=self.pages.held,
            pages_total=self.pages.num_pages,
            image_bytes=self.images.used,
            requests=self._requests,
            finished=self._finished,
            failed=self._failed,
            cancelled=self._withdrawn,
            steps=self._steps,
            tokens_computed=self._computed,
            tokens_generated=self._generated,
            tokens_cached=self._cached + self.scheduler.cached_tokens,
            tokens_drafted=self._drafted,
            tokens_guessed=self._guessed,
            images_encoded=self._encoded,
            preemptions=self._preemptions + self.scheduler.preemptions,
        )

    def start(self) -> None:
        self._thread = threading.Thread(target=self._loop, name="puna-engine", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Ends the thread after its present step; requests not yet done get `EngineFailed`."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread is not None:
            self._thread.join()
        self._fail_all("the engine is shutting down: send the request again later")

    def step(self) -> bool:
        """One round of work; false when there is none."""
        self._accept_new_and_cancelled()
        self.scheduler.admit()
        encoded = self._encode_images()
        plan = self.scheduler.plan()
        if not plan:
            if self.scheduler.is_idle or encoded:
                return encoded
            raise RuntimeError("sequences wait, and none of them can move")
        plan, results = self._run_with_drafts(plan)
        done = self._without_failed(plan, results)
        for progress in self.scheduler.commit(done):
            self._generated += 1
            self._tell(progress.sequence, progress.emitted)
            if progress.ended:
                self._finish(progress.sequence, progress.ended)
        self._steps += 1
        return True

    def _accept_new_and_cancelled(self) -> None:
        with self._wake:
            arrived, self._arrived = self._arrived, []
            cancelled, self._cancelled = self._cancelled, []
        for sequence in arrived:
            self.scheduler.add(sequence)
        for sequence in cancelled:
            self._withdrawn += self.scheduler.remove(sequence)

    def _encode_images(self) -> bool:
        """Goes on with the images that are wanted, a piece of work each; false if none is."""
        for piece in range(self.limits.max_encodes):
            wanted = self.scheduler.image_wanted()
            if wanted is None:
                self._begun = None
                return piece > 0
            sequence, image = wanted
            try:
                if self._begun is None or self._begun[0] != image.digest:
                    self._begun = image.digest, self._runner.encoding(image)
                value = next(self._begun[1])
            except Exception as error:
                self._begun = None
                self._fail(sequence, error)
                continue
            if value is not None:
                self._begun = None
                self.scheduler.image_ready(sequence, image, value)
                self._encoded += 1
        return True

    def _run_with_drafts(
        self, plan: Ordered[Work]
    ) -> tuple[Ordered[Work], Ordered[list[Emitted] | Exception]]:
        """Runs the plan, with what the next tokens are guessed to be where that pays."""
        if self._speculation:
            spare, room = self.scheduler.spare_rows(plan), self.scheduler.room_for_drafts
            drafts = self._speculation.drafts(plan, self._pace, spare, room)
            plan = self.scheduler.with_drafts(plan, drafts)
        prompts = sum(work.prompt_rows for work in plan)
        start = self._clock()
        results = self._run(plan)
        seconds = self._clock() - start
        self._pace.took(sum(work.rows for work in plan) - prompts, seconds, prompts)
        if self._speculation:
            self._speculation.learn(plan, results)
        return plan, results

    def _run(self, plan: Ordered[Work]) -> Ordered[list[Emitted] | Exception]:
        """Runs the batch; if it fails as a whole, each alone and without drafts, to find whose
        fault it is. Keys and values are written again at the same places, so a second run does no
        harm."""
        try:
            return self._runner.run(plan)
        except Exception as error:
            if len(plan) == 1 and not plan[0].drafts:
                return [error]
            return [
                result for work in plan for result in self._run([Work(work.sequence, work.count)])
            ]

    def _without_failed(
        self, plan: Ordered[Work], results: Ordered[list[Emitted] | Exception]
    ) -> list[tuple[Work, list[Emitted]]]:
        done: list[tuple[Work, list[Emitted]]] = []
        for work, result in zip(plan, results, strict=True):
            if isinstance(result, Exception):
                self._fail(work.sequence, result)
            else:
                done.append((work, result))
                self._computed += work.rows
                self._drafted += len(work.drafts)
                self._guessed += max(0, len(result) - 1)
        return done

    def _tell(self, sequence: Sequence, outcome: Outcome) -> None:
        if sequence.number not in self._live:
            return  # cancelled while the step ran
        try:
            sequence.outbox(outcome)
        except Exception:
            # nobody is there any more, for example because the listener's event loop is closed
            self.cancel(sequence)

    def _finish(self, sequence: Sequence, reason: Literal["stop", "length"]) -> None:
        self._tell(sequence, Ended(reason))
        self._live.pop(sequence.number, None)
        self._finished += 1
        now = time.monotonic()
        self._seconds_per_finish += 0.2 * (now - self._last_finish - self._seconds_per_finish)
        self._last_finish = now

    def _fail(self, sequence: Sequence, error: Exception) -> None:
        self.scheduler.remove(sequence)
        self._failed += 1
        if not isinstance(error, PunaError):
            _log("a request failed", error)
            error = EngineFailed("the request failed inside the engine: its log says why")
        self._tell(sequence, error)
        self._live.pop(sequence.number, None)

    def _loop(self) -> None:
        while self._wait_for_work():
            try:
                while not self._closing and self.step():
                    pass
            except Exception as error:
                # A fault of the engine's own: its books cannot be trusted, so it opens new ones.
                _log("the engine failed and starts anew", error)
                self._preemptions += self.scheduler.preemptions
                self._cached += self.scheduler.cached_tokens
                self._reset()
                self._fail_all("the engine failed and started anew: its log says why")

    def _wait_for_work(self) -> bool:
        """Sleeps until something arrives; false when the engine closes."""
        with self._wake:
            self._wake.wait_for(lambda: self._closing or self._arrived or self._cancelled)
            return not self._closing

    def _fail_all(self, why: str) -> None:
        with self._wake:
            live = list(self._live.values())
            self._arrived, self._cancelled = [], []
        for sequence in live:
            self._fail(sequence, EngineFailed(why))

    def _reset(self) -> None:
        limits = self.limits
        self.pages = PagePool(limits.num_pages, limits.page_size)
        self.images = ImageStore[EncodedImage](limits.image_memory, limits.bytes_per_tile)
        self.scheduler = Scheduler(
            self.pages,
            self.images,
            max_batch_tokens=limits.max_batch_tokens,
            max_sequences=limits.max_sequences,
            prompt_rows=self._prompt_rows,
        )
        self._begun: tuple[bytes, Iterator[EncodedImage | None]] | None = None  # digest, the rest
        self._runner = Runner(self._model, self._cache, self.images, self._device)

    def _prompt_rows(self, generating: int) -> int:
        fixed = self.limits.max_prompt_tokens
        return self._pace.prompt_rows(generating) if fixed is None else fixed

    def _check(self, prompt: Prompt, sampling: SamplingParams) -> None:
        length = len(prompt.token_ids)
        if not length:
            raise InvalidValue("the prompt is empty: one token at least", param="messages")
        if sampling.max_tokens < 1:
            raise InvalidValue(
                f"max_tokens is {sampling.max_tokens}: expected at least 1", param="max_tokens"
            )
        if length + sampling.max_tokens > self.context:
            raise ContextTooLong(
                f"the prompt has {length} tokens and the answer may take {sampling.max_tokens}: "
                f"together more than the context of {self.context}",
                prompt_tokens=length,
                limit=self.context,
                param="messages",
            )


def _first_line(error: Exception) -> str:
    lines = str(error).splitlines()
    return f"{type(error).__name__}: {lines[0][:200]}" if lines else type(error).__name__


def _log(what: str, error: Exception) -> None:
    """One line for people; where it happened, for those who look for it."""
    logger.error("%s: %s", what, _first_line(error))
    logger.debug("where it happened", exc_info=error)
