"""What a constrained answer may be, as grammar source: JSON by a schema, and tool calls.

It knows the forms in which a Llama writes a call (`puna.llama.dialects` reads them back), and no
matcher, no engine and no request: whoever compiles the source is `puna.engine.grammar`. The source
is Lark, in which `@name` stands for JSON that fits a schema, and `<[id]>` for a special token.

Calls come in two manners. `forced_calls` are for an answer that must be calls: one spelling, the
dialect's own. `free_calls` are for a call that the model began by itself: every form that is read
back, with the blanks that models write.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, cast

from puna.chat import JsonFormat, ToolSpec
from puna.llama.dialects import BUILTIN_TOOLS, CODE_TOOL
from puna.llama.schemas import (
    ANNOTATIONS,
    Schema,
    check_schema,
    is_plain_string,
    local_refs,
)

CallForm: TypeAlias = Literal["json", "pythonic"]

# Between the parts of JSON, once at each place: a model cannot write blanks for ever.
BLANK = r" |\n[ \t]{0,32}"
TERMINALS = rf"""
W: /{BLANK}/
COLON: W? ":" W?
COMMA: W? "," W?
SEPARATOR: /; ?|, ?|\n/
QUERY: /(\\"|[^"\\]|\\[^"])*/
"""

# From here on the text of a message that begins a call is surely one.
SURE = re.compile(rb'"name"|"function"|[\w.-]\(|<function=')
"""To search in what a grammar of `free_calls` has taken so far."""
ANYWHERE = b"<function="
"""Begins a call wherever it stands; other forms only at the start, or after the python tag."""
COMMITTED = re.compile(rb'"(?:parameters|arguments)"\s*:|\(|<function=')
"""From here on what may yet be a call or other JSON (see `SURE`) can be a call alone."""


@dataclass(frozen=True, slots=True)
class Grammar:
    """`lark` begins at its rule `start` and names `schemas`."""

    lark: str
    schemas: Mapping[str, Schema]


def json_grammar(wanted: JsonFormat) -> Grammar:
    """A JSON object, or JSON that fits a schema. Raises `InvalidValue`."""
    if wanted.schema is None:
        schema = Schema({"type": "object"}, "response_format")
    else:
        schema = Schema(wanted.schema, "response_format.json_schema.schema")
    return Grammar("start: @answer", {"answer": check_schema(schema)})


def forced_calls(
    tools: Sequence[tuple[int, ToolSpec]],
    *,
    form: CallForm,
    builtins: bool,
    python_tag: int | None,
    parallel: bool,
) -> Grammar:
    """One call or more (one alone unless `parallel`) of `tools`, each with its place among those
    of the request.

    `builtins`: the model knows Meta's tools by name, and calls them after the python tag. Raises
    `InvalidValue` for parameters that are no schema of an object, and beyond limits.
    """
    writer = _Writer(tools, python_tag if builtins else None, comma=_text(", "))
    native = [tool for tool in writer.tools if tool.native]
    rest = [tool for tool in writer.tools if not tool.native]
    by_keyword = [tool for tool in rest if form == "pythonic" and tool.keywords is not None]
    others = [tool for tool in rest if tool not in by_keyword]
    ways = [f"{_special(python_tag)} {writer.native_call(tool)}" for tool in native]
    if by_keyword:
        call = writer.rule("call", [writer.keyword_call(tool) for tool in by_keyword])
        ways.append(f'"[" {_several(call, _text(", "), parallel)} "]"')
    if others:
        call = writer.rule("json", [writer.plain_json_call(tool) for tool in others])
        # Meta's rendering tags them and the published one does not: the model does as it is used to
        tag = f"{_special(python_tag)}?" if builtins else ""
        ways.append(f"{tag} {_several(call, _text('; '), parallel)}")
    return writer.grammar(ways)


def free_calls(
    tools: Sequence[tuple[int, ToolSpec]], *, python_tag: int | None, parallel: bool
) -> Grammar:
    """Calls of `tools` in any form, as a model may begin one of its own accord. Raises as
    `forced_calls`."""
    writer = _Writer(tools, python_tag, comma="COMMA")
    call = writer.rule("json", [writer.json_call(tool) for tool in writer.tools])
    listed = f'"[" W? {_several(call, "COMMA", parallel)} W? "]"'
    calls = writer.rule("calls", [_several(call, "SEPARATOR", parallel), listed])
    tagged = writer.rule("tagged", [writer.tagged_call(tool) for tool in writer.tools])
    ways = [calls, _several(tagged, "", parallel)]
    by_keyword = [tool for tool in writer.tools if tool.keywords is not None]
    if by_keyword:
        call = writer.rule("call", [writer.keyword_call(tool) for tool in by_keyword])
        ways += [call, f'"[" W? {_several(call, "COMMA", parallel)} W? "]"']
    if python_tag is not None:
        native = [writer.native_call(tool) for tool in writer.tools if tool.native]
        after = " | ".join([calls, *native])
        ways.append(f"{_special(python_tag)} W? ({after})")
    return writer.grammar(ways)


@dataclass(frozen=True, slots=True)
class _Tool:
    """`native`: the argument of Meta's own form of calling it, if it has one. `keywords`: the
    schemas of its arguments and which of them are required, if keywords can express them."""

    name: str
    arguments: str
    native: str | None
    keywords: Mapping[str, Schema] | None
    required: frozenset[str]


class _Writer:
    """Rules and schemas as they are needed."""

    def __init__(
        self, tools: Sequence[tuple[int, ToolSpec]], python_tag: int | None, comma: str
    ) -> None:
        self._tag = python_tag
        self._comma = comma  # between keywords
        self._rules: list[str] = []
        self._schemas: dict[str, Schema] = {}
        self._names = [tool.name for _, tool in tools]
        self._argument_rules: dict[str, str] = {}
        self.tools = [self._tool(place, tool) for place, tool in tools]

    def grammar(self, ways: Iterable[str]) -> Grammar:
        start = "start: " + "\n     | ".join(ways)
        return Grammar("\n".join([start, *self._rules, TERMINALS]), self._schemas)

    def rule(self, stem: str, ways: Iterable[str]) -> str:
        name = f"{stem}_{len(self._rules)}"
        self._rules.append(f"{name}: " + "\n  | ".join(ways))
        return name

    def plain_json_call(self, tool: _Tool) -> str:
        begin = f'{{"name": {_json(tool.name)}, "parameters": '
        return f'{_text(begin)} {tool.arguments} "}}"'

    def json_call(self, tool: _Tool) -> str:
        name, function, kind, parameters, arguments = (
            _text(_json(key)) for key in ("name", "function", "type", "parameters", "arguments")
        )
        named = (
            f"COLON {_text(_json(tool.name))} COMMA ({parameters} | {arguments}) "
            f"COLON {tool.arguments} W?"
        )
        begin = f'"{{" W? ({kind} COLON {function} COMMA)?'
        return self.rule(
            "object",
            [
                f'{begin} ({name} | {function}) {named} "}}"',
                f'{begin} {function} COLON "{{" W? {name} {named} "}}" W? "}}"',
            ],
        )

    def tagged_call(self, tool: _Tool) -> str:
        begin, end = _text(f"<function={tool.name}>"), _text("</function>")
        return f"{begin} W? {tool.arguments} W? {end}"

    def native_call(self, tool: _Tool) -> str:
        """What follows the python tag: `brave_search.call(query="...")`, or a program."""
        if tool.name == CODE_TOOL:
            return self._program()
        begin = f'{tool.name}.call({tool.native}="'
        return f"{_text(begin)} QUERY {_text(chr(34) + ')')}"

    def keyword_call(self, tool: _Tool) -> str:
        return f"{_text(tool.name + '(')} {self._keyword_arguments(tool)} {_text(')')}"

    def _keyword_arguments(self, tool: _Tool) -> str:
        """Keywords in the schema's order, the optional ones perhaps left out; written from the last
        to the first, once for what stands behind another and once for what begins."""
        if tool.name in self._argument_rules:
            return self._argument_rules[tool.name]
        begins = follows = ""
        for key, schema in reversed(list((tool.keywords or {}).items())):
            item = f"{_text(key + '=')} {self._value(schema)}"
            item = self.rule("item", [item])
            if key in tool.required:
                begins, follows = f"{item} {follows}", f"{self._comma} {item} {follows}"
            else:
                begins = f"({item} {follows} | {begins})" if begins else f"({item} {follows})?"
                follows = f"({self._comma} {item})? {follows}"
            follows = self.rule("follows", [follows]) if follows else ""
            begins = self.rule("begins", [begins])
        self._argument_rules[tool.name] = begins
        return begins

    def _value(self, schema: Schema) -> str:
        """A literal that Python and JSON both know, but for Python's own words."""
        said = {key for key in schema.value if key not in ANNOTATIONS or key == "type"}
        if said == {"type"} and schema.value["type"] == "boolean":
            return '("True" | "False")'
        if said == {"type"} and schema.value["type"] == "null":
            return '"None"'
        return self._schema(schema)

    def _program(self) -> str:
        """Python source that does not read as another call."""
        names = "|".join(re.escape(name).replace("/", r"\/") for name in self._names)
        self._rules.append(
            rf"PROGRAM: /\S(?s:.*)/ & ~/\[?\s*\{{\s*[\"'](?s:.*)/ "
            rf"& ~/\[?\s*({names})(\.call)?\s*\((?s:.*)/"
        )
        return "PROGRAM"

    def _tool(self, place: int, tool: ToolSpec) -> _Tool:
        param = f"tools[{place}].function.parameters"
        schema = check_schema(
            Schema(tool.parameters, param, lenient=not tool.strict, tool=tool.name)
        )
        value = schema.value
        native = None
        if self._tag is not None and tool.name in BUILTIN_TOOLS:
            native = _native_argument(tool.name, value)
        keywords = _keywords(schema)
        return _Tool(
            name=tool.name,
            arguments=self._schema(schema),
            native=native,
            keywords=keywords,
            required=frozenset(cast(list[str], value.get("required", ()))),
        )

    def _schema(self, schema: Schema) -> str:
        name = f"s{len(self._schemas)}"
        self._schemas[name] = schema
        return f"@{name}"


def _native_argument(name: str, parameters: Mapping[str, Any]) -> str | None:
    """The one argument that Meta's own form can bear, a plain string, if the schema takes it."""
    usual = "code" if name == CODE_TOOL else "query"
    properties = cast(dict[str, Any], parameters.get("properties") or {})
    required = cast(list[str], parameters.get("required") or [])
    if not properties and not required:
        return usual if set(parameters) <= {"type", "properties", "required"} else None
    key = required[0] if required else usual
    # the reader knows a program by its key alone
    if name == CODE_TOOL and key != usual:
        return None
    plain = len(required) <= 1 and key.isidentifier() and is_plain_string(properties.get(key))
    simple = {"type", "properties", "required", "additionalProperties", "description", "title"}
    return key if plain and set(parameters) <= simple else None


def _keywords(schema: Schema) -> Mapping[str, Schema] | None:
    """The schemas of the arguments one by one, if that says all that the whole schema says."""
    value = cast(dict[str, Any], schema.value)
    known = {
        "type", "properties", "required", "additionalProperties", "description", "title", "$defs",
        "definitions", "$schema",
    }  # fmt: skip
    properties = cast(dict[str, Any], value.get("properties") or {})
    required = cast(list[str], value.get("required") or [])
    shared = {key: value[key] for key in ("$schema", "$defs", "definitions") if key in value}
    movable = all(ref.startswith(("#/$defs/", "#/definitions/")) for ref in local_refs(value))
    if not (set(value) <= known and movable and set(required) <= set(properties)):
        return None
    if not all(key.isidentifier() and isinstance(properties[key], dict) for key in properties):
        return None
    return {
        key: Schema(shared | part, f"{schema.param}.properties.{key}", lenient=schema.lenient)
        for key, part in properties.items()
    }


def _several(call: str, separator: str, parallel: bool) -> str:
    return f"{call} ({separator} {call})*" if parallel else call


def _special(token: int | None) -> str:
    return f"<[{token}]>"


def _json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def _text(text: str) -> str:
    """As a string of Lark."""
    return _json(text)
