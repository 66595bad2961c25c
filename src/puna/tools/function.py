"""`@tool`: a typed Python function as a `Tool`.

Its signature is the schema, through pydantic; its docstring is the description, and what that says
of an argument (in Google's, NumPy's or Sphinx's manner) the argument's. It knows no model and no
loop.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import re
import threading
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, TypeVar, cast, get_type_hints, overload

from puna.errors import ToolFailed
from puna.tools.tool import Arguments, Output, Session, Tool

T = TypeVar("T")

NAME = re.compile(r"[A-Za-z0-9_.\-]{1,64}")


@dataclass(frozen=True, slots=True)
class FunctionTool(Tool):
    """A `Tool` that can still be called as the function that it is."""

    function: Callable[..., Any] = field(default=lambda: None, repr=False)

    def __call__(self, *args: Any, **fields: Any) -> Any:
        return self.function(*args, **fields)


@overload
def tool(function: Callable[..., Any], /) -> FunctionTool: ...
@overload
def tool(
    *, read_only: bool = False, name: str | None = None, description: str | None = None
) -> Callable[[Callable[..., Any]], FunctionTool]: ...
def tool(
    function: Callable[..., Any] | None = None,
    /,
    *,
    read_only: bool = False,
    name: str | None = None,
    description: str | None = None,
) -> FunctionTool | Callable[[Callable[..., Any]], FunctionTool]:
    """A function that a model may call: `@tool`, or `@tool(read_only=True)`.

    Every parameter has a type, and may be given by its name. What the function returns goes to the
    model: a string as it stands, an `Output` with its files, anything else as JSON. It may be
    async; a plain one runs in a thread, which goes on behind a timeout, for Python ends no thread.
    To tell the model what was wrong, raise `ToolFailed`. `read_only`: it changes nothing, and may
    run without asking anyone. Raises `TypeError` where the function cannot be a tool.
    """

    def made(function: Callable[..., Any]) -> FunctionTool:
        return _made(function, name or getattr(function, "__name__", ""), description, read_only)

    return made if function is None else made(function)


def _made(
    function: Callable[..., Any], name: str, description: str | None, read_only: bool
) -> FunctionTool:
    from pydantic import TypeAdapter
    from pydantic.errors import PydanticUserError

    if not NAME.fullmatch(name):
        raise TypeError(f"{name!r} cannot name a tool: give @tool(name=...) of letters, digits, _")
    told, of_arguments = read_docstring(inspect.getdoc(function) or "")
    adapters: dict[str, TypeAdapter[Any]] = {}
    required: list[str] = []
    defaults: dict[str, Any] = {}
    hints = get_type_hints(function, include_extras=True)
    for each in inspect.signature(function).parameters.values():
        if each.kind not in (each.POSITIONAL_OR_KEYWORD, each.KEYWORD_ONLY):
            raise TypeError(f"{name}: parameter {each} of a tool must have a name to be given by")
        if each.name not in hints:
            raise TypeError(f"{name}: parameter {each.name} needs a type, as in {each.name}: str")
        try:
            adapters[each.name] = TypeAdapter(hints[each.name])
        except PydanticUserError as error:
            raise TypeError(f"{name}: no JSON can give parameter {each.name}: {error}") from None
        if each.default is each.empty:
            required.append(each.name)
        else:
            defaults[each.name] = each.default

    async def run(arguments: Arguments, session: Session) -> Output:
        given = _checked(adapters, arguments)
        if inspect.iscoroutinefunction(function):
            result = await cast(Awaitable[Any], function(**given))
        else:
            result = await in_thread(lambda: function(**given))
        return _output(result)

    return FunctionTool(
        name=name,
        description=description or told,
        parameters=_schema(adapters, required, defaults, of_arguments),
        run=run,
        read_only=read_only,
        function=function,
    )


def _checked(adapters: Mapping[str, Any], arguments: Arguments) -> dict[str, Any]:
    """The arguments as the types that the function names. Raises `ToolFailed`."""
    from pydantic import ValidationError

    given: dict[str, Any] = {}
    wrong: list[str] = []
    for name, value in arguments.items():
        try:
            given[name] = adapters[name].validate_python(value)
        except KeyError:
            wrong.append(f"{name}: there is no such argument")
        except ValidationError as error:
            for each in error.errors(include_url=False, include_context=False):
                where = ".".join(str(part) for part in (name, *each["loc"]))
                wrong.append(f"{where}: {each['msg']}")
    if wrong:
        raise ToolFailed("; ".join(wrong))
    return given


def _schema(
    adapters: Mapping[str, Any],
    required: list[str],
    defaults: Mapping[str, Any],
    descriptions: Mapping[str, str],
) -> dict[str, Any]:
    """The JSON schema, as short as it can be: a model reads it with every question."""
    from pydantic import TypeAdapter
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    found, rest = TypeAdapter.json_schemas(
        [(name, "validation", adapter) for name, adapter in adapters.items()]
    )
    properties: dict[str, Any] = {}
    for name in adapters:
        schema = _bare(found[name, "validation"])
        if name in defaults:
            schema = _without_null(schema)
            if defaults[name] is not None:
                # What JSON cannot say, the model need not know.
                with suppress(PydanticSerializationError):
                    schema["default"] = to_jsonable_python(defaults[name])
        if name in descriptions:
            schema.setdefault("description", descriptions[name])
        properties[name] = schema
    schema = {"type": "object", "properties": properties, "required": required}
    if defs := _bare(rest).get("$defs"):
        schema["$defs"] = defs
    return schema


def _bare(schema: Any) -> Any:
    """Without pydantic's titles, which repeat the names."""
    if isinstance(schema, dict):
        return {
            name: {key: _bare(each) for key, each in cast("dict[str, Any]", value).items()}
            if name in ("properties", "$defs")  # whose keys are names, `title` among them perhaps
            else _bare(value)
            for name, value in cast("dict[str, Any]", schema).items()
            if not (name == "title" and isinstance(value, str))
        }
    if isinstance(schema, list):
        return [_bare(each) for each in cast("list[Any]", schema)]
    return schema


def _without_null(schema: dict[str, Any]) -> dict[str, Any]:
    """`int | None = None` is an integer that may be left out."""
    options = cast("list[Any]", schema.get("anyOf", []))
    kinds = [each for each in options if each != {"type": "null"}]
    if len(kinds) == 1 and len(options) == 2:
        return {**{key: value for key, value in schema.items() if key != "anyOf"}, **kinds[0]}
    return schema


def _output(result: Any) -> Output:
    if isinstance(result, Output):
        return result
    if isinstance(result, str):
        return Output(result)
    from pydantic_core import PydanticSerializationError, to_jsonable_python

    try:
        return Output(json.dumps(to_jsonable_python(result), ensure_ascii=False))
    except (PydanticSerializationError, ValueError, TypeError) as error:
        raise ToolFailed(f"what it returned cannot be written as JSON: {error}") from None


async def in_thread(work: Callable[[], T]) -> T:
    """The result of `work` in a thread of its own.

    Not `asyncio.to_thread`: calls that hang would use up its threads, and keep Python from ending.
    """
    loop = asyncio.get_running_loop()
    result: asyncio.Future[T] = loop.create_future()

    def tell(set_it: Callable[[Any], None], value: Any) -> None:
        if not result.done():
            set_it(value)

    def run() -> None:
        try:
            told = (result.set_result, work())
        except BaseException as error:  # StopIteration cannot be a future's exception
            mild = isinstance(error, Exception) and not isinstance(error, StopIteration)
            told = (result.set_exception, error if mild else RuntimeError(repr(error)))
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(tell, *told)

    threading.Thread(target=run, name="puna-tool", daemon=True).start()
    return await result


_SECTION = re.compile(
    r"(?:args|arguments|parameters|params|returns?|yields?|raises|examples?|notes?|see also"
    r"|references|warnings?|attributes)",
    re.IGNORECASE,
)
_ARGUMENTS = ("args", "arguments", "parameters", "params")
_GOOGLE = re.compile(r"\*{0,2}(\w+)\s*(?:\([^)]*\))?\s*:\s*(.*)")
_SPHINX = re.compile(r":(\w+)\b([^:]*):\s*(.*)")


def read_docstring(text: str) -> tuple[str, dict[str, str]]:
    """(what comes before the first section, what is said of each argument)."""
    told: list[str] = []
    of_arguments: dict[str, list[str]] = {}
    section = ""  # "" before the first
    style = ""
    current: list[str] = []
    lines = inspect.cleandoc(text).splitlines()
    base = 0  # the indentation of argument names in this section
    for number, line in enumerate(lines):
        bare = line.strip()
        following = lines[number + 1].strip() if number + 1 < len(lines) else ""
        underlined = len(following) >= 3 and not following.strip("-")
        if not line.startswith(" ") and underlined and _SECTION.fullmatch(bare):
            section, style, current, base = bare.lower(), "numpy", [], -1
        elif not line.startswith(" ") and bare.endswith(":") and _SECTION.fullmatch(bare[:-1]):
            section, style, current, base = bare[:-1].lower(), "google", [], -1
        elif not line.startswith(" ") and (found := _SPHINX.fullmatch(bare)):
            section, style, current = "sphinx", "sphinx", []
            if found[1] in ("param", "parameter", "arg", "argument"):
                current = of_arguments.setdefault(found[2].split()[-1] if found[2] else "", [])
                current.append(found[3])
        elif not section:
            told.append(line)
        elif style == "sphinx":
            current.append(bare)
        elif section in _ARGUMENTS and bare and bare.strip("-"):
            indent = len(line) - len(line.lstrip())
            if base < 0:
                base = indent
            if indent > base:
                current.append(bare)
            elif style == "numpy":
                names = [each.strip().lstrip("*") for each in bare.partition(":")[0].split(",")]
                current = []
                for name in names:
                    of_arguments[name] = current
            elif found := _GOOGLE.fullmatch(bare):
                current = of_arguments.setdefault(found[1], [])
                current.append(found[2])
    described = {name: " ".join(filter(None, said)) for name, said in of_arguments.items()}
    return "\n".join(told).strip(), {name: said for name, said in described.items() if said}
