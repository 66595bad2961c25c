"""Values that a model writes: JSON and Python literals, of bounded depth, never evaluated.

It knows no calls and no dialects. Whatever cannot be read raises ValueError, and nothing else.
"""

from __future__ import annotations

import ast
import json
import math
import sys
import warnings
from collections.abc import Iterable
from typing import Any, cast

MAX_DEPTH = 64
LONGEST_INTEGER = 4000  # digits; Python reads 4300


def parse_json(text: str) -> Any:
    """The value of JSON `text`, nested at most MAX_DEPTH deep. Strings may hold raw line breaks; a
    number beyond a float's range becomes the greatest, since by JSON's grammar it is one."""
    try:
        value = json.loads(
            text,
            strict=False,
            parse_constant=_no_constant,
            parse_float=_float,
            parse_int=_int,
        )
    except RecursionError:
        raise ValueError("nested too deeply") from None
    return _shallow(value)


def parse_python(text: str) -> Any:
    """The value of a Python literal in JSON's terms: str, int, float, bool, None, list, dict.

    Tuples become lists; keys must be strings; bytes, sets and complex numbers are refused.
    """
    if len(text) > 100_000 or _brackets(text) > MAX_DEPTH:  # the parser's stack is finite
        raise ValueError("nested too deeply, or too long")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # "\\d" in a string is the model's affair
            value = ast.literal_eval(text.strip())
    except (SyntaxError, TypeError, MemoryError, RecursionError) as error:
        raise ValueError(f"not a Python literal: {error}") from None
    return _as_json(_shallow(value))


def write_json(value: Any) -> str:
    """JSON text that is valid UTF-8: lone halves of surrogate pairs become U+FFFD."""
    text = json.dumps(value, ensure_ascii=False)
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")


def _float(text: str) -> float:
    most = sys.float_info.max
    return min(max(float(text), -most), most)


def _int(text: str) -> int | float:
    return int(text) if len(text) <= LONGEST_INTEGER else _float(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _brackets(text: str) -> int:
    """How deep brackets nest, those inside strings counted too: never less than the truth."""
    deepest = depth = 0
    for char in text:
        if char in "([{":
            depth += 1
            deepest = max(deepest, depth)
        elif char in ")]}":
            depth = max(0, depth - 1)
    return deepest


def _shallow(value: Any) -> Any:
    """`value`, if it nests at most MAX_DEPTH deep and its numbers are finite."""
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        if any(isinstance(item, float) and not math.isfinite(item) for item in level):
            raise ValueError("a number is too large")
        level = [inner for item in level for inner in _inside(item)]
        if not level:
            return value
    raise ValueError("nested too deeply")


def _inside(value: Any) -> Iterable[Any]:
    match value:
        case dict():
            return cast(dict[Any, Any], value).values()
        case list() | tuple():
            return cast(list[Any], value)
        case _:
            return ()


def _as_json(value: Any) -> Any:
    match value:
        case dict():
            items = cast(dict[Any, Any], value).items()
            if not all(isinstance(key, str) for key, _ in items):
                raise ValueError("a key is not a string")
            return {key: _as_json(item) for key, item in items}
        case list() | tuple():
            return [_as_json(item) for item in cast(list[Any], value)]
        case str() | int() | float() | None:
            return value
        case _:
            raise ValueError(f"{type(value).__name__} has no place in JSON")
