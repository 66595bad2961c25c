"""`brave_search`: the web, through Brave's API, a SearXNG of one's own, or `ddgs` where allowed.

It chooses who is asked, remembers answers for a while, and writes them in the shape that Meta
documents for the model: `{"query": ..., "top_k": [{"title", "url", "description", ...}]}`. How each
service is asked is in a module of its own.
"""

from __future__ import annotations

import importlib.util
import json
import time
from collections import OrderedDict
from collections.abc import Callable

from puna.errors import StartupError, ToolFailed
from puna.settings import Settings
from puna.tools.keys import key_of
from puna.tools.search.brave import BRAVE, Brave
from puna.tools.search.others import Ddgs, Searxng
from puna.tools.search.results import Result, Service
from puna.tools.tool import Arguments, Output, Session, Tool

KEEP_SECONDS = 600.0
KEEP_ANSWERS = 256


def brave_search(settings: Settings, *, base_url: str = BRAVE) -> Tool:
    """The tool. Raises `StartupError` where nobody may be asked.

    Another `base_url` than Brave's may be anywhere, also inside the own network.
    """
    service = _service(settings, base_url)
    answers = Answers()

    async def run(arguments: Arguments, _: Session) -> Output:
        query = " ".join(str(arguments["query"]).split())
        if not query:
            raise ToolFailed("query is empty; expected what to search for")
        results = answers.get(query)
        if results is None:
            results = await service.search(query)
            answers.put(query, results)
        shown = {"query": query, "top_k": [one.as_json() for one in results]}
        return Output(json.dumps(shown, ensure_ascii=False), source=service.name)

    return Tool(
        name="brave_search",
        description="Search the web. Gives titles, addresses and summaries of pages.",
        parameters={
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What to search for, in a few words."}
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        run=run,
        read_only=True,
    )


def _service(settings: Settings, base_url: str) -> Service:
    key = key_of("brave_search", settings)
    if key:
        return Brave(key, settings, base_url)
    if settings.searxng_url:
        return Searxng(settings.searxng_url, settings.search_results)
    if settings.search_fallback == "ddgs":
        if importlib.util.find_spec("ddgs") is None:
            raise StartupError("search_fallback is ddgs, which is missing: pip install puna[tools]")
        return Ddgs(settings.search_results)
    raise StartupError(
        "brave_search has nobody to ask: give Brave's key (`puna keys set brave_search`, or "
        "BRAVE_API_KEY), or the address of a SearXNG of your own (PUNA_SEARXNG_URL), or allow "
        "public search engines without a key (PUNA_SEARCH_FALLBACK=ddgs)"
    )


class Answers:
    """What was found lately: an answer that is paid for is not paid for again."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, list[Result]]] = OrderedDict()

    def get(self, query: str) -> list[Result] | None:
        until, results = self._kept.get(query, (0.0, []))
        return results if self._clock() < until else None

    def put(self, query: str, results: list[Result]) -> None:
        self._kept[query] = (self._clock() + KEEP_SECONDS, results)
        self._kept.move_to_end(query)
        while len(self._kept) > KEEP_ANSWERS:
            self._kept.popitem(last=False)
