"""Ways to spoil a file, and the promise that every one of them must keep."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from puna.errors import CheckpointError
from puna.llama.load import load_llama
from puna.llama.weights import open_checkpoint


def refusal(path: Path) -> str:
    """The message with which a checkpoint is refused: one line."""
    with pytest.raises(CheckpointError) as caught:
        open_checkpoint(path)
    message = str(caught.value)
    assert len(message.splitlines()) == 1
    return message


def cuts(data: bytes, places: int = 40) -> Iterator[bytes]:
    """The data truncated: at every length near the start and end, and evenly between."""
    lengths = {*range(0, 64, 7), *range(len(data) - 20, len(data), 3)}
    lengths |= {len(data) * i // places for i in range(places)}
    for length in sorted(n for n in lengths if 0 <= n < len(data)):
        yield data[:length]


def flips(data: bytes, count: int, seed: int, *, head: int, tail: int = 0) -> Iterator[bytes]:
    """The data with a few bytes of its first `head` or last `tail` ones overwritten."""
    rng = random.Random(seed)
    places = [*range(min(head, len(data))), *range(max(0, len(data) - tail), len(data))]
    for _ in range(count):
        spoiled = bytearray(data)
        for place in rng.sample(places, rng.choice((1, 1, 2, 6))):
            spoiled[place] = rng.choice((0, 0xFF, spoiled[place] ^ 1 << rng.randrange(8)))
        yield bytes(spoiled)


def opens_or_refuses(path: Path) -> bool:
    """Open and load all of it: True when it works, False when refused in one line, else fail."""
    refused: CheckpointError | None = None
    try:
        checkpoint = open_checkpoint(path)
        load_llama(checkpoint)
        checkpoint.tokenizer()
    except CheckpointError as error:
        refused = error
    if refused is None:
        return True
    assert len(str(refused).splitlines()) == 1, "more than one line"
    assert str(path.parent) in str(refused), "the message names no file"
    return False
