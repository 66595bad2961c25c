"""What is asked of the engine, and what has become of it so far.

It knows token ids, of images their place and digest, of a grammar what it allows next. It knows no
text, and no memory but the numbers of the pages that a sequence holds.
"""

from __future__ import annotations

import hashlib
import itertools
import secrets
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from collections.abc import Sequence as Ordered
from dataclasses import dataclass, field
from typing import Literal, Protocol, TypeAlias

from torch import Tensor

from puna.errors import PunaError
from puna.llama.batch import image_ranges


class EncodableImage(Protocol):
    """An image, ready for the encoder. Equal digests mean equal images."""

    @property
    def digest(self) -> bytes: ...
    @property
    def num_tiles(self) -> int: ...


@dataclass(frozen=True, slots=True)
class Prompt:
    """`token_ids`, and `images`: (position of its image token, image), in order of position."""

    token_ids: tuple[int, ...]
    images: tuple[tuple[int, EncodableImage], ...] = ()


@dataclass(frozen=True, slots=True)
class SamplingParams:
    """How to choose tokens; every default is decided by now.

    `temperature` 0 is greedy. `stop_ids` end the answer (and are part of it). `max_tokens` counts
    new tokens. `seed`: the same seed, prompt and parameters give the same ids, whoever else runs;
    without one the engine draws one. `top_logprobs` are given with every token if `logprobs`.
    """

    max_tokens: int
    stop_ids: frozenset[int] = frozenset()
    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int | None = None
    seed: int | None = None
    frequency_penalty: float = 0.0
    presence_penalty: float = 0.0
    logit_bias: Mapping[int, float] = field(default_factory=dict[int, float])
    logprobs: bool = False
    top_logprobs: int = 0


class Constraint(Protocol):
    """What a grammar allows of a sequence's next token. The sampler asks for a mask before each
    choice and tells it each token that was chosen; only one thread at a time uses it."""

    def mask(self) -> Tensor | None:
        """Bits [ceil(vocab / 32)] int32 on the CPU, lowest first, set where a token is allowed;
        None where all are. At least one is. Valid until the next `accept`; kept until then, so
        that who asks early (while the model computes) spares who asks later."""
        ...

    def accept(self, token: int) -> None:
        """`token`, which the mask allowed, was chosen."""
        ...

    def forced(self) -> Ordered[int]:
        """Tokens that must come next, whatever the logits; often none. Changes nothing."""
        ...


@dataclass(frozen=True, slots=True)
class Emitted:
    """A new token, and if asked for its natural log probability and the likeliest tokens'."""

    token: int
    logprob: float | None = None
    top: tuple[tuple[int, float], ...] = ()


@dataclass(frozen=True, slots=True)
class Ended:
    """The last thing a sequence says: a stop id came, or the limit."""

    reason: Literal["stop", "length"]


Outcome: TypeAlias = Emitted | Ended | PunaError
Outbox: TypeAlias = Callable[[Outcome], None]


@dataclass(frozen=True, slots=True)
class SeenImage:
    """An image and the positions `first <= p < end` that see it."""

    image: EncodableImage
    first: int
    end: int


def seen_images(prompt: Prompt) -> tuple[SeenImage, ...]:
    ranges = image_ranges([position for position, _ in prompt.images])
    return tuple(
        SeenImage(image, first, end)
        for (_, image), (first, end) in zip(prompt.images, ranges, strict=True)
    )


class Sequence:
    """One request on its way. `computed` of its `tokens` have their keys and values in `pages`;
    every step lets computed tokens catch up with tokens, and when they have, one more is sampled.
    """

    def __init__(
        self,
        number: int,
        prompt: Prompt,
        sampling: SamplingParams,
        outbox: Outbox,
        page_size: int,
        constraint: Constraint | None = None,
    ) -> None:
        self.number = number  # order of arrival: the smaller, the elder
        self.sampling = sampling
        self.constraint = constraint
        self.seed = secrets.randbits(64) if sampling.seed is None else sampling.seed
        self.outbox = outbox
        self.prompt_length = len(prompt.token_ids)
        self.tokens = list(prompt.token_ids)
        self.limit = self.prompt_length + sampling.max_tokens
        self.images = seen_images(prompt)
        self.counts: Counter[int] = Counter()  # of generated tokens

        self.computed = 0
        self.pages = array("q")
        self.published = 0  # of its full pages, how many have been offered for reuse
        self.held_images: set[int] = set()  # indices into `images`
        self.image_turn = 0
        self.cached_tokens: int | None = None  # of its prompt; unknown until it first runs

        self._page_size = page_size
        self._keys: list[bytes] = []
        self.page_keys()  # here, in the caller's thread, rather than in the engine's

    @property
    def pending(self) -> int:
        """Tokens that are known and not computed: one while generating, more at first."""
        return len(self.tokens) - self.computed

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt_length

    def append(self, token: int) -> Literal["stop", "length"] | None:
        """A sampled token; says why the sequence is complete, if it is."""
        self.tokens.append(token)
        self.counts[token] += 1
        if token in self.sampling.stop_ids:
            return "stop"
        return "length" if len(self.tokens) >= self.limit else None

    def fitting(self, draft: Ordered[int]) -> tuple[int, ...]:
        """The beginning of `draft` after which there is still a token to choose: it ends before a
        stop id, and one token short of the limit."""
        room = self.limit - len(self.tokens) - 1
        stop = self.sampling.stop_ids
        return tuple(itertools.takewhile(lambda token: token not in stop, draft[: max(0, room)]))

    def most_images_at_once(self, size_of: Callable[[EncodableImage], int]) -> int:
        """The most image memory that one row needs, in what `size_of` counts."""
        return max(
            (
                sum(
                    {
                        s.image.digest: size_of(s.image)
                        for s in self.images
                        if s.first <= row < s.end
                    }.values()
                )
                for row in {seen.first for seen in self.images}
            ),
            default=0,
        )

    def page_keys(self) -> Ordered[bytes]:
        """A key for each full page: a chained hash of all tokens up to its end, and the digests of
        all images. A cryptographic hash: a collision would show one user another's prompt."""
        size = self._page_size
        for page in range(len(self._keys), len(self.tokens) // size):
            start, end = page * size, (page + 1) * size
            hashed = hashlib.blake2b(self._keys[-1] if page else b"", digest_size=32)
            hashed.update(array("q", self.tokens[start:end]).tobytes())
            for seen in self.images:
                if start <= seen.first < end:
                    hashed.update(seen.first.to_bytes(8, "little") + seen.image.digest)
            self._keys.append(hashed.digest())
        return self._keys

    def reusable_keys(self) -> Ordered[bytes]:
        """Keys of the pages that another's work may fill: never the last token's, whose logits are
        needed."""
        return self.page_keys()[: (len(self.tokens) - 1) // self._page_size]

    def restart(self) -> None:
        """Forget what was computed, keep what was said: it will be computed again."""
        self.computed = 0
        self.published = 0
        self.pages = array("q")
        self.held_images.clear()
