"""Random schemas, and answers sampled from random logits under a grammar: no model, no engine."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import jsonschema
import torch
from hypothesis import strategies as st

from puna.chat import TextDelta, ToolCall, ToolSpec
from puna.engine.grammar import Guarding
from puna.engine.sampler import masked
from puna.llama.reply import ReplyParser
from puna.llama.tokenizer import Tokenizer

Json = dict[str, Any]

NAMES = st.sampled_from(["a", "b", "city", "größe", "two words", 'q"uote', "$ref", "type", "name"])
PATTERNS = st.sampled_from(["^[a-c]{2,5}$", "x", "^\\d{4}-\\d\\d$", "^(ja|nein)$", "[äöü]+"])


def strings() -> st.SearchStrategy[Json]:
    lengths = st.tuples(st.integers(0, 4), st.integers(4, 12)).map(
        lambda ends: {"type": "string", "minLength": ends[0], "maxLength": ends[1]}
    )
    return st.one_of(
        st.just({"type": "string"}),
        lengths,
        PATTERNS.map(lambda pattern: {"type": "string", "pattern": pattern}),
        st.sampled_from(["date", "uuid", "ipv4", "time"]).map(
            lambda form: {"type": "string", "format": form}
        ),
        st.lists(st.text(max_size=5), min_size=1, max_size=4).map(lambda some: {"enum": some}),
    )


def numbers() -> st.SearchStrategy[Json]:
    return st.one_of(
        st.just({"type": "integer"}),
        st.just({"type": "number"}),
        st.tuples(st.integers(-300, 300), st.integers(0, 500)).map(
            lambda ends: {"type": "integer", "minimum": ends[0], "maximum": ends[0] + ends[1]}
        ),
        st.integers(-50, 50).map(lambda low: {"type": "number", "exclusiveMinimum": low}),
        st.sampled_from([2, 5, 7]).map(lambda step: {"type": "integer", "multipleOf": step}),
    )


def leaves() -> st.SearchStrategy[Json]:
    plain = [{"type": "boolean"}, {"type": "null"}, {}, {"const": {"x": [1, None]}}]
    mixed = {"enum": [1, "two", None, False, [3]]}
    return st.one_of(strings(), numbers(), st.sampled_from([*plain, mixed]))


def _array(items: Json, least: int, more: int | None) -> Json:
    array: Json = {"type": "array", "items": items, "minItems": least}
    return array if more is None else array | {"maxItems": least + more}


@st.composite
def objects(draw: st.DrawFn, inner: st.SearchStrategy[Json]) -> Json:
    properties = draw(st.dictionaries(NAMES, inner, max_size=4))
    required = [name for name in properties if draw(st.booleans())]
    others: Any = draw(st.one_of(st.booleans(), inner))
    return {
        "type": "object",
        "properties": properties,
        "required": required,
        "additionalProperties": others,
    }


def schemas() -> st.SearchStrategy[Json]:
    """Any; also a tree that holds itself."""
    tree = {
        "$defs": {
            "node": {
                "type": "object",
                "properties": {
                    "value": {"type": "integer"},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
                },
                "required": ["value", "children"],
                "additionalProperties": False,
            }
        },
        "$ref": "#/$defs/node",
    }
    nested = st.recursive(
        leaves(),
        lambda inner: st.one_of(
            objects(inner),
            st.builds(_array, inner, st.integers(0, 2), st.none() | st.integers(0, 3)),
            st.lists(inner, min_size=1, max_size=3).map(lambda some: {"anyOf": some}),
        ),
        max_leaves=8,
    )
    return st.one_of(nested, st.just(tree))


def argument_schemas() -> st.SearchStrategy[Json]:
    return objects(st.one_of(leaves(), objects(leaves())))


def check(value: Any, schema: Json) -> None:
    jsonschema.Draft202012Validator(schema).validate(value)


@dataclass
class Answer:
    ids: list[int]
    text: str
    calls: list[ToolCall]
    reason: str

    def call_fits(self, call: ToolCall, tools: Sequence[ToolSpec]) -> None:
        [tool] = [tool for tool in tools if tool.name == call.name]
        check(json.loads(call.arguments), dict(tool.parameters))


class Sampler:
    """Random logits, in which what ends things is likelier by `haste`, or few answers would end."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int) -> None:
        self.tokenizer = tokenizer
        self._noise = torch.randn(vocab_size, generator=torch.Generator().manual_seed(0)) * 2
        self._ends = torch.zeros(vocab_size)
        for text in ('"', "}", "]", ")", '"}', "}}", ")]", "</", "function", ">", '")'):
            ids = tokenizer.encode(text)
            if len(ids) == 1:
                self._ends[ids[0]] = 1.0
        self._ends[list(tokenizer.stop_ids)] = 1.0

    def answer(
        self,
        constraint: Guarding,
        tools: Sequence[ToolSpec] = (),
        *,
        seed: int,
        haste: float = 6.0,
        max_tokens: int = 60,
        parallel: bool = True,
        begin: Sequence[int] = (),
    ) -> Answer:
        """`begin`: what the model says first, as far as the masks let it."""
        chance = random.Random(seed)
        said: list[int] = []
        parser = ReplyParser(
            self.tokenizer,
            tools,
            parallel=parallel,
            guarded=lambda: constraint.armed_at is not None and constraint.armed_at <= len(said),
        )
        events: list[Any] = []
        while len(said) < max_tokens and not parser.ended:
            logits = self._noise.roll(chance.randrange(len(self._noise))) + self._ends * haste
            if len(said) < len(begin):
                logits[begin[len(said)]] = 100.0
            bits = constraint.mask()
            token = int((logits if bits is None else masked(logits, bits)).argmax())
            constraint.accept(token)
            said.append(token)
            events += parser.feed(token)
        last, reason = parser.finish("stop" if parser.ended else "length")
        events += last
        text = "".join(event.text for event in events if isinstance(event, TextDelta))
        calls = [event for event in events if isinstance(event, ToolCall)]
        return Answer(said, text, calls, reason)
