"""Grammars that mask what a sequence may say next: llguidance behind `Constraint`.

It knows tokens and bytes, and neither requests nor what a grammar means: the source comes from
`puna.llama.grammars`. Compiling takes from a millisecond to some hundreds, in the caller's thread,
never in the engine's; masks take some tens of microseconds, and give up the GIL meanwhile. Both
have limits of llguidance's own: who goes beyond them fails, alone.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Sequence as Ordered
from typing import Any, Protocol, cast

import llguidance
import torch
from torch import Tensor

from puna.engine.sequence import Constraint
from puna.errors import EngineFailed, InvalidValue
from puna.llama.grammars import ANYWHERE, BLANK, COMMITTED, SURE, Grammar
from puna.llama.schemas import Schema
from puna.llama.tokenizer import Tokenizer

# A state of the lexer takes up to 2 kB. Fuel is work: a mask takes 10 ms at worst.
MAX_LEXER_STATES = 50_000
STEP_FUEL = 150_000


class Guarding(Constraint, Protocol):
    """A constraint that may set in late."""

    @property
    def armed_at(self) -> int | None:
        """From its how manieth token on the answer is constrained; None: not yet."""
        ...


class Grammars:
    """Compiles grammars for one model: `vocab_size` as wide as its logits, answers ended by
    `stop_ids`. Any number of threads may use it."""

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Ordered[int]) -> None:
        self._tokenizer = tokenizer
        self._vocab_size = vocab_size
        self._stop_ids = [token for token in stop_ids if token < vocab_size]
        self._lock = threading.Lock()
        self._built: Any = None

    def compile(self, grammar: Grammar) -> Strict:
        """A constraint for one sequence. Raises `InvalidValue`, which names the parameter and says
        why: what is not supported, what contradicts itself, what is too large."""
        matcher = self._matcher(_source(grammar))
        if matcher.is_error():
            raise self._refusal(grammar, matcher.get_error())
        param = next((schema.param for schema in grammar.schemas.values()), "tools")
        constraint = Strict(matcher, self._vocab_size, param)
        constraint.mask()  # the first is the slowest, and may find already that it is too much
        return constraint

    def lazy(self, calls: Grammar, python_tag: int | None) -> Lazy:
        return Lazy(self.compile(calls), self._table(), self._tokenizer, python_tag)

    def either(self, calls: Grammar, answer: Grammar) -> Either:
        return Either(self.compile(calls), self.compile(answer), self._tokenizer)

    def _refusal(self, grammar: Grammar, why: str) -> InvalidValue:
        """The schema at fault is the first that fails alone; else it is all of them together."""
        for schema in grammar.schemas.values():
            alone = self._matcher(_source(Grammar("start: @it", {"it": schema})))
            if alone.is_error():
                return _refusal(schema, alone.get_error())
        return _refusal(next(iter(grammar.schemas.values())), why)

    def _matcher(self, source: str) -> Any:
        limits = llguidance.LLParserLimits(
            max_lexer_states=MAX_LEXER_STATES, step_lexer_fuel=STEP_FUEL, verbose_errors=False
        )
        return llguidance.LLMatcher(self._table(), source, log_level=0, limits=limits)

    def _table(self) -> Any:
        """The vocabulary as a trie: most of a second for 128,256 tokens, once a model."""
        with self._lock:
            if self._built is None:
                words = _Words(self._tokenizer, self._vocab_size, self._stop_ids)
                self._built = llguidance.LLTokenizer(
                    cast(Any, words), eos_token=list(self._stop_ids)
                )
            return self._built


class Strict:
    """Constrains from the first token on. See `Constraint`."""

    armed_at = 0

    def __init__(self, matcher: Any, vocab_size: int, param: str) -> None:
        self._matcher = matcher
        self._param = param
        self._bits = torch.zeros(-(-vocab_size // 32), dtype=torch.int32)
        self._known = False

    def mask(self) -> Tensor:
        if not self._known:
            bits = self._bits
            self._matcher.unsafe_compute_mask_ptr(bits.data_ptr(), bits.numel() * 4)
            if self._matcher.is_error():
                raise self._too_complex()
            self._known = True
        return self._bits

    def accept(self, token: int) -> None:
        self._known = False
        if not self._matcher.consume_token(token):
            raise self._too_complex()  # the mask allowed it

    def forced(self) -> Ordered[int]:
        return self._matcher.compute_ff_tokens()

    def takes(self, tokens: Ordered[int]) -> bool:
        """Accepts `tokens`, unless it cannot take them all: then it waits for `restart`."""
        self._known = False
        return self._matcher.try_consume_tokens(tokens) == len(tokens)

    def could_take(self, token: int) -> bool:
        return self._matcher.validate_tokens([token]) == 1

    def restart(self) -> None:
        self._known = False
        self._matcher.reset()

    def _too_complex(self) -> InvalidValue:
        return InvalidValue(
            f"{self._param}: the schema became too complex to follow: "
            f"{_in_one_line(self._matcher.get_error())}: simplify it",
            param=self._param,
        )


class Lazy:
    """Constrains nothing until a call begins, and then the rest: after the python tag, at a tag of
    a function, and where the text from the start of the message is sure to be a call.

    The matcher goes along from the start of the message, and says by itself when that cannot be a
    call; what was written freely may be cut otherwise than a call is, so it is told in bytes.
    """

    def __init__(
        self, calls: Strict, table: Any, tokenizer: Tokenizer, python_tag: int | None
    ) -> None:
        self._calls = calls
        self._table = table
        self._tokenizer = tokenizer
        self._python_tag = python_tag
        self._said = 0
        self._heard: bytes | None = b""  # of what may be a call at the start; None: it is none
        self._tail = b""  # of prose
        self.armed_at: int | None = None

    def mask(self) -> Tensor | None:
        return None if self.armed_at is None else self._calls.mask()

    def forced(self) -> Ordered[int]:
        return () if self.armed_at is None else self._calls.forced()

    def accept(self, token: int) -> None:
        self._said += 1
        if self.armed_at is not None:
            self._calls.accept(token)
        elif token == self._python_tag:
            self._calls.restart()
            self._calls.accept(token)
            self.armed_at = self._said
        elif not self._tokenizer.is_special(token):
            data = self._tokenizer.token_bytes(token)
            if self._heard is None:
                self._read_prose(data)
            else:
                self._read_start(data)

    def _read_start(self, data: bytes) -> None:
        begun = self._heard or b""
        heard = _without_blanks(begun + data)
        if not heard:
            return
        self._heard = heard
        if not self._takes(heard[len(begun) :]):
            self._calls.restart()
            self._heard = None
            self._read_prose(heard)
        elif SURE.search(heard):
            self.armed_at = self._said

    def _read_prose(self, data: bytes) -> None:
        text = self._tail + data
        start = text.find(ANYWHERE)
        self._tail = text[1 - len(ANYWHERE) :]
        while start >= 0:
            if self._takes(text[start:]):
                self.armed_at = self._said
                return
            self._calls.restart()
            start = text.find(ANYWHERE, start + 1)

    def _takes(self, data: bytes) -> bool:
        return self._calls.takes(self._table.tokenize_bytes(data))


class Either:
    """Calls, or an answer by a schema: both are followed until one is left."""

    armed_at = 0

    def __init__(self, calls: Strict, answer: Strict, tokenizer: Tokenizer) -> None:
        self._calls = calls
        self._left = [calls, answer]
        self._tokenizer = tokenizer
        self._heard = b""

    def mask(self) -> Tensor:
        masks = [each.mask() for each in self._left]
        return masks[0] if len(masks) == 1 else masks[0] | masks[1]

    def accept(self, token: int) -> None:
        if len(self._left) > 1:
            self._left = [each for each in self._left if each.could_take(token)]
            self._heard += self._tokenizer.token_bytes(token)
            if self._calls in self._left and COMMITTED.search(self._heard):
                self._left = [self._calls]
        if not self._left:
            raise EngineFailed("the answer left its grammar")
        for each in self._left:
            each.accept(token)

    def forced(self) -> Ordered[int]:
        return self._left[0].forced() if len(self._left) == 1 else ()


class _Words:
    """The vocabulary as llguidance asks for it."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, tokenizer: Tokenizer, vocab_size: int, stop_ids: Ordered[int]) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = stop_ids[0]
        known = range(min(vocab_size, tokenizer.vocab_size))
        self.tokens = [tokenizer.token_bytes(token) for token in known]
        self.tokens += [b""] * (vocab_size - len(known))
        self.special_token_ids = [token for token in known if tokenizer.is_special(token)]

    def __call__(self, text: str | bytes) -> list[int]:
        if isinstance(text, bytes):
            text = text.decode("utf-8", "replace")
        return self._tokenizer.encode(text)


def _source(grammar: Grammar) -> str:
    schemas: list[dict[str, Any]] = [
        {"name": name, "json_schema": {"x-guidance": _options(schema), **schema.value}}
        for name, schema in grammar.schemas.items()
    ]
    return json.dumps({"grammars": [{"name": "start", "lark_grammar": grammar.lark}, *schemas]})


def _options(schema: Schema) -> dict[str, Any]:
    return {"whitespace_pattern": BLANK, "lenient": schema.lenient}


def _refusal(schema: Schema, why: str) -> InvalidValue:
    return InvalidValue(
        f"{schema.param}: no grammar can be made of this schema: {_in_one_line(why)}",
        param=schema.param,
    )


def _in_one_line(why: str) -> str:
    reason = re.sub(r"\s+", " ", why.replace("<non-verbose/>", "")).strip()
    return reason if len(reason) <= 300 else f"{reason[:299]}…"


def _without_blanks(data: bytes) -> bytes:
    """Without the blanks at its start, as the reader of replies sees them."""
    text = data.decode("utf-8", "ignore")
    return data[len(text[: len(text) - len(text.lstrip())].encode()) :]
