"""Brave's Search API: web search, and its context for language models.

It knows the addresses, headers, shapes and errors that Brave documents, and keeps to the limits of
the plan and to the owner's monthly cap. The key goes to Brave alone, and into no message.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from puna.errors import ToolFailed
from puna.settings import Settings
from puna.tools.outside import Answer, Refused, fetch
from puna.tools.search.budget import Budget
from puna.tools.search.results import Result, field_of, items_of, parsed, plain, result, worth
from puna.tools.search.throttle import Throttle

BRAVE = "https://api.search.brave.com"
MAX_CHARACTERS = 400
MAX_WORDS = 50
CONTEXT_TOKENS = 2048
CONTEXT_CHARACTERS = 3000
SECONDS = 15.0

# In this order where Brave gives none of its own.
_KINDS = ("infobox", "web", "faq", "news", "discussions", "locations", "videos")


class Brave:
    name = "Brave Search"

    def __init__(self, key: str, settings: Settings, base_url: str = BRAVE) -> None:
        self._key = key
        self._base_url = base_url.rstrip("/")
        self._context = settings.brave_endpoint == "llm_context"
        self._at_most = settings.search_results
        self._throttle = Throttle()
        self._budget = Budget(settings.state_dir / "brave.json", settings.brave_monthly_cap)

    async def search(self, query: str) -> list[Result]:
        if len(query) > MAX_CHARACTERS or len(query.split()) > MAX_WORDS:
            raise ToolFailed(
                f"the query has {len(query)} characters and {len(query.split())} words; Brave "
                f"Search takes {MAX_CHARACTERS} and {MAX_WORDS} at most: ask in fewer words"
            )
        answer = await self._ask(query)
        if answer.status == 429:  # Another program with the same key was faster: once more.
            answer = await self._ask(query)
        if answer.status != 200:
            raise ToolFailed(_failure(answer))
        found = parsed(answer.body, self.name)
        read = context_results if self._context else web_results
        return worth(read(found), self._at_most)

    async def _ask(self, query: str) -> Answer:
        await asyncio.sleep(self._throttle.turn())
        with self._budget.spend() as spent:
            try:
                answer = await fetch(
                    f"{self._base_url}/res/v1/{'llm/context' if self._context else 'web/search'}",
                    params={"q": query, **self._limits()},
                    headers={"Accept": "application/json", "X-Subscription-Token": self._key},
                    own=self._base_url != BRAVE,
                    seconds=SECONDS,
                )
            except Refused as error:
                raise ToolFailed(f"Brave Search cannot be reached: {error}") from None
            # Brave bills what it answered, also where nobody can read it here.
            spent.billed = answer.status == 200
        self._throttle.learn(answer.headers, refused=answer.status == 429)
        return answer

    def _limits(self) -> Mapping[str, str]:
        if self._context:
            return {
                "maximum_number_of_urls": str(self._at_most),
                "maximum_number_of_tokens": str(CONTEXT_TOKENS),
            }
        return {"count": str(self._at_most), "text_decorations": "false"}


def web_results(found: object) -> list[Result]:
    """The results of a web search, in Brave's own order (`mixed`) where it gives one.

    An entry of `mixed` names one result of a kind by its index, or all of them.
    """
    kinds = {
        kind: [_web_result(one, kind) for one in items_of(field_of(found, kind), "results")]
        for kind in _KINDS
    }
    ordered: list[Result] = []
    for entry in items_of(field_of(found, "mixed"), "main"):
        kind, index = field_of(entry, "type"), field_of(entry, "index")
        of_kind = kinds.get(kind, []) if isinstance(kind, str) else []
        if field_of(entry, "all") is True or index is None:
            ordered += of_kind
        elif isinstance(index, int) and 0 <= index < len(of_kind):
            ordered.append(of_kind[index])
    return ordered + [one for of_kind in kinds.values() for one in of_kind]


def _web_result(fields: object, kind: str) -> Result:
    match kind:
        case "faq":
            return result(fields, kind, names={"title": "question", "description": "answer"})
        case "infobox" if field_of(fields, "long_desc"):
            return result(fields, kind, names={"description": "long_desc"})
        case _:
            return result(fields, kind, names={"date": "age"})


def context_results(found: object) -> list[Result]:
    """The pages of Brave's context: what of their text bears on the question."""
    grounding = field_of(found, "grounding")
    pages = [*items_of(grounding, "generic"), field_of(grounding, "poi")]
    pages += items_of(grounding, "map")
    sources = field_of(found, "sources")
    return [_page(page, sources) for page in pages]


def _page(page: object, sources: object) -> Result:
    head = result(page)
    snippets = [plain(one, CONTEXT_CHARACTERS) for one in items_of(page, "snippets")]
    ages = items_of(field_of(sources, head.url), "age")
    return Result(
        title=head.title or plain(field_of(page, "name"), 200),
        url=head.url,
        description="\n".join(one for one in snippets if one)[:CONTEXT_CHARACTERS],
        date=plain(ages[0], 40) if ages else "",
    )


def _failure(answer: Answer) -> str:
    """What went wrong, for the model and its user. Brave's own words hold no key."""
    try:
        error = field_of(parsed(answer.body, "Brave"), "error")
    except ToolFailed:
        error = None
    code = plain(field_of(error, "code"), 60)
    told = f"Brave Search answered {answer.status}" + (f" {code}" if code else "")
    if answer.status == 401 or "TOKEN" in code:
        return f"{told}: its key is missing or wrong; the owner sets it: puna keys set brave_search"
    if answer.status == 429:
        return f"{told}: too many searches now; try again later"
    detail = plain(field_of(error, "detail"), 200)
    if answer.status == 403:
        return f"{told}: the key's plan does not include this. {detail}".strip()
    return f"{told}. {detail}".strip()
