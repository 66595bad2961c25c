"""JSON schemas as callers send them: within limits, in form, and such that a value can fit.

It knows no tools, no tokens and no grammar. What the grammar's compiler cannot do it names itself;
here is what it would do too slowly, wrongly or without end. Whatever is refused is `InvalidValue`
with the parameter's name.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from fractions import Fraction
from typing import Any, cast
from urllib.parse import unquote

from puna.errors import InvalidValue, Unsupported

MAX_BYTES = 2**18
MAX_DEPTH = 60
MAX_VALUES = 12_000
MAX_PROPERTIES = 500  # of one object: optional ones cost their number squared
MAX_MULTIPLE = 50_000
MAX_NUMBER = 2**53
TYPES = ("null", "boolean", "object", "array", "number", "string", "integer")
# What Meta's documents and Python programs write for them.
NICKNAMES = {
    "dict": "object", "list": "array", "tuple": "array", "str": "string", "int": "integer",
    "float": "number", "double": "number", "bool": "boolean", "none": "null",
}  # fmt: skip
VALUES = ("const", "enum", "default", "examples")  # hold values, not schemas
ANNOTATIONS = {"type", "description", "title", "default", "examples"}


@dataclass(frozen=True, slots=True)
class Schema:
    """`value`, a schema that came as the parameter `param`. `lenient`: what cannot be enforced is
    left to the model. `tool`: the schema of its arguments, which are an object."""

    value: Mapping[str, Any]
    param: str
    lenient: bool = False
    tool: str | None = None


def check_schema(schema: Schema) -> Schema:
    """A copy that nobody else holds, in form. Raises `InvalidValue` and `Unsupported`."""
    param = schema.param
    try:
        text = json.dumps(schema.value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidValue(f"{param}: cannot be written as JSON: {error}", param=param) from None
    if len(text) > MAX_BYTES:
        raise _too_large(param, f"{len(text)} bytes", f"{MAX_BYTES}")
    value: dict[str, Any] = json.loads(text)
    value.pop("x-guidance", None)  # the compiler's own switches are not the caller's
    _check_limits(value, param)
    if schema.lenient:
        _mend_types(value)
    if schema.tool is not None:
        value = _of_object(value, param)
    for part in _subschemas(value):
        _check_numbers(part, param)
        if not schema.lenient:
            _check_keys_may_repeat(part, param)
    _check_multiples(value, param)
    if not ends(value):
        raise InvalidValue(
            f"{param}: contradictory: no finite value fits, since what is required requires itself "
            "in turn: make it optional somewhere, or allow null",
            param=param,
        )
    return replace(schema, value=value)


def is_plain_string(value: Any) -> bool:
    """Whether the schema `value` says no more than that it is a string."""
    if not isinstance(value, dict):
        return False
    schema = cast(dict[str, Any], value)
    return schema.get("type") == "string" and set(schema) <= ANNOTATIONS


def local_refs(value: Mapping[str, Any]) -> Iterator[str]:
    """All references in a schema."""
    for part in _subschemas(value):
        ref = part.get("$ref")
        if isinstance(ref, str):
            yield ref


def ends(root: Mapping[str, Any]) -> bool:
    """Whether some finite value may fit: False only if required parts go round in a circle.

    The least fixed point: a schema ends if what it requires ends. What is known of one is told to
    those that wait for it, so that each is looked at as often as its parts change.
    """
    known: set[int] = set()
    waiting: defaultdict[int, list[dict[str, Any]]] = defaultdict(list)
    todo: list[dict[str, Any]] = list(_subschemas(root))
    while todo:
        part = todo.pop()
        if id(part) in known:
            continue
        missing = _missing(part, root, known)
        if missing is None:
            known.add(id(part))
            todo.extend(waiting.pop(id(part), ()))
        else:
            for other in missing:
                waiting[id(other)].append(part)
    return id(root) in known


def _missing(
    part: dict[str, Any], root: Mapping[str, Any], known: set[int]
) -> list[dict[str, Any]] | None:
    """The schemas that `part` waits for, or None if it waits for none."""

    def unknown(*schemas: Any) -> list[dict[str, Any]]:
        return [
            cast(dict[str, Any], each)
            for each in schemas
            if isinstance(each, dict) and id(cast(object, each)) not in known
        ]

    needed = unknown(*_listed(part.get("allOf")))
    ref = part.get("$ref")
    if isinstance(ref, str):
        needed += unknown(_resolve(root, ref))
    for key in ("anyOf", "oneOf"):
        options = _listed(part.get(key))
        if options and len(unknown(*options)) == len(options):
            needed += unknown(*options)
    kinds = part.get("type")
    demands: list[list[dict[str, Any]]] = []
    for kind in cast(list[Any], kinds if isinstance(kinds, list) else [kinds]):
        if kind == "object":
            properties = _mapping(part.get("properties"))
            others = part.get("additionalProperties")
            required = _listed(part.get("required"))
            demands.append(unknown(*(properties.get(str(name), others) for name in required)))
        elif kind == "array":
            least = part.get("minItems")
            count = least if isinstance(least, int) else 0
            first = _listed(part.get("prefixItems"))[:count]
            rest = [part.get("items")] if count > len(first) else []
            demands.append(unknown(*first, *rest))
        else:
            demands.append([])
    if all(demands):
        needed += [each for demand in demands for each in demand]
    return needed or None


def _resolve(root: Mapping[str, Any], ref: str) -> Any:
    """What a reference within the schema points at; None for others, and where nothing is."""
    if not ref.startswith("#") or (len(ref) > 1 and ref[1] != "/"):
        return None
    place: Any = root
    for step in unquote(ref[1:]).split("/")[1:]:
        key = step.replace("~1", "/").replace("~0", "~")
        if isinstance(place, dict):
            place = cast(dict[str, Any], place).get(key)
        elif isinstance(place, list) and key.isdecimal() and int(key) < len(cast(Any, place)):
            place = cast(list[Any], place)[int(key)]
        else:
            return None
    return place


def _subschemas(root: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """All objects that may be schemas, `root` first; too many rather than too few."""
    stack: list[Any] = [root]
    while stack:
        value = stack.pop()
        if isinstance(value, dict):
            part = cast(dict[str, Any], value)
            yield part
            stack.extend(inner for key, inner in part.items() if key not in VALUES)
        elif isinstance(value, list):
            stack.extend(cast(list[Any], value))


def _check_limits(root: dict[str, Any], param: str) -> None:
    level: list[Any] = [root]
    depth = count = 0
    while level:
        depth, count = depth + 1, count + len(level)
        if depth > MAX_DEPTH:
            raise _too_large(param, f"nesting beyond {MAX_DEPTH} levels", f"{MAX_DEPTH} levels")
        if count > MAX_VALUES:
            raise _too_large(param, f"more than {MAX_VALUES} values", f"{MAX_VALUES}")
        for value in level:
            if isinstance(value, dict) and len(cast(Any, value)) > MAX_PROPERTIES:
                number = len(cast(Any, value))
                raise _too_large(param, f"{number} entries in one object", f"{MAX_PROPERTIES}")
        level = [
            inner
            for value in level
            for inner in (
                cast(dict[str, Any], value).values()
                if isinstance(value, dict)
                else cast(list[Any], value if isinstance(value, list) else [])
            )
        ]


def _mend_types(root: dict[str, Any]) -> None:
    for part in _subschemas(root):
        kinds = part.get("type")
        if not isinstance(kinds, str | list):
            continue
        listed = cast(list[Any], [kinds] if isinstance(kinds, str) else kinds)
        mended = [NICKNAMES.get(str(kind).lower(), str(kind).lower()) for kind in listed]
        mended = [kind for kind in mended if kind in TYPES]
        if len(mended) < len(listed):
            del part["type"]  # some type that JSON schema does not know: anything
        else:
            part["type"] = mended[0] if isinstance(kinds, str) else mended


def _of_object(value: dict[str, Any], param: str) -> dict[str, Any]:
    kinds = value.get("type", "object")
    if kinds == "object" or (isinstance(kinds, list) and "object" in kinds):
        return {**value, "type": "object"}
    raise InvalidValue(
        f"{param}: arguments are an object, and this schema's type is "
        f'{json.dumps(kinds)[:100]}: expected "object"',
        param=param,
    )


def _check_numbers(part: dict[str, Any], param: str) -> None:
    for key in ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"):
        bound = part.get(key)
        if isinstance(bound, int | float) and abs(bound) > MAX_NUMBER:
            raise Unsupported(
                f"{param}: {key} is {str(bound)[:40]}, and bounds beyond 2^53 are not supported: "
                "leave it out",
                param=param,
            )


def _check_keys_may_repeat(part: dict[str, Any], param: str) -> None:
    least = part.get("minProperties")
    required = len(_listed(part.get("required")))
    if isinstance(least, int) and least > max(1, required):
        raise Unsupported(
            f"{param}: minProperties beyond the number of required properties is not supported, "
            "since a key may come twice: name the properties in required",
            param=param,
        )


def _check_multiples(root: dict[str, Any], param: str) -> None:
    """The automaton has a state for each remainder, of all of them together where they meet."""
    common = Fraction(1)
    for part in _subschemas(root):
        multiple = part.get("multipleOf")
        if not isinstance(multiple, int | float) or not multiple:
            continue
        step = abs(Fraction(str(multiple)))
        numerator = math.lcm(common.numerator, step.numerator)
        common = Fraction(numerator, math.gcd(common.denominator, step.denominator))
        if max(common.numerator, step.denominator) > MAX_MULTIPLE:
            raise Unsupported(
                f"{param}: multipleOf {multiple} (with the others in this schema) has too many "
                f"digits: their common multiple may be {MAX_MULTIPLE} at most",
                param=param,
            )


def _too_large(param: str, what: str, most: str) -> InvalidValue:
    return InvalidValue(
        f"{param}: the schema is too large: {what}, and at most {most} are taken", param=param
    )


def _listed(value: Any) -> list[Any]:
    return cast(list[Any], value) if isinstance(value, list) else []


def _mapping(value: Any) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}
