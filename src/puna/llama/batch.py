"""One step's work, as the model sees it: rows of several sequences, end to end.

There is no prefill and no decode here: a span of one row and a span of five hundred are the same
thing. But rows are of two kinds (`puna.kernels` says what that changes): tokens of a prompt, and
tokens that were generated, with the drafts behind them, which are exact. Which kind a row is
depends on its place in its sequence alone, so neither company nor chunks nor a preemption change a
text. It knows no requests, no sampling and no pages' owners.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias

from torch import Tensor

from puna.kernels import Source

EncodedImage: TypeAlias = tuple[Source, ...]


@dataclass(frozen=True, slots=True)
class ImageView:
    """An image as a span of rows sees it.

    `sources`: its keys and values, one for each cross-attention layer, computed once an image by
    `Llama.encode_image` (unused tiles left out, keys after their norm). Positions
    `first <= p < end` of the sequence see it.
    """

    sources: EncodedImage
    first: int
    end: int


@dataclass(frozen=True, slots=True)
class Span:
    """The rows `start <= r < start + length` of the batch: consecutive tokens of one sequence, and
    all of one kind.

    `context` tokens of it are in the cache already; this step's rows stand at positions
    `context .. context + length - 1`. `pages` [>= ceil((context + length) / page_size)] int64 maps
    the sequence's page numbers to those of the cache. `images` are in order of position.
    """

    start: int
    length: int
    context: int
    pages: Tensor
    images: tuple[ImageView, ...] = ()


@dataclass(frozen=True, slots=True)
class Batch:
    """`token_ids` [rows] int64, `positions` [rows] int64; `logit_rows` [k] int64: the rows whose
    logits are wanted, in the order in which they come back. The first `exact` rows are; a sequence
    whose rows are of both kinds has two spans."""

    token_ids: Tensor
    positions: Tensor
    spans: tuple[Span, ...]
    logit_rows: Tensor
    exact: int


def image_ranges(firsts: Sequence[int]) -> list[tuple[int, int]]:
    """`(first, end)` for each image token's position, in order: who sees it, as `ImageView` says.

    An image is seen from its token until the next image's; adjacent images share the later end; the
    last one is seen for ever, so tokens generated later inherit the prompt's last row.
    """
    ranges: list[tuple[int, int]] = []
    following, end = sys.maxsize, sys.maxsize
    for first in reversed(firsts):
        end = end if first + 1 == following else following
        ranges.append((first, end))
        following = first
    return ranges[::-1]
