"""Schemas are copied, mended or refused; which ones go round in a circle is known."""

from __future__ import annotations

import time
from typing import Any

import pytest
from hypothesis import given

from puna.errors import InvalidValue
from puna.llama.schemas import MAX_MULTIPLE, Schema, check_schema, ends, is_plain_string
from tests.constrained import schemas

SELF = {"$ref": "#"}


def arguments(value: Any, *, lenient: bool = False) -> dict[str, Any]:
    return dict(check_schema(Schema(value, "p", lenient=lenient, tool="f")).value)


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        ({}, True),
        (SELF, False),
        ({"type": "object", "properties": {"a": SELF}, "required": ["a"]}, False),
        ({"type": "object", "properties": {"a": SELF}}, True),
        ({"type": "object", "additionalProperties": SELF, "required": ["a"]}, False),
        ({"type": ["object", "null"], "properties": {"a": SELF}, "required": ["a"]}, True),
        ({"type": "array", "items": SELF, "minItems": 1}, False),
        ({"type": "array", "items": SELF}, True),
        ({"type": "array", "prefixItems": [{}], "items": SELF, "minItems": 1}, True),
        ({"type": "array", "prefixItems": [{}], "items": SELF, "minItems": 2}, False),
        ({"anyOf": [SELF, {"type": "null"}]}, True),
        ({"anyOf": [SELF, {"allOf": [{}, SELF]}]}, False),
        ({"$ref": "#/$defs/a~1b", "$defs": {"a/b": {"type": "null"}}}, True),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": SELF}}, False),
        ({"$ref": "#/nowhere"}, True),
        ({"$ref": "https://example.org"}, True),
        ({"type": "object", "properties": {"$ref": {}, "type": {}, "anyOf": {}}}, True),
    ],
)
def test_it_is_known_whether_a_finite_value_can_fit(schema: Any, expected: bool) -> None:
    assert ends(schema) is expected


@given(schemas())
def test_no_schema_that_has_values_is_said_to_have_none(schema: Any) -> None:
    assert ends(schema)


def test_long_chains_are_followed_in_little_time() -> None:
    links = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(5000)}
    start = time.process_time()
    assert ends({"$defs": links | {"d5000": {}}, "$ref": "#/$defs/d0"})
    assert not ends({"$defs": links | {"d5000": SELF}, "$ref": "#/$defs/d0"})
    assert time.process_time() - start < 2


def test_what_comes_is_not_changed_and_what_goes_out_is_nobody_elses() -> None:
    inner = {"type": "dict"}
    given_ = {"properties": {"a": inner}, "x-guidance": {"lenient": True}}
    value = arguments(given_, lenient=True)
    assert value == {"type": "object", "properties": {"a": {"type": "object"}}}
    assert given_ == {"properties": {"a": {"type": "dict"}}, "x-guidance": {"lenient": True}}


def test_a_strict_schema_is_not_mended() -> None:
    assert arguments({"properties": {"a": {"type": "dict"}}})["properties"] == {
        "a": {"type": "dict"}
    }


def test_a_property_may_bear_the_name_of_a_keyword() -> None:
    schema = {"properties": {"type": {"type": "str"}, "multipleOf": {"enum": ["dict"]}}}
    assert arguments(schema, lenient=True)["properties"] == {
        "type": {"type": "string"},
        "multipleOf": {"enum": ["dict"]},
    }


@pytest.mark.parametrize(
    ("schema", "told"),
    [
        ({"enum": [float("nan")]}, "cannot be written as JSON"),
        ({"enum": [object()]}, "cannot be written as JSON"),
        ({"enum": ["x" * 300_000]}, "bytes"),
        ({"enum": list(range(13_000))}, "values"),
        ({"properties": {str(i): {} for i in range(501)}}, "501 entries"),
        ({"type": "array"}, "arguments are an object"),
        ({"multipleOf": MAX_MULTIPLE + 1}, "multipleOf"),
        ({"allOf": [{"multipleOf": 97}, {"multipleOf": 89}, {"multipleOf": 83}]}, "multipleOf"),
        ({"multipleOf": 1e-7}, "multipleOf"),
        ({"properties": {"a": {"minimum": -(2**60)}}}, "minimum"),
        ({"minProperties": 2}, "minProperties"),
    ],
)
def test_what_would_take_too_long_or_go_wrong_is_refused(schema: Any, told: str) -> None:
    with pytest.raises(InvalidValue) as caught:
        arguments(schema)
    assert told in caught.value.message
    assert caught.value.param == "p"


def test_steps_that_have_a_small_common_multiple_are_taken() -> None:
    steps = [{"multipleOf": step} for step in (0.01, 0.25, 5, 100, -4, 0)]
    assert arguments({"properties": {str(i): step for i, step in enumerate(steps)}})


def test_nesting_without_end_is_refused_without_a_trace() -> None:
    schema: dict[str, Any] = {}
    for _ in range(100_000):
        schema = {"properties": {"a": schema}}
    with pytest.raises(InvalidValue, match="p: "):
        arguments(schema)


def test_only_a_plain_string_is_one() -> None:
    assert is_plain_string({"type": "string", "description": "What to look for"})
    for other in ({"type": "string", "enum": ["a"]}, {"type": "object"}, {}, True, None):
        assert not is_plain_string(other)
