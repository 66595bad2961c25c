"""Who computes how many tokens in the next step. It knows no tensors, no threads and no text.

One quantity replaces prefill, decode, resuming and cache hits: `sequence.computed` catches up with
`sequence.tokens`. A new prompt has many tokens pending, a generating sequence one, a preempted
sequence all it had, a prompt whose beginning is cached what is left.

The policy:

* Rows. Who wants one, as all do that generate, gets it in every step, so nobody's answer waits for
  a long prompt. Of the rows left, the eldest that wants more gets up to half (a long prompt gets
  on, whatever arrives after it); the other half is dealt in equal shares to the others, what one
  does not need going to the next (a short prompt starts at once, however long the one before it).
  While someone generates, `prompt_rows` bounds the rows of all prompts together: where rows are
  dear, as on a processor, a step of hundreds would keep every answer waiting for seconds.
* Memory. An elder may take pages and image memory from the newest, never the reverse. Who loses its
  pages is not failed: it waits, and computes again what is no longer cached. The eldest of all
  always gets on, so everyone does in the end.
* Admission, by age, if the pages for all known tokens are there; a younger one may go ahead while
  its elder waits for memory. A sequence whose next page is just being computed by another waits for
  that page instead of computing it too (n answers to one prompt cost one prompt).
* Drafts: guesses of what comes next, computed as if they were known, in rows and pages that nobody
  else wants. What proves wrong was never computed: its place is written again.
* Images. The engine encodes a bounded number before a step, in turn: who has had one goes to the
  end of the line. A sequence stops short of an image that is not there yet.
"""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Callable
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, replace
from typing import Any, Literal

from puna.engine.images import ImageStore
from puna.engine.pages import PagePool
from puna.engine.sequence import Emitted, EncodableImage, SeenImage, Sequence


@dataclass(frozen=True, slots=True)
class Work:
    """`sequence` computes its next `count` tokens and, if it catches up, `drafts` behind them."""

    sequence: Sequence
    count: int
    drafts: tuple[int, ...] = ()

    @property
    def rows(self) -> int:
        return self.count + len(self.drafts)

    @property
    def prompt_rows(self) -> int:
        """Of its rows, those of the prompt."""
        return min(self.count, max(0, self.sequence.prompt_length - self.sequence.computed))

    @property
    def samples(self) -> bool:
        """Whether it catches up, so that its last known row's logits choose the next token, and
        each draft's, if the draft is what was chosen, the one after it."""
        return self.count == self.sequence.pending


@dataclass(frozen=True, slots=True)
class Progress:
    """A token that was chosen, and why the sequence ends with it, if it does."""

    sequence: Sequence
    emitted: Emitted
    ended: Literal["stop", "length"] | None


def deal(wanted: Ordered[int], rows: int) -> list[int]:
    """Rows for each of those who want `wanted` (at least 1 each, the eldest first); see above.

    Who wants one gets it, even if that is more than `rows`.
    """
    dealt = [int(want == 1) for want in wanted]
    rows = max(0, rows - sum(dealt))
    hungry = [i for i, want in enumerate(wanted) if want > 1]
    if not hungry:
        return dealt

    def give(i: int, most: int) -> None:
        nonlocal rows
        more = min(wanted[i] - dealt[i], most)
        dealt[i] += more
        rows -= more

    eldest, *others = hungry
    give(eldest, -(-rows // 2))
    others.sort(key=lambda i: wanted[i])
    for served, i in enumerate(others):
        give(i, -(-rows // (len(others) - served)))
    give(eldest, rows)
    return dealt


class Scheduler:
    """`waiting` and `running`, both eldest first. `prompt_rows` says how many rows prompts may have
    together beside so many that generate; without it, all that there are."""

    def __init__(
        self,
        pages: PagePool,
        images: ImageStore[Any],
        *,
        max_batch_tokens: int,
        max_sequences: int,
        prompt_rows: Callable[[int], int] | None = None,
    ) -> None:
        self.pages = pages
        self.images = images
        self.max_batch_tokens = max_batch_tokens
        self._prompt_rows = prompt_rows
        self.max_running = min(max_sequences, max_batch_tokens)
        self.waiting: list[Sequence] = []
        self.running: list[Sequence] = []
        self._image_turns = itertools.count()
        self.preemptions = 0
        self.cached_tokens = 0  # of all prompts so far, found and not computed again

    @property
    def is_idle(self) -> bool:
        return not self.running and not self.waiting

    def add(self, sequence: Sequence) -> None:
        bisect.insort(self.waiting, sequence, key=lambda other: other.number)

    def remove(self, sequence: Sequence) -> bool:
        """It is finished, failed or cancelled: whatever it held is free again. False if it was not
        here any more."""
        if sequence in self.running:
            self.running.remove(sequence)
            self._let_go(sequence)
            return True
        if sequence in self.waiting:
            self.waiting.remove(sequence)
            return True
        return False

    def admit(self) -> None:
        """Moves sequences from waiting to running while there is room."""
        for sequence in list(self.waiting):
            if len(self.running) >= self.max_running:
                return
            keys = sequence.reusable_keys()
            found = self.pages.match(keys)
            if self._being_computed(keys, len(found)):
                continue
            eldest = not self.running or sequence.number < self.running[0].number
            if not eldest and not self._fits(sequence, found):
                continue
            self.waiting.remove(sequence)
            self.pages.hold(found)
            sequence.pages.extend(found)
            sequence.published = len(found)
            sequence.image_turn = next(self._image_turns)
            sequence.computed = len(found) * self.pages.page_size
            if sequence.cached_tokens is None:
                sequence.cached_tokens = sequence.computed
                self.cached_tokens += sequence.computed
            bisect.insort(self.running, sequence, key=lambda other: other.number)

    def image_wanted(self) -> tuple[Sequence, EncodableImage] | None:
        """An image that someone's next rows need and that is not there; room for it has been made.
        To be answered by `image_ready`, or by removing the sequence."""
        for sequence in sorted(self.running, key=lambda other: other.image_turn):
            missing = self._hold_images(sequence, self.max_batch_tokens)
            if missing and self._make_room_for(missing.image, sequence):
                return sequence, missing.image
        return None

    def image_ready(self, sequence: Sequence, image: EncodableImage, encoded: Any) -> None:
        self.images.put(image, encoded)
        sequence.image_turn = next(self._image_turns)
        self._hold_images(sequence, self.max_batch_tokens)

    def plan(self) -> list[Work]:
        """The next step's work, at most `max_batch_tokens` rows; pages for it are allocated."""
        turns: list[Sequence] = []
        wanted: list[int] = []
        for sequence in self.running:
            missing = self._hold_images(sequence, self.max_batch_tokens)
            rows = missing.first - sequence.computed if missing else sequence.pending
            if rows > 0:
                turns.append(sequence)
                wanted.append(min(rows, sequence.pending))
        plan: list[Work] = []
        dealt = deal(wanted, self._rows_for(turns))
        for sequence, rows in zip(turns, dealt, strict=True):
            if sequence not in self.running:
                continue  # an elder has just taken its pages
            rows = self._allocate(sequence, rows)
            if rows:
                plan.append(Work(sequence, rows))
        return plan

    def _rows_for(self, turns: Ordered[Sequence]) -> int:
        generating = sum(sequence.generated > 0 and sequence.pending == 1 for sequence in turns)
        if self._prompt_rows is None or not generating:
            return self.max_batch_tokens
        return min(self.max_batch_tokens, generating + self._prompt_rows(generating))

    def with_drafts(self, plan: Ordered[Work], drafts: Ordered[Ordered[int]]) -> list[Work]:
        """The plan with `drafts` for each of its works, or as many of them as find room."""
        spare = self.spare_rows(plan)
        drafted: list[Work] = []
        for work, draft in zip(plan, drafts, strict=True):
            fitting = work.sequence.fitting(draft[:spare]) if work.samples else ()
            fitting = fitting[: self.room_for_drafts(work, len(fitting))]
            spare -= len(fitting)
            drafted.append(replace(work, drafts=fitting) if fitting else work)
        return drafted

    def room_for_drafts(self, work: Work, most: int) -> int:
        """How many drafts, up to `most`, find a place behind the work's rows in pages that nobody
        else holds."""
        return self._allocate(work.sequence, work.count + most, preempt=False) - work.count

    def spare_rows(self, plan: Ordered[Work]) -> int:
        return self.max_batch_tokens - sum(work.rows for work in plan)

    def commit(self, done: Ordered[tuple[Work, Ordered[Emitted]]]) -> list[Progress]:
        """What is computed, with the tokens that each work chose: those of its drafts that came
        true, and one more; none if it has not caught up."""
        progress: list[Progress] = []
        for work, choices in done:
            sequence, ended = work.sequence, None
            for choice in choices:
                ended = sequence.append(choice.token)
                progress.append(Progress(sequence, choice, ended))
                if ended:
                    break
            # The last token's row is always the next step's, so this holds for all: who has not
            # caught up, who has, and whose drafts came true in part.
            sequence.computed = min(sequence.computed + work.rows, len(sequence.tokens) - 1)
            self._publish(sequence)
            if ended:
                self.remove(sequence)
        return progress

    def _being_computed(self, keys: Ordered[bytes], page: int) -> bool:
        return page < len(keys) and any(
            other.published <= page < len(other.page_keys())
            and other.page_keys()[page] == keys[page]
            for other in self.running
        )

    def _fits(self, sequence: Sequence, found: Ordered[int]) -> bool:
        """Whether all its known tokens find pages, beside what the running still need for theirs
        and one page more for each: else it would soon lose again what it computed."""
        need = self.pages.pages_for(len(sequence.tokens))
        need -= sum(1 for page in found if self.pages.refs[page])
        owed = sum(
            max(0, self.pages.pages_for(len(other.tokens)) - len(other.pages))
            for other in self.running
        )
        return need + owed + len(self.running) + 1 <= self.pages.available

    def _hold_images(self, sequence: Sequence, rows: int) -> SeenImage | None:
        """Lets go of images that no row to come sees, holds those that the next `rows` rows see, in
        order of position; gives the first that is missing."""
        computed = sequence.computed
        for index, seen in enumerate(sequence.images):
            if index in sequence.held_images:
                if seen.end <= computed:
                    sequence.held_images.remove(index)
                    self.images.release(seen.image)
            elif seen.first < computed + rows and computed < seen.end:
                if not self.images.hold(seen.image):
                    return seen
                sequence.held_images.add(index)
        return None

    def _make_room_for(self, image: EncodableImage, sequence: Sequence) -> bool:
        kept = {
            other.images[index].image.digest: self.images.size_of(other.images[index].image)
            for other in self.running
            if other.number <= sequence.number
            for index in other.held_images
        }
        if sum(kept.values()) + self.images.size_of(image) > self.images.capacity:
            return False  # even if all the newer ones made way
        while not self.images.make_room(image):
            victim = self._newest_after(sequence, lambda other: bool(other.held_images))
            if victim is None:
                return False
            self._preempt(victim)
        return True

    def _allocate(self, sequence: Sequence, rows: int, *, preempt: bool = True) -> int:
        """Gives pages for the next `rows` rows, and says for how many there were enough."""
        size = self.pages.page_size
        while len(sequence.pages) * size < sequence.computed + rows:
            page = self.pages.allocate()
            if page is not None:
                sequence.pages.append(page)
                continue
            victim = self._newest_after(sequence, lambda other: bool(other.pages))
            if victim is None or not preempt:
                break
            self._preempt(victim)
        return min(rows, len(sequence.pages) * size - sequence.computed)

    def _newest_after(
        self, sequence: Sequence, useful: Callable[[Sequence], bool]
    ) -> Sequence | None:
        for other in reversed(self.running):
            if other.number <= sequence.number:
                return None
            if useful(other):
                return other
        return None

    def _preempt(self, sequence: Sequence) -> None:
        self.running.remove(sequence)
        self._let_go(sequence)
        self.add(sequence)
        self.preemptions += 1

    def _publish(self, sequence: Sequence) -> None:
        full = sequence.computed // self.pages.page_size
        for page in range(sequence.published, full):
            self.pages.publish(sequence.pages[page], sequence.page_keys()[page])
        sequence.published = full

    def _let_go(self, sequence: Sequence) -> None:
        self.pages.release(sequence.pages)
        for index in sequence.held_images:
            self.images.release(sequence.images[index].image)
        sequence.restart()
