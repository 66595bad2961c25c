"""A call's arguments: read, mended where there is no doubt, refused with what is wrong."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from puna.errors import ToolFailed
from puna.tools.arguments import read_arguments

SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "text": {"type": "string"},
        "count": {"type": "integer"},
        "size": {"type": "number"},
        "really": {"type": "boolean"},
        "list": {"type": "array"},
        "object": {"type": "object"},
        "any": {},
        "nothing": {"type": ["string", "null"]},
    },
    "required": ["text"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("given_", "read"),
    [
        ({"text": "a"}, {"text": "a"}),
        ({"text": 5}, {"text": "5"}),
        ({"text": "a", "count": "5"}, {"text": "a", "count": 5}),
        ({"text": "a", "count": 5.0}, {"text": "a", "count": 5.0}),
        ({"text": "a", "size": "-1.5e3"}, {"text": "a", "size": -1500.0}),
        ({"text": "a", "really": "False"}, {"text": "a", "really": False}),
        ({"text": "a", "list": "[1]"}, {"text": "a", "list": [1]}),
        ({"text": "a", "object": '{"a": 1}'}, {"text": "a", "object": {"a": 1}}),
        ({"text": "a", "count": None}, {"text": "a"}),
        ({"text": "5", "any": "5"}, {"text": "5", "any": "5"}),
        ({"text": "a", "any": None, "nothing": None}, {"text": "a", "any": None, "nothing": None}),
    ],
)
def test_what_leaves_no_doubt_is_mended(given_: Any, read: Any) -> None:
    assert read_arguments(json.dumps(given_), SCHEMA) == read


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('{"text": "a", "count": "five"}', "count: 'five' is not of type 'integer'"),
        ('{"text": "a", "count": "5.5"}', "count: '5.5' is not of type 'integer'"),
        ('{"text": "a", "count": "true"}', "count: 'true' is not of type 'integer'"),
        ('{"text": null}', "text: None is not of type 'string'"),
        ('{"text": "a", "txet": 1}', "'txet' was unexpected"),
        ("{}", "'text' is a required property"),
        ("null", "no JSON object"),
        ('"text"', "no JSON object"),
        ("text", "are no JSON"),
        ("[" * 100_000, "are no JSON"),
    ],
)
def test_what_does_not_fit_is_told(text: str, told: str) -> None:
    with pytest.raises(ToolFailed) as caught:
        read_arguments(text, SCHEMA)
    assert told in caught.value.message
    assert len(caught.value.message) < 2000


def test_no_arguments_are_an_empty_object() -> None:
    assert read_arguments("", {}) == {}
    assert read_arguments("{}", {"type": "object"}) == {}


def test_odd_schemas_do_not_get_in_the_way() -> None:
    assert read_arguments('{"text": "a"}', {"properties": {"text": True}}) == {"text": "a"}
    with pytest.raises(ToolFailed, match="the tool's own schema cannot be used"):
        read_arguments('{"text": "a"}', {"properties": 3})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from([*SCHEMA["properties"], "other"]), JSON))
def test_what_is_taken_fits_the_schema(value: dict[str, Any]) -> None:
    try:
        read = read_arguments(json.dumps(value), SCHEMA)
    except ToolFailed:
        assert not Draft202012Validator(SCHEMA).is_valid(value)
    else:
        Draft202012Validator(SCHEMA).validate(read)
