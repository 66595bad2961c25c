"""Formulas as people type them (`2x^2 - 3 sin x`, `5!`, `|x| / √2`) as SymPy expressions.

A parser of its own, for SymPy's evaluates its text as Python. Here a formula is made of numbers,
single letters, the names in the tables below, and operators; whatever else stands in it is
refused. It knows no question: what is to be done with a formula is told elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any

sympy: Any = import_module("sympy")

MAX_LENGTH = 1000
MAX_DEPTH = 60
MAX_BITS = 2_000_000
MAX_FACTORIAL = 20_000


class NotUnderstood(Exception):
    """Why a question cannot be answered here, in a few words."""


CONSTANTS: dict[str, Any] = {
    "pi": sympy.pi,
    "π": sympy.pi,
    "e": sympy.E,
    "i": sympy.I,
    "infinity": sympy.oo,
    "inf": sympy.oo,
    "oo": sympy.oo,
    "∞": sympy.oo,
    "phi": sympy.GoldenRatio,
    "φ": sympy.GoldenRatio,
}
_GREEK = "alpha beta gamma delta epsilon theta lambda mu rho sigma tau omega"
GREEK = frozenset(_GREEK.split())
LETTERS = frozenset("αβγδεθλμρστω")


def _log(*values: Any) -> Any:
    """log(x) is natural, as it is with Wolfram|Alpha; log(b, x) is to the base b."""
    return sympy.log(*reversed(values))


def _round(value: Any) -> Any:
    return sympy.floor(value + sympy.Rational(1, 2))


def _factorial(value: Any) -> Any:
    if value.is_number and abs(sympy.N(value)) > MAX_FACTORIAL:
        raise NotUnderstood(f"factorials go to {MAX_FACTORIAL} here")
    return sympy.factorial(value)


def _power(base: Any, exponent: Any) -> Any:
    if base.is_Rational and exponent.is_Rational:
        bits = max(int(base.p).bit_length(), int(base.q).bit_length())
        if bits > 1 and abs(exponent) * bits > MAX_BITS:
            raise NotUnderstood("the number is too large to be written")
    return base**exponent


_SAME_NAME = (
    "sin cos tan cot sec csc asin acos atan acot asinh acosh atanh sinh cosh tanh exp ln sqrt cbrt "
    "floor gamma sign gcd lcm re im conjugate erf zeta binomial"
)
FUNCTIONS: dict[str, Callable[..., Any]] = {
    **{name: getattr(sympy, name) for name in _SAME_NAME.split()},
    "arcsin": sympy.asin, "arccos": sympy.acos, "arctan": sympy.atan,
    "log": _log,
    "log10": partial(_log, sympy.Integer(10)),
    "log2": partial(_log, sympy.Integer(2)),
    "abs": sympy.Abs, "ceil": sympy.ceiling, "ceiling": sympy.ceiling,
    "min": sympy.Min, "max": sympy.Max,
    "factorial": _factorial, "mod": sympy.Mod,
    "round": _round,
}  # fmt: skip
INVERSES = {"sin": sympy.asin, "cos": sympy.acos, "tan": sympy.atan}
MANY_VALUES = {"gcd", "lcm", "binomial", "min", "max", "mod", "log"}

_TOKEN = re.compile(
    r"\s*(?:(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)"
    r"|(?P<name>log10|log2|[A-Za-z]+(?:_?\d+)?|[α-ωπφ∞])"
    r"|(?P<sign>\*\*|[-+*/^!%(),|\[\]{}√°²³]))"
)
_PLAIN = str.maketrans({"−": "-", "–": "-", "·": "*", "×": "*", "÷": "/", "⋅": "*", "’": "'"})
_OPEN = {"(": ")", "[": "]", "{": "}"}


def plain_signs(text: str) -> str:
    """Text with the signs of a keyboard for those of typography."""
    return text.translate(_PLAIN)


def expression(text: str) -> Any:
    """The SymPy expression that `text` writes. Raises `NotUnderstood`."""
    text = plain_signs(text).strip().rstrip(".?")
    if not text:
        raise NotUnderstood("a formula is missing")
    if len(text) > MAX_LENGTH:
        raise NotUnderstood(f"the formula has more than {MAX_LENGTH} characters")
    if not any(opening in text for opening in _OPEN):
        text = re.sub(r"(?<![\d.])\d{1,3}(?:,\d{3})+(?!\d)", _without_commas, text)
    parser = _Parser(_tokens(text))
    found = parser.sum()
    parser.end()
    return found


def symbols_of(*found: Any) -> list[Any]:
    """The unknowns, x first."""
    free = set[Any]().union(*(one.free_symbols for one in found))
    return sorted(free, key=lambda one: ("xyztn".find(str(one)) % 99, str(one)))


def _without_commas(match: re.Match[str]) -> str:
    return match.group().replace(",", "")


def _tokens(text: str) -> list[tuple[str, str]]:
    tokens: list[tuple[str, str]] = []
    at = 0
    while at < len(text.rstrip()):
        match = _TOKEN.match(text, at)
        if match is None:
            raise NotUnderstood(f"{text[at:].strip()[:20]!r} is no part of a formula")
        kind = match.lastgroup or ""
        tokens.append((kind, match[kind]))
        at = match.end()
    return tokens


class _Parser:
    """Sums of products of powers. Each method eats what it understands from the front."""

    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0

    def end(self) -> None:
        if self._at < len(self._tokens):
            raise NotUnderstood(f"{self._tokens[self._at][1]!r} stands where nothing may follow")

    def sum(self) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotUnderstood("the formula is nested too deeply")
        value = self._product()
        while (sign := self._take("+", "-")) is not None:
            other = self._product()
            value = value + other if sign == "+" else value - other
        self._depth -= 1
        return value

    def _product(self) -> Any:
        value = self._unary()
        while True:
            if self._take("*") is not None:
                value = value * self._unary()
            elif self._take("/") is not None:
                divisor = self._unary()
                if divisor.is_zero:
                    raise NotUnderstood("it divides by zero")
                value = value / divisor
            elif self._take("%") is not None or self._take_name("mod"):
                value = sympy.Mod(value, self._unary())
            elif self._starts_operand():
                value = value * self._power()
            else:
                return value

    def _unary(self) -> Any:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise NotUnderstood("the formula is nested too deeply")
        sign = self._take("+", "-")
        value = self._power() if sign is None else self._unary()
        self._depth -= 1
        return -value if sign == "-" else value

    def _power(self) -> Any:
        return self._raised(self._postfix())

    def _raised(self, value: Any) -> Any:
        if self._take("^", "**") is None:
            return value
        return _power(value, self._unary())

    def _postfix(self) -> Any:
        value = self._atom()
        while True:
            if self._take("!") is not None:
                value = _factorial(value)
            elif self._peek() == "%" and not self._starts_operand(1):
                self._take("%")
                value = value / 100
            elif self._take("°") is not None:
                value = value * sympy.pi / 180
            elif (sign := self._take("²", "³")) is not None:
                value = _power(value, sympy.Integer(2 if sign == "²" else 3))
            else:
                return value

    def _atom(self) -> Any:
        kind, text = self._next()
        if kind == "number":
            return _number(text)
        if kind == "name":
            return self._named(text)
        if text in _OPEN:
            value = self.sum()
            self._expect(_OPEN[text])
            return value
        if text == "|":
            value = self.sum()
            self._expect("|")
            return sympy.Abs(value)
        if text == "√":
            return sympy.sqrt(self._power())
        raise NotUnderstood(f"{text!r} stands where a number or a name is expected")

    def _named(self, name: str) -> Any:
        lower = name.lower()
        if lower in FUNCTIONS and (lower != "gamma" or self._peek() == "("):
            return self._call(lower)
        if lower in CONSTANTS and (len(name) > 1 or name in CONSTANTS or name == "I"):
            return CONSTANTS[lower]
        if name in LETTERS or lower in GREEK or re.fullmatch(r"[A-Za-z](_?\d+)?", name):
            return sympy.Symbol(name)
        if set(name) <= set("xyz") and len(name) <= 3:
            return sympy.Mul(*(sympy.Symbol(letter) for letter in name))
        raise NotUnderstood(f"{name!r} is no name that is known here")

    def _call(self, name: str) -> Any:
        function = FUNCTIONS[name]
        exponent = self._unary() if self._take("^", "**") is not None else None
        if exponent == -1 and name in INVERSES:
            function, exponent = INVERSES[name], None
        if self._peek() == "(":
            self._take("(")
            values = [self.sum()]
            while self._take(",") is not None:
                values.append(self.sum())
            self._expect(")")
        else:
            values = [self._argument()]
        if (len(values) > 1) != (name in MANY_VALUES) and not (name == "log" and len(values) == 1):
            raise NotUnderstood(f"{name} does not take {len(values)} values")
        try:
            value = function(*values)
        except (TypeError, ValueError):
            raise NotUnderstood(f"{name} has no value there") from None
        return value if exponent is None else _power(value, exponent)

    def _argument(self) -> Any:
        """What a function without brackets applies to: all of `sin 2x`, the x of `sin x cos x`."""
        value = self._unary()
        while self._starts_operand() and self._tokens[self._at][1].lower() not in FUNCTIONS:
            value = value * self._power()
        return value

    def _starts_operand(self, ahead: int = 0) -> bool:
        if self._at + ahead >= len(self._tokens):
            return False
        kind, text = self._tokens[self._at + ahead]
        return (kind != "sign" or text in _OPEN or text == "√") and text.lower() != "mod"

    def _peek(self) -> str | None:
        return self._tokens[self._at][1] if self._at < len(self._tokens) else None

    def _take(self, *signs: str) -> str | None:
        if self._at < len(self._tokens) and self._tokens[self._at] in {("sign", s) for s in signs}:
            self._at += 1
            return self._tokens[self._at - 1][1]
        return None

    def _take_name(self, name: str) -> bool:
        found = self._at < len(self._tokens) and self._tokens[self._at] == ("name", name)
        self._at += found
        return found

    def _next(self) -> tuple[str, str]:
        if self._at >= len(self._tokens):
            raise NotUnderstood("the formula ends too early")
        self._at += 1
        return self._tokens[self._at - 1]

    def _expect(self, sign: str) -> None:
        if self._take(sign) is None:
            raise NotUnderstood(f"{sign!r} is missing")


def _number(text: str) -> Any:
    """Exact: 0.1 is a tenth."""
    mantissa, _, exponent = text.lower().partition("e")
    if exponent and abs(int(exponent[:6])) > 5000:
        raise NotUnderstood(f"{text} is too large or too small")
    return sympy.Rational(mantissa) * sympy.Integer(10) ** int(exponent or 0)
