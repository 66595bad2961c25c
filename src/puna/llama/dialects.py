"""The forms in which a Llama writes a tool call, each as a reader of one character at a time.

It knows no tokens, no ids of calls and no streaming: `puna.llama.reply` drives the readers. A
reader is a generator. It is sent the characters from where a call may begin; it returns `Found` as
soon as a call is whole, raises `NoCall` as soon as there can be none, and until then wants more.
When the message ends, `EndOfMessage` is thrown into it; when it is cut off, plain `NoCall`.

    built-in   TAG brave_search.call(query="...")
    code       TAG Python source
    JSON       {"name": ..., "parameters": {...}}, several joined by ; , newline, or in an array
    pythonic   [f(a=1), g()] or f(a=1)
    tagged     <function=f>{...}</function>

TAG stands for the python tag, the special token. It is half a surrogate pair: no text holds it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeAlias, cast

from puna.llama.literals import MAX_DEPTH, parse_json, parse_python

TAG = "\udc00"
BUILTIN_TOOLS = ("brave_search", "wolfram_alpha", "code_interpreter")
CODE_TOOL = "code_interpreter"

BUILTIN_ARGUMENT = re.compile(r"(?:(\w+)\s*=\s*)?([\"'])(.*)\2\s*\)(.*)", re.DOTALL)
SEPARATORS = ";,"  # between calls, beside blanks
CLOSING = {"{": "}", "[": "]", "(": ")"}
CALL_KEYS = ("name", "type", "function", "parameters", "arguments", "id")


class NoCall(Exception):
    """What stands here is no call (or will never be a whole one)."""


class EndOfMessage(NoCall):
    """The model ended its message by itself: what stands here is all of it."""


@dataclass(frozen=True, slots=True)
class Call:
    name: str
    arguments: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Found:
    """Calls, and between them what stays text; `rest` was read, but belongs to what follows."""

    parts: tuple[Call | str, ...]
    rest: str = ""


Reader: TypeAlias = Generator[None, str, Found]


class Dialects:
    """The readers for a set of offered tools: only their names make a call, and of these only such
    as `counts` lets through when the call is whole."""

    def __init__(
        self, offered: Collection[str], counts: Callable[[str], bool] = lambda name: True
    ) -> None:
        self.offered = frozenset(offered)
        self._counts = counts
        self._builtins = [name for name in BUILTIN_TOOLS if name in self.offered]

    def readers(self, opening: str, *, called: bool) -> Iterator[Reader]:
        """The readers to try, in order, on text that begins with the character `opening`.

        `called`: a call came before, from which a separator may part the next.
        """
        if opening == TAG:
            yield self._builtin()
            yield self._bare("", tagged=True)
            if CODE_TOOL in self.offered:
                yield self._code()
        elif opening == "<":
            yield self._function_tag()
        else:
            yield self._bare(SEPARATORS if called else "", tagged=False)

    def _builtin(self) -> Reader:
        """The query is all between the first quote and the last, since it may hold quotes."""
        yield from _literally(TAG)
        char = yield from _past()
        name = ""
        endings = [f"{name}.call(" for name in self._builtins]
        while True:
            name += char
            if name in endings:
                break
            _want(name, endings)
            char = yield
        text, rest = yield from _until_tag_or_end()
        match = BUILTIN_ARGUMENT.fullmatch(text.lstrip())
        if match is None:
            raise NoCall
        tool = name.removesuffix(".call(")
        key = match[1] or ("code" if tool == CODE_TOOL else "query")
        value = match[3].replace("\\" + match[2], match[2])
        return Found((self._counted(Call(tool, {key: value})),), match[4] + rest)

    def _code(self) -> Reader:
        yield from _literally(TAG)
        source, rest = yield from _until_tag_or_end()
        if not source.strip():
            raise NoCall
        return Found((self._counted(Call(CODE_TOOL, {"code": source})),), rest)

    def _bare(self, filler: str, *, tagged: bool) -> Reader:
        """JSON and pythonic calls."""
        if tagged:
            yield from _literally(TAG)
        char = yield from _past(filler)
        if char == "{":
            head = yield from self._object_head()
            source = yield from _bracketed("{" + head)
            return self._found([source])
        if char == "[":
            head = yield from self._list_head()
            source = yield from _bracketed("[" + head)
            return self._found(_split(source))
        name = ""
        endings = [name + "(" for name in self.offered]
        if tagged:
            endings += [name + ".call(" for name in self.offered.difference(BUILTIN_TOOLS)]
        while True:
            name += char
            if name in endings:
                break
            _want(name, endings)
            char = yield
        arguments = yield from _bracketed("(")
        return self._found([name[:-1].removesuffix(".call") + arguments])

    def _function_tag(self) -> Reader:
        yield from _literally("<function=")
        name = ""
        while (char := (yield)) != ">":
            name += char
            _want(name, self.offered)
        if name not in self.offered:
            raise NoCall
        char = yield from _past()
        if char == "<":
            yield from _literally("/function>")
            return Found((self._counted(Call(name, {})),))
        if char != "{":
            raise NoCall
        source = yield from _bracketed("{")
        call = self._counted(Call(name, _read_object(source)))
        rest: list[str] = []
        matched = 0
        try:
            while matched < len("</function>"):
                rest.append(char := (yield))
                if matched or not char.isspace():
                    if char != "</function>"[matched]:
                        return Found((call,), "".join(rest))
                    matched += 1
        except NoCall:  # the call itself is whole
            return Found((call,), "".join(rest))
        return Found((call,))

    def _object_head(self) -> Generator[None, str, str]:
        """Give up early on the object of no call: by its first key, and the value of that."""
        head, key = yield from _quoted("", CALL_KEYS)
        values = {"name": self.offered, "type": ("function",)}.get(key)
        if values is None:
            return head
        while not head.endswith(":"):
            char = yield
            if char != ":" and not char.isspace():
                raise NoCall
            head += char
        head, _ = yield from _quoted(head, values)
        return head

    def _list_head(self) -> Generator[None, str, str]:
        char = yield from _past()
        if char == "{":
            head, _ = yield from _quoted("{", CALL_KEYS)
            return head
        head = char
        while char.isalnum() or char in "_.-":
            char = yield
            head += char
        if char != "(" or head == "(":
            raise NoCall
        return head

    def _found(self, sources: Iterable[str]) -> Found:
        """Calls to what was offered; the others stay the text that they are."""
        parts: list[Call | str] = []
        for source in sources:
            call = _read_call(source)
            counts = call.name in self.offered and self._counts(call.name)
            parts.append(call if counts else source)
        if not any(isinstance(part, Call) for part in parts):
            raise NoCall
        return Found(tuple(parts))

    def _counted(self, call: Call) -> Call:
        if not self._counts(call.name):
            raise NoCall
        return call


def _past(filler: str = "") -> Generator[None, str, str]:
    """The first character that is neither blank nor filler."""
    while (char := (yield)).isspace() or char in filler:
        pass
    return char


def _literally(text: str) -> Generator[None, str, None]:
    for expected in text:
        if (yield) != expected:
            raise NoCall


def _want(start: str, words: Iterable[str]) -> None:
    if not any(word.startswith(start) for word in words):
        raise NoCall


def _until_tag_or_end() -> Generator[None, str, tuple[str, str]]:
    """All text to the end of the message, or to the next python tag; and that tag."""
    chars: list[str] = []
    try:
        while (char := (yield)) != TAG:
            chars.append(char)
    except EndOfMessage:
        return "".join(chars), ""
    return "".join(chars), TAG


def _quoted(head: str, words: Collection[str]) -> Generator[None, str, tuple[str, str]]:
    """`head` with the string that follows, and its text, which must be one of `words`."""
    while (quote := (yield)).isspace():
        head += quote
    if quote not in "\"'":
        raise NoCall
    head += quote
    text = ""
    while (char := (yield)) != quote:
        head += char
        if char == "\\":  # spelt with escapes: read when it is whole
            return head, ""
        text += char
        _want(text, words)
    if text not in words:
        raise NoCall
    return head + quote, text


def _bracketed(text: str) -> Generator[None, str, str]:
    """The source of a bracketed value that begins with `text`, to its last bracket."""
    brackets = Brackets()
    for char in text:
        brackets.closes(char)
    chars = [text]
    while True:
        char = yield
        chars.append(char)
        if brackets.closes(char):
            return "".join(chars)


class Brackets:
    """Follows JSON or Python literals character by character: depth, strings, what cannot be."""

    def __init__(self) -> None:
        self._expected: list[str] = []
        self._quote = ""  # the string we are in: ' " ''' or its double
        self._run = 0  # how many quotes have come in a row, where that matters
        self._escaped = False

    def splits(self, char: str) -> bool:
        """Whether `char`, which comes next, is a comma between the outermost brackets."""
        outside = not self._quote or self._may_be_empty
        return char == "," and outside and len(self._expected) == 1

    @property
    def _may_be_empty(self) -> bool:
        """Two quotes have come: an empty string, unless a third follows."""
        return self._run == 2 and len(self._quote) == 1

    def closes(self, char: str) -> bool:
        """Whether `char` closes the outermost bracket. Raises NoCall when no value can follow."""
        if char == TAG:
            raise NoCall
        if self._quote and self._in_string(char):
            return False
        if char in "\"'":
            self._quote, self._run = char, 1
        elif char in CLOSING:
            self._expected.append(CLOSING[char])
            if len(self._expected) > MAX_DEPTH:
                raise NoCall
        elif char in ")]}":
            if not self._expected or self._expected.pop() != char:
                raise NoCall
            return not self._expected
        elif char in "!#$%&*/;<>?@\\^`|~":
            raise NoCall
        return False

    def _in_string(self, char: str) -> bool:
        """Whether `char` belongs to the string; not so when two quotes were an empty one."""
        mark = self._quote[0]
        if self._may_be_empty and char != mark:
            self._quote, self._run = "", 0
            return False
        if self._escaped:
            self._escaped = False
        elif char == "\\":
            self._escaped, self._run = True, 0
        elif char != mark:
            self._run = 0
        elif len(self._quote) == 1 and self._run == 0:
            self._quote = ""
        else:
            self._run += 1
            if self._run == 3:
                self._quote, self._run = ("" if len(self._quote) == 3 else mark * 3), 0
        return True


def _split(source: str) -> list[str]:
    """The items between the brackets of `source`, which are balanced."""
    brackets = Brackets()
    cuts = [0]
    for position, char in enumerate(source):
        if brackets.splits(char):
            cuts.append(position)
        brackets.closes(char)
    cuts.append(len(source) - 1)
    items = [source[start + 1 : end].strip() for start, end in pairwise(cuts)]
    return items if items[-1] else items[:-1]


def _read_call(source: str) -> Call:
    """The call that `source` writes, as an object or as `f(a=1)`. Raises NoCall."""
    if not source.startswith("{"):
        name, _, inside = source.partition("(")
        if not inside.endswith(")"):
            raise NoCall
        return Call(name, _read_keywords("(" + inside))
    value = _read_object(source)
    if value.get("type", "function") != "function":
        raise NoCall
    function = value.get("function")
    if isinstance(function, dict):
        value = cast(dict[str, Any], function)
    name = value.get("name", function)
    arguments = value.get("parameters", value.get("arguments", ...))
    if not isinstance(name, str):
        raise NoCall
    if not (arguments is None or isinstance(arguments, dict)):
        raise NoCall
    return Call(name, cast(dict[str, Any], arguments or {}))


def _read_object(source: str) -> dict[str, Any]:
    for parse in (parse_json, _parse_mended_json, parse_python):
        try:
            value = parse(source)
        except ValueError:
            continue
        if isinstance(value, dict):
            return cast(dict[str, Any], value)
    raise NoCall


def _parse_mended_json(source: str) -> Any:
    r"""JSON with backslashes that JSON does not know, as in "\alpha", taken for themselves."""
    return parse_json(
        re.sub(
            r'\\(?:(["\\/bfnrt]|u[0-9a-fA-F]{4})|(\')|)',
            lambda found: found[0] if found[1] else found[2] or r"\\",
            source,
        )
    )


def _read_keywords(source: str) -> dict[str, Any]:
    """The arguments of `(a=1, b=[2])`, whose names may be Python's reserved words."""
    arguments: dict[str, Any] = {}
    for item in _split(source):
        name, equals, literal = item.partition("=")
        name = name.strip()
        if not equals or not name.isidentifier() or name in arguments:
            raise NoCall
        try:
            arguments[name] = parse_python(literal)
        except ValueError:
            try:
                arguments[name] = parse_json(literal)
            except ValueError:
                raise NoCall from None
    return arguments
