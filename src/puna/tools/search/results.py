"""A search result, as the model reads it, and what a search service is.

It knows no service. Services answer with what they like, so every value is looked at before it is
believed: what has no address or no title is no result, and what is too long is cut.
"""

from __future__ import annotations

import html
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, cast

from puna.errors import ToolFailed

MAX_TITLE = 200
MAX_URL = 500
MAX_DESCRIPTION = 800
MAX_SNIPPETS = 3


@dataclass(frozen=True, slots=True)
class Result:
    """`kind` is web, news, faq ...; `date` is the service's own writing of the page's age."""

    title: str
    url: str
    description: str
    kind: str = "web"
    date: str = ""
    extra_snippets: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """With the names that Meta's documents use. Empty fields are left out."""
        fields = {
            "type": self.kind,
            "title": self.title,
            "url": self.url,
            "description": self.description,
            "date": self.date,
            "extra_snippets": list(self.extra_snippets),
        }
        return {name: value for name, value in fields.items() if value}


class Service(Protocol):
    """Whoever can be asked. `name` is told with each result."""

    name: str

    async def search(self, query: str) -> list[Result]:
        """The best results, best first. Raises `ToolFailed`."""
        ...


def result(fields: object, kind: str = "web", *, names: Mapping[str, str] | None = None) -> Result:
    """A result from a service's JSON; `names` says which of its fields are ours. May be empty."""
    own = {"title": "title", "url": "url", "description": "description", "date": "date"}
    found = {ours: field_of(fields, theirs) for ours, theirs in {**own, **(names or {})}.items()}
    snippets = tuple(plain(one, MAX_DESCRIPTION) for one in items_of(fields, "extra_snippets"))
    return Result(
        title=plain(found["title"], MAX_TITLE),
        url=_address(found["url"]),
        description=plain(found["description"], MAX_DESCRIPTION),
        kind=kind,
        date=plain(found["date"], 40),
        extra_snippets=tuple(one for one in snippets if one)[:MAX_SNIPPETS],
    )


def worth(results: Sequence[Result], at_most: int) -> list[Result]:
    """Those that say something, each address once."""
    chosen: dict[str, Result] = {}
    for one in results:
        if one.url and (one.title or one.description):
            chosen.setdefault(one.url, one)
    return list(chosen.values())[:at_most]


def parsed(body: bytes, service: str) -> dict[str, Any]:
    """A JSON object. Raises `ToolFailed`."""
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        value = None
    if not isinstance(value, dict):
        raise ToolFailed(f"{service} answered with something that is no JSON object; try again")
    return cast("dict[str, Any]", value)


def field_of(fields: object, name: str) -> object:
    """`fields[name]`, or None where `fields` is no object or has no such field."""
    return cast("dict[str, object]", fields).get(name) if isinstance(fields, dict) else None


def items_of(fields: object, name: str) -> list[object]:
    """The list `fields[name]`, or an empty one."""
    found = field_of(fields, name)
    return cast("list[object]", found) if isinstance(found, list) else []


def plain(text: object, at_most: int) -> str:
    """Text without markup, in one line, cut at `at_most` characters."""
    if not isinstance(text, str):
        return ""
    text = html.unescape(_TAG.sub("", text[: 20 * at_most]))
    text = " ".join(text.split())
    return text if len(text) <= at_most else text[: at_most - 1].rstrip() + "…"


# Only what looks like a tag of HTML: "a < b and c > d" is text.
_TAG = re.compile(r"</?[a-zA-Z][a-zA-Z0-9]*(?:\s[^<>]*)?/?>")


def _address(url: object) -> str:
    """An address that can be shown and opened; cut, it would lead elsewhere."""
    if not isinstance(url, str) or len(url) > MAX_URL or not url.isprintable():
        return ""
    return url if url.lower().startswith(("http://", "https://")) else ""
