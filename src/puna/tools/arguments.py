"""A call's arguments, from the text that a model wrote to what a tool's schema asks for.

It knows JSON and JSON schema, and neither models nor tools. Small models write "5" for 5 and null
for what they leave out; where the schema leaves no doubt what was meant, that is mended. All else
that is wrong is said, so that the model can do better.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from puna.errors import ToolFailed

if TYPE_CHECKING:
    from jsonschema.exceptions import ValidationError

_MOST_FAULTS = 5


def read_arguments(text: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments in `text`, which fit `schema`. Raises `ToolFailed` for the model to read."""
    try:
        value = json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise ToolFailed("the arguments are no JSON; expected one JSON object") from None
    if not isinstance(value, dict):
        raise ToolFailed("the arguments are no JSON object; expected one object of all arguments")
    arguments = _mended(cast("dict[str, Any]", value), schema)
    faults = _faults(arguments, schema)
    if faults:
        raise ToolFailed("the arguments do not fit: " + "; ".join(faults))
    return arguments


def _faults(arguments: dict[str, Any], schema: Mapping[str, Any]) -> list[str]:
    if not schema:
        return []
    from jsonschema import Draft202012Validator
    from referencing import Registry

    # A registry of its own: the library's default one would fetch what "$ref" names.
    registry: Registry[Any] = Registry()
    validator: Any = Draft202012Validator(dict(schema), registry=registry)
    try:
        errors: list[ValidationError] = list(islice(validator.iter_errors(arguments), _MOST_FAULTS))
    except Exception as error:  # a schema from outside can be wrong in every way
        raise ToolFailed(
            f"the tool's own schema cannot be used ({type(error).__name__}); it cannot be called"
        ) from None
    return [_told(error) for error in errors]


def _told(error: ValidationError) -> str:
    where = ".".join(str(part) for part in error.absolute_path)
    return f"{where}: {error.message[:200]}" if where else error.message[:200]


def _mended(arguments: dict[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    properties = schema.get("properties")
    required = schema.get("required")
    if not isinstance(properties, dict):
        return arguments
    needed = cast("list[Any]", required) if isinstance(required, list) else []
    mended: dict[str, Any] = {}
    for name, value in arguments.items():
        wanted = cast("dict[str, Any]", properties).get(name)
        kind = cast("dict[str, Any]", wanted).get("type") if isinstance(wanted, dict) else None
        if value is None and isinstance(kind, str) and kind != "null" and name not in needed:
            continue  # null is how a model says that it leaves it out
        mended[name] = _as(kind, value)
    return mended


def _as(kind: Any, value: Any) -> Any:
    """`value` as `kind`, where that is what it says."""
    if kind == "string" and isinstance(value, int | float) and not isinstance(value, bool):
        return json.dumps(value)
    if not isinstance(value, str):
        return value
    if kind == "boolean" and value.lower() in ("true", "false"):
        return value.lower() == "true"
    if kind in ("integer", "number", "array", "object"):
        try:
            read = json.loads(value)
        except (ValueError, RecursionError):
            return value
        wanted = {"integer": int, "number": int | float, "array": list, "object": dict}[kind]
        return read if isinstance(read, wanted) and not isinstance(read, bool) else value
    return value
