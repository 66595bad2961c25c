"""Values out of a checkpoint's metadata, each with its type and bounds checked.

It knows no format: a `config.json`, a `params.json` and a GGUF header all are names and values.
Every error names the file, the key, what stands there and what was expected.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

from puna.errors import CheckpointError

LARGEST_JSON = 64 * 2**20
"""Bytes. The largest index of a published Llama has 0.2 MB."""

LARGEST_SIZE = 2**24
"""Far above any width, and low enough that products of a few stay exact and cheap."""


def read_json(path: Path) -> Mapping[str, object]:
    """The object that a JSON file holds.

    Raises CheckpointError when it is missing, unreadable, truncated or something else.
    """
    try:
        with path.open("rb") as file:
            data = file.read(LARGEST_JSON + 1)
    except FileNotFoundError:
        raise CheckpointError(
            f"{path} is missing: expected next to the weights. Download the checkpoint again, whole"
        ) from None
    except OSError as error:
        raise CheckpointError(f"{path} cannot be read: {error.strerror or error}") from None
    if len(data) > LARGEST_JSON:
        raise CheckpointError(f"{path} is no plausible JSON file: over {LARGEST_JSON} bytes")
    try:
        value: object = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} is not JSON, or truncated ({one_line(error)}): download it again"
        ) from None
    if not isinstance(value, dict):
        raise CheckpointError(f"{path} holds no JSON object, but {_kind(value)}")
    return cast(dict[str, object], value)


def one_line(error: object) -> str:
    """The first line of a library's message, cut to a readable length."""
    line = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return line if len(line) <= 200 else line[:197] + "..."


def listed(names: Iterable[str], most: int = 4) -> str:
    """`a, b, c, d and 17 more`."""
    shown = [name if name.isprintable() and len(name) < 200 else show(name) for name in names]
    rest = f" and {len(shown) - most} more" if len(shown) > most else ""
    return ", ".join(shown[:most]) + rest


def show(value: object) -> str:
    """A value of unknown origin as one short line."""
    return one_line(repr(value))


class Fields:
    """The names and values of one metadata object; `where` opens every message."""

    def __init__(self, values: Mapping[str, object], where: str | Path) -> None:
        self._values = values
        self.where = str(where)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def error(self, name: str, expected: str) -> CheckpointError:
        if name not in self:
            return CheckpointError(f"{self.where}: {name} is missing: expected {expected}")
        found = show(self._values[name])
        return CheckpointError(f"{self.where}: {name} is {found}, expected {expected}")

    def raw(self, name: str) -> object:
        """The value as it stands, None when absent."""
        return self._values.get(name)

    def integer(
        self, name: str, default: int | None = None, *, least: int = 1, most: int = LARGEST_SIZE
    ) -> int:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            raise self.error(name, f"a whole number from {least} to {most}")
        return value

    def number(self, name: str, default: float | None = None, *, above: float = 0.0) -> float:
        value = self._value(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.error(name, f"a number above {above:g}")
        if not above < value < 1e30 or math.isnan(value):
            raise self.error(name, f"a number above {above:g}")
        return float(value)

    def boolean(self, name: str, default: bool) -> bool:
        value = self._value(name, default)
        if not isinstance(value, bool):
            raise self.error(name, "true or false")
        return value

    def text(self, name: str, default: str | None = None) -> str:
        value = self._value(name, default)
        if not isinstance(value, str):
            raise self.error(name, "a text")
        return value

    def integers(
        self, name: str, default: tuple[int, ...] | None = None, *, most: int = LARGEST_SIZE
    ) -> tuple[int, ...]:
        """A list of whole numbers >= 0; a single one counts as a list."""
        value = self._value(name, default)
        items = list(cast(list[object], value)) if isinstance(value, list | tuple) else [value]
        if not all(type(item) is int and 0 <= item <= most for item in items):
            raise self.error(name, f"whole numbers from 0 to {most}")
        return tuple(cast(list[int], items))

    def texts(self, name: str) -> list[str]:
        items = self.items(name, "a list of texts")
        if not all(isinstance(item, str) for item in items):
            raise self.error(name, "a list of texts")
        return cast(list[str], items)

    def items(self, name: str, expected: str) -> list[object]:
        """A list of anything."""
        value = self._value(name, None)
        if not isinstance(value, list):
            raise self.error(name, expected)
        return cast(list[object], value)

    def fields(self, name: str, expected: str = "an object") -> Fields:
        """The object under `name`."""
        value = self._value(name, None)
        if not isinstance(value, dict):
            raise self.error(name, expected)
        return Fields(cast(dict[str, object], value), f"{self.where}: {name}")

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def only(self, name: str, *allowed: object, reason: str = "") -> None:
        """Refuse a value that Puna does not honour; absent (or null) is as the first allowed."""
        if name in self and self._values[name] not in allowed:
            choices = " or ".join(json.dumps(value) for value in allowed)
            raise self.error(name, choices + (f" ({reason})" if reason else ""))

    def _value(self, name: str, default: object) -> object:
        value = self._values.get(name)
        if value is None:
            value = default
        if value is None:
            raise CheckpointError(
                f"{self.where}: {name} is missing: is this a Llama 3.1 or 3.2 checkpoint?"
            )
        return value


def _kind(value: object) -> str:
    return "a list" if isinstance(value, list) else show(value)
