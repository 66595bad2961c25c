"""Which tools to offer for a turn, when there are more than fit well.

A model reads every tool that it is offered, with every question: many tools cost time and context,
and make it choose worse. What was pinned stays, then what this conversation has called, then what
fits the words of the last messages best (BM25 over names, descriptions and parameters).

It knows no model: tokens are estimated, at four characters each.
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

from puna.chat import Message
from puna.tools.tool import Tool

CHARACTERS_PER_TOKEN = 4
K1, B = 1.2, 0.75  # BM25's usual constants
# How much a word of the last message of the user counts, of the one before, and so on.
FADING = 0.5
MESSAGES = 4

_WORD = re.compile(r"[^\W_]+")
_HUMP = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")  # between the words of camelCase
# fmt: off
_COMMON = frozenset((
    "a", "an", "and", "are", "at", "be", "by", "can", "do", "for", "from", "get", "give", "has",
    "have", "how", "i", "in", "is", "it", "me", "my", "of", "on", "or", "please", "tell", "that",
    "the", "this", "to", "use", "was", "what", "when", "where", "which", "who", "will", "with",
    "would", "you", "your",
))
# fmt: on


@dataclass(frozen=True, slots=True)
class Selection:
    """At most `most` tools are offered, of at most `tokens` (estimated), and of no more than a
    quarter of the model's context; those in `pinned` in any case."""

    most: int = 16
    tokens: int = 4000
    pinned: frozenset[str] = frozenset()

    def choose(
        self, tools: Sequence[Tool], messages: Sequence[Message], *, context: int
    ) -> tuple[list[Tool], list[Tool]]:
        """(offered, left out), both in the order of `tools`."""
        room = min(self.tokens, context // 4) * CHARACTERS_PER_TOKEN
        sizes = [_size(tool) for tool in tools]
        if len(tools) <= self.most and sum(sizes) <= room:
            return list(tools), []
        scores = relevance(tools, messages)
        called = {call.name for message in messages for call in message.tool_calls}

        def rank(number: int) -> tuple[bool, bool, float, int]:
            name = tools[number].name
            return name not in self.pinned, name not in called, -scores[number], number

        taken: set[int] = set()
        for number in sorted(range(len(tools)), key=rank):
            fits = len(taken) < self.most and sizes[number] <= room
            if fits or tools[number].name in self.pinned:
                taken.add(number)
                room -= sizes[number]
        offered = [tool for number, tool in enumerate(tools) if number in taken]
        return offered, [tool for number, tool in enumerate(tools) if number not in taken]


def relevance(tools: Sequence[Tool], messages: Sequence[Message]) -> list[float]:
    """How well each tool's words fit those of the conversation's end (BM25)."""
    documents = [Counter(_words(_text(tool))) for tool in tools]
    average = sum(document.total() for document in documents) / max(len(documents), 1)
    found_in = Counter(word for document in documents for word in document)
    weights: dict[str, float] = {}
    weight = 1.0
    asked = [message.text for message in messages if message.role == "user" and message.text]
    for text in reversed(asked[-MESSAGES:]):
        for word in set(_words(text)):
            weights.setdefault(word, weight)
        weight *= FADING
    return [_score(document, weights, found_in, len(documents), average) for document in documents]


def _score(
    document: Counter[str],
    weights: Mapping[str, float],
    found_in: Counter[str],
    documents: int,
    average: float,
) -> float:
    score = 0.0
    length = B * document.total() / max(average, 1) + 1 - B
    for word, weight in weights.items():
        count = document[word]
        if count:
            rare = math.log(1 + (documents - found_in[word] + 0.5) / (found_in[word] + 0.5))
            score += weight * rare * count * (K1 + 1) / (count + K1 * length)
    return score


def _text(tool: Tool) -> str:
    """The words that tell what a tool is for; its name twice, since names are short and apt."""
    told = [tool.name, tool.name, tool.description]
    properties = tool.parameters.get("properties")
    if isinstance(properties, dict):
        for name, schema in cast("dict[str, object]", properties).items():
            told.append(name)
            if isinstance(schema, dict):
                told.append(str(cast("dict[str, object]", schema).get("description", "")))
    return " ".join(told)


def _words(text: str) -> Iterable[str]:
    """Words in lower case, names taken apart (`getWeather`, `get_weather`), plurals cut."""
    for found in _WORD.findall(_HUMP.sub(" ", text)):
        word = found.lower()
        if word in _COMMON:
            continue
        yield word[:-1] if len(word) > 3 and word.endswith("s") and word[-2] != "s" else word


def _size(tool: Tool) -> int:
    """Characters of it in a prompt, about."""
    return len(tool.name) + len(tool.description) + len(json.dumps(dict(tool.parameters), indent=4))
