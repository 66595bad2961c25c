"""`Node`: a JSON object being read, which knows where it stands in the body.

It knows no field of the wire. What is read is known and what was never read is unknown, at any
depth, so no list of parameters can drift from the code that honours them. `null` is the same as
absent.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar, cast

from puna.errors import InvalidValue

T = TypeVar("T")

# A conversation with more messages fits no Llama's context: each has five tokens at least.
MAX_ITEMS = 2**15


class Node:
    def __init__(self, value: dict[str, Any], path: str = "") -> None:
        self._value = value
        self._read: set[str] = set()
        self._inner: list[Node] = []
        self.path = path

    def __contains__(self, key: str) -> bool:
        return self._value.get(key) is not None

    def at(self, key: str) -> str:
        """The full name of a field: `messages[0].content`."""
        return f"{self.path}.{key}" if self.path else key

    def raw(self, key: str) -> Any:
        """The value as it came; None where it is null or absent."""
        self._read.add(key)
        return self._value.get(key)

    def ignore(self, *keys: str) -> None:
        """Fields that are taken and change nothing."""
        self._read.update(keys)

    def ignore_rest(self) -> None:
        """Whatever else stands here or deeper is taken and changes nothing."""
        self.ignore(*self._value)
        self._inner.clear()

    def unread(self) -> list[str]:
        """Fields, by their full names, that hold something and that nobody asked for."""
        own = [self.at(key) for key in self._value if key in self and key not in self._read]
        return own + [name for node in self._inner for name in node.unread()]

    def keys(self) -> list[str]:
        """The fields that hold something."""
        return [key for key in self._value if key in self]

    def wrong(self, key: str, expected: str) -> NoReturn:
        """Refuse a field: what came, and what was expected."""
        path = self.at(key)
        value = self._value.get(key)
        got = f"got {shown(value)}" if key in self._value else "but it is missing"
        raise InvalidValue(f"{path}: expected {expected}, {got}.", param=path)

    def required(self, key: str, read: Callable[[str], T | None], expected: str) -> T:
        value = read(key)
        if value is None:
            self.wrong(key, expected)
        return value

    def string(self, key: str) -> str | None:
        value = self.raw(key)
        if value is not None and not isinstance(value, str):
            self.wrong(key, "a string")
        return value

    def boolean(self, key: str) -> bool | None:
        value = self.raw(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(key, "true or false")
        return value

    def number(self, key: str, low: float, high: float) -> float | None:
        value = self.raw(key)
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float):
            self.wrong(key, f"a number from {low:g} to {high:g}")
        if not low <= value <= high:
            self.wrong(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def integer(self, key: str, low: int, high: int | None = None) -> int | None:
        value = self.raw(key)
        if value is None:
            return None
        bounds = f"of at least {low}" if high is None else f"from {low} to {high}"
        # JSON has one kind of number: 8.0 is an integer.
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if isinstance(value, bool) or not isinstance(value, int):
            self.wrong(key, f"an integer {bounds}")
        if value < low or (high is not None and value > high):
            self.wrong(key, f"an integer {bounds}")
        return value

    def one_of(self, key: str, *options: str) -> str | None:
        value = self.raw(key)
        if value is not None and value not in options:
            self.wrong(key, " or ".join(f'"{option}"' for option in options))
        return value

    def object(self, key: str) -> Node | None:
        value = self.raw(key)
        if value is None:
            return None
        if not isinstance(value, dict):
            self.wrong(key, "an object")
        node = Node(cast("dict[str, Any]", value), self.at(key))
        self._inner.append(node)
        return node

    def mapping(self, key: str) -> dict[str, Any] | None:
        """An object whose fields are the caller's own affair: a JSON schema."""
        value = self.raw(key)
        if value is not None and not isinstance(value, dict):
            self.wrong(key, "an object")
        return cast("dict[str, Any] | None", value)

    def array(self, key: str) -> list[Any] | None:
        value = self.raw(key)
        if value is not None and not isinstance(value, list):
            self.wrong(key, "a list")
        return cast("list[Any] | None", value)

    def objects(self, key: str) -> list[Node] | None:
        items = self.array(key)
        if items is None:
            return None
        if len(items) > MAX_ITEMS:
            self.wrong(key, f"a list of at most {MAX_ITEMS}")
        nodes: list[Node] = []
        for index, item in enumerate(items):
            path = f"{self.at(key)}[{index}]"
            if not isinstance(item, dict):
                raise InvalidValue(f"{path}: expected an object, got {shown(item)}.", param=path)
            nodes.append(Node(cast("dict[str, Any]", item), path))
        self._inner += nodes
        return nodes


def shown(value: object) -> str:
    """A value as it stands in a message: short, and never a wall of base64."""
    match value:
        case dict():
            return "an object"
        case list():
            count = len(cast("list[object]", value))
            return "an empty list" if not count else f"a list of {count}"
        case _:
            text = json.dumps(value, ensure_ascii=False)
            return text if len(text) <= 60 else f"{text[:48]}… ({len(text)} characters)"
