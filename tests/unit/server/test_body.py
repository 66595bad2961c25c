from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.errors import InvalidValue
from puna.server.body import MAX_DEPTH, parse_json, read_body
from puna.server.errors import BodyTooLarge, UnsupportedEncoding

TEXT = st.text(max_size=8)
NUMBER = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBER | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


@settings(max_examples=30)
@given(st.dictionaries(TEXT, JSON, max_size=4), st.booleans())
def test_every_json_object_comes_through_as_it_is(value: dict[str, Any], ascii_: bool) -> None:
    assert parse_json(json.dumps(value, ensure_ascii=ascii_).encode()) == value


@given(st.binary())
def test_any_bytes_are_an_object_or_a_refusal(raw: bytes) -> None:
    with suppress(InvalidValue):
        assert isinstance(parse_json(raw), dict)


@pytest.mark.parametrize(
    ("raw", "told"),
    [
        (b"", "empty"),
        (b" \n", "empty"),
        (b"[1]", "a list"),
        (b'"x"', "a string"),
        (b"null", "null"),
        (b"true", "a boolean"),
        (b"7", "a number"),
        (b'{"a": }', "line 1 column 7"),
        (b'{"a": 1,}', "line 1 column"),
        (b'{"a": 1} {}', "Extra data"),
        (b"{'a': 1}", "column 2"),
        (b'{"a": NaN}', "NaN"),
        (b'{"a": -Infinity}', "-Infinity"),
        (b'{"a": 1e999}', "too large"),
        (b'{"a": ' + b"9" * 5000 + b"}", "holds an integer of thousands of digits."),
        (b'{"a": 1, "b": 2, "a": 3}', '"a" stands twice'),
        (b'{"x": [{"a": 1, "a": 1}]}', '"a" stands twice'),
        (b'{"a": "\xff"}', "byte 7 is 0xff"),
        (b'{"a": "caf\xe9"}', "0xe9"),
        ('{"a": "x"}'.encode("utf-16"), "not UTF-8"),
        (b'{"a": "\n"}', "Invalid control character"),
        (b'{"a": ["x", "b\\ud83d"]}', "a[1]: character 1 is half a surrogate pair"),
        (b'{"a": {"\\udc00": 1}}', "half a surrogate pair"),
    ],
)
def test_what_is_no_strict_json_is_refused_with_the_place(raw: bytes, told: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        parse_json(raw)
    assert told in caught.value.message


def test_whole_surrogate_pairs_and_a_byte_order_mark_are_fine() -> None:
    assert parse_json(b'\xef\xbb\xbf{"a": "\\ud83d\\ude00"}') == {"a": "😀"}


def test_depth_is_limited_far_below_the_interpreters_own_limit() -> None:
    def nested(depth: int) -> bytes:
        return b'{"a": ' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"

    parse_json(nested(MAX_DEPTH - 1))
    for depth in (MAX_DEPTH + 1, 5_000, 1_000_000):
        with pytest.raises(InvalidValue, match="nested more than 64"):
            parse_json(nested(depth))


def test_a_body_of_many_small_values_takes_no_time_to_speak_of() -> None:
    raw = json.dumps({"a": [[1, "😀"]] * 100_000}).encode()
    started = time.process_time()
    assert len(parse_json(raw)["a"]) == 100_000
    assert time.process_time() - started < 3  # other threads' time counts too


async def chunks(*parts: bytes) -> AsyncIterator[bytes]:
    for part in parts:
        yield part


async def test_a_body_may_be_as_long_as_the_limit_and_no_longer() -> None:
    assert await read_body(chunks(b"ab", b"", b"cd"), limit=4) == b"abcd"
    with pytest.raises(BodyTooLarge, match="more than 3 bytes; at most 3"):
        await read_body(chunks(b"ab", b"cd"), limit=3)


async def test_an_announced_length_is_enough_to_refuse() -> None:
    async def untouched() -> AsyncIterator[bytes]:
        raise AssertionError("the body was read")
        yield b""

    with pytest.raises(BodyTooLarge, match="1000 bytes; at most 3"):
        await read_body(untouched(), limit=3, headers={"content-length": "1000"})


async def test_a_lying_length_does_not_help() -> None:
    with pytest.raises(BodyTooLarge):
        await read_body(chunks(b"abcd"), limit=3, headers={"content-length": "2"})


async def test_compressed_bodies_are_refused_before_they_can_burst() -> None:
    with pytest.raises(UnsupportedEncoding, match="'gzip'"):
        await read_body(chunks(b"x"), limit=3, headers={"content-encoding": "gzip"})
