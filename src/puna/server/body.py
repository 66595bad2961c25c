"""From the bytes of a request to one JSON object, strictly.

It knows JSON and limits, and nothing of what the object means. RFC 8259 leaves duplicate keys, lone
surrogates, depth and size open; here each has one answer: refused, with the reason.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import AsyncIterable
from typing import Any, NoReturn, cast

from puna.errors import InvalidValue
from puna.server.errors import BodyTooLarge, UnsupportedEncoding

MAX_DEPTH = 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


async def read_body(
    chunks: AsyncIterable[bytes], *, limit: int, headers: dict[str, str] | None = None
) -> bytes:
    """All of the body, at most `limit` bytes, whether or not its length was announced."""
    headers = headers or {}
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding not in ("", "identity"):
        raise UnsupportedEncoding(
            f"Content-Encoding: expected an uncompressed body, got {encoding!r}."
        )
    announced = headers.get("content-length", "")
    if announced.isascii() and announced.isdigit() and int(announced) > limit:
        raise _too_large(announced, limit)
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > limit:
            raise _too_large(f"more than {limit}", limit)
    return bytes(body)


def parse_json(raw: bytes) -> dict[str, Any]:
    """`raw` as a JSON object; raises `InvalidValue`, with the place, on anything else."""
    if not raw.strip():
        raise InvalidValue("The body is empty; expected a JSON object.")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidValue(
            f"The body is not UTF-8: byte {error.start} is 0x{raw[error.start]:02x}."
        ) from None
    try:
        value: object = json.loads(
            text,
            parse_constant=_constant,
            parse_float=_finite,
            object_pairs_hook=_unique,
        )
    except json.JSONDecodeError as error:
        raise InvalidValue(
            f"The body is not valid JSON: {error.msg} at line {error.lineno} column {error.colno}."
        ) from None
    except RecursionError:
        raise _too_deep() from None
    except ValueError:  # an integer beyond the interpreter's digits
        raise InvalidValue("The body holds an integer of thousands of digits.") from None
    if not isinstance(value, dict):
        raise InvalidValue(f"The body must be a JSON object, not {_kind(value)}.")
    body = cast("dict[str, Any]", value)
    _check_depth(body)
    if _SURROGATE.search(text):  # only an escape can smuggle one in
        _check_text(body)
    return body


def _check_depth(root: dict[str, Any]) -> None:
    """Level by level: this walk must not itself run out of stack."""
    level: list[Any] = [root]
    for _ in range(MAX_DEPTH):
        below: list[Any] = []
        for container in level:
            items = cast("Any", container.values() if isinstance(container, dict) else container)
            below += [item for item in items if isinstance(item, dict | list)]
        level = below
        if not level:
            return
    raise _too_deep()


def _check_text(value: object, path: str = "") -> None:
    """Refuse text that has no UTF-8 form, and name its place."""
    if isinstance(value, dict):
        for key, item in cast("dict[str, object]", value).items():
            _encodable(key, path)
            _check_text(item, f"{path}.{key}" if path else key)
    elif isinstance(value, list):
        for index, item in enumerate(cast("list[object]", value)):
            # A path costs more than the check: only what can be at fault gets one.
            if isinstance(item, str | dict | list):
                _check_text(cast("object", item), f"{path}[{index}]")
    elif isinstance(value, str):
        _encodable(value, path)


def _encodable(text: str, path: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidValue(
            f"{path or 'The body'}: character {error.start} is half a surrogate pair "
            f"(\\u{ord(text[error.start]):04x}); expected whole characters.",
            param=path or None,
        ) from None


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) < len(pairs):
        seen: set[str] = set()
        for key, _ in pairs:
            if key in seen:
                shown = json.dumps(key[:80])
                raise InvalidValue(f"The key {shown} stands twice in one object.", param=key[:80])
            seen.add(key)
    return result


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise InvalidValue(f"The number {text[:40]} is too large.")
    return number


def _constant(name: str) -> NoReturn:
    raise InvalidValue(f"The body is not valid JSON: {name} is no JSON number.")


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "a boolean"
        case int() | float():
            return "a number"
        case str():
            return "a string"
        case _:
            return "a list"


def _too_deep() -> InvalidValue:
    return InvalidValue(f"The body is nested more than {MAX_DEPTH} levels deep.")


def _too_large(got: str, limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body has {got} bytes; at most {limit} are taken here.")
