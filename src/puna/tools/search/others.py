"""Who else can be asked: the user's own SearXNG, and the public engines that `ddgs` reads.

It knows SearXNG's JSON and the library's one call. `ddgs` speaks to the engines itself, with no
contract with them, so it is asked only where its name was given.
"""

from __future__ import annotations

import asyncio
import importlib
from typing import Any
from urllib.parse import urlsplit

from puna.errors import StartupError, ToolFailed
from puna.tools.outside import Refused, fetch
from puna.tools.search.results import Result, items_of, parsed, result, worth

SECONDS = 20.0


class Searxng:
    """Its settings must list `json` among `search.formats`. Raises `StartupError` on a bad URL."""

    def __init__(self, url: str, at_most: int) -> None:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise StartupError(f"searxng_url is {url!r}; expected something like http://host:8888")
        self.name = f"SearXNG at {parts.hostname}"
        self._url = url.rstrip("/").removesuffix("/search") + "/search"
        self._at_most = at_most

    async def search(self, query: str) -> list[Result]:
        try:
            answer = await fetch(
                self._url, params={"q": query, "format": "json"}, own=True, seconds=SECONDS
            )
        except Refused as error:
            raise ToolFailed(f"{self.name} cannot be reached: {error}") from None
        if answer.status == 403:
            raise ToolFailed(
                f"{self.name} gives no JSON: its owner must add json to search.formats in its "
                "settings.yml"
            )
        if answer.status != 200:
            raise ToolFailed(f"{self.name} answered {answer.status}; try again later")
        names = {"description": "content", "date": "publishedDate"}
        found = items_of(parsed(answer.body, self.name), "results")
        return worth([result(one, names=names) for one in found], self._at_most)


class Ddgs:
    name = "public search engines (ddgs)"

    def __init__(self, at_most: int) -> None:
        self._at_most = at_most

    async def search(self, query: str) -> list[Result]:
        ddgs: Any = importlib.import_module("ddgs")
        exceptions: Any = importlib.import_module("ddgs.exceptions")

        def look() -> list[Any]:
            return ddgs.DDGS(timeout=10).text(query, max_results=self._at_most)

        try:
            async with asyncio.timeout(SECONDS):
                found = await asyncio.to_thread(look)
        except TimeoutError:
            raise ToolFailed(f"{self.name} took longer than {SECONDS:g} seconds") from None
        except exceptions.DDGSException as error:
            raise ToolFailed(f"{self.name} found nothing: {str(error)[:200]}") from None
        names = {"url": "href", "description": "body"}
        return worth([result(one, names=names) for one in found], self._at_most)
