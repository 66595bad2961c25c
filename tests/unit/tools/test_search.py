from __future__ import annotations

import asyncio
import json
import sys
import types
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis
from hypothesis import strategies as st

from puna.errors import StartupError, ToolFailed
from puna.settings import Settings
from puna.tools.search import KEEP_SECONDS, Answers, brave_search
from puna.tools.search import brave as brave_module
from puna.tools.search.brave import context_results, web_results
from puna.tools.search.budget import Budget
from puna.tools.search.results import Result, plain, result, worth
from puna.tools.search.throttle import Throttle
from puna.tools.tool import Output, Session, Tool
from tests.unit.tools.fakes import BRAVE_KEY, FakeBrave, FakeSearxng, brave_web
from tests.unit.tools.web import Asked, Told, web


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def settings(folder: Path, **fields: Any) -> Settings:
    known = {"brave_api_key": BRAVE_KEY, "keyring": False, **fields}
    return Settings(config_dir=folder / "config", state_dir=folder / "state", **known)


def spent(folder: Path) -> int:
    return json.loads((folder / "state" / "brave.json").read_text())["requests"]


async def ask(tool: Tool, query: str = "Stockholm weather") -> Output:
    return await tool.run({"query": query}, Session())


# --- Brave


async def test_the_model_reads_the_documented_shape_in_braves_own_order(folder: Path) -> None:
    with web(FakeBrave()) as server:
        output = await ask(brave_search(settings(folder), base_url=server.url))
    assert output.source == "Brave Search"
    assert json.loads(output.text) == {
        "query": "Stockholm weather",
        "top_k": [
            {
                "type": "web",
                "title": "Weather in Stockholm",
                "url": "https://example.com/weather",
                "description": "Rain later. You asked: Stockholm weather",
                "extra_snippets": ["Wind 5 m/s.", "Sunset 15:02.", "a"],
            },
            {
                "type": "web",
                "title": "Stockholm & the sea",
                "url": "https://example.com/sea",
                "description": "Mostly cloudy, 4 °C < 10 °C.",
                "date": "2 days ago",
            },
            {
                "type": "faq",
                "title": "Is it cold?",
                "url": "https://example.com/faq",
                "description": "Yes.",
            },
        ],
    }
    (asked,) = server.asked
    assert asked.params == {"q": "Stockholm weather", "count": "5", "text_decorations": "false"}
    assert asked.headers["x-subscription-token"] == BRAVE_KEY
    assert asked.headers["accept-encoding"] == "gzip"
    assert BRAVE_KEY not in asked.path + str(asked.params)


async def test_the_llm_context_gives_the_text_of_pages(folder: Path) -> None:
    with web(FakeBrave()) as server:
        known = settings(folder, brave_endpoint="llm_context", search_results=3)
        output = await ask(brave_search(known, base_url=server.url))
    assert json.loads(output.text)["top_k"] == [
        {
            "type": "web",
            "title": "Weather in Stockholm",
            "url": "https://example.com/weather",
            "description": "Rain later.\nYou asked: Stockholm weather",
            "date": "Saturday, November 21, 2026",
        },
        {
            "type": "web",
            "title": "A place",
            "url": "https://place.example/",
            "description": "Open.",
        },
    ]
    assert server.asked[0].params["maximum_number_of_urls"] == "3"


async def test_results_are_found_without_mixed_and_when_compressed(folder: Path) -> None:
    with web(FakeBrave(["no mixed", "gzip"])) as server:
        tool = brave_search(settings(folder), base_url=server.url)
        plainly = json.loads((await ask(tool, "one")).text)["top_k"]
        zipped = json.loads((await ask(tool, "two")).text)["top_k"]
    assert [one["title"] for one in plainly] == [
        "Stockholm & the sea",
        "Weather in Stockholm",
        "Is it cold?",
    ]
    assert len(zipped) == 3


@pytest.mark.parametrize("mood", ["nonsense", "empty"])
async def test_no_results_are_an_answer_too(folder: Path, mood: str) -> None:
    with web(FakeBrave([mood])) as server:
        output = await ask(brave_search(settings(folder), base_url=server.url), "nothing")
    assert json.loads(output.text) == {"query": "nothing", "top_k": []}


@pytest.mark.parametrize(
    ("mood", "told", "counted"),
    [
        ("401", "401 UNAUTHORIZED: its key is missing or wrong.*puna keys set", 0),
        ("403", "403 OPTION_NOT_IN_PLAN: the key's plan", 0),
        ("422", r"422 VALIDATION\. Unable to validate", 0),
        ("501", r"answered 501\.", 0),
        ("truncated", "no JSON object", 1),
        ("list", "no JSON object", 1),
        ("broken off", "cannot be reached", 1),
    ],
)
async def test_a_failure_says_what_it_is_and_only_what_may_be_billed_is_counted(
    folder: Path, mood: str, told: str, counted: int
) -> None:
    with web(FakeBrave([mood])) as server:
        tool = brave_search(settings(folder), base_url=server.url)
        with pytest.raises(ToolFailed, match=told) as caught:
            await ask(tool)
    assert BRAVE_KEY not in str(caught.value)
    assert spent(folder) == counted


async def test_a_wrong_key_is_told_without_showing_it(folder: Path) -> None:
    with web(FakeBrave()) as server:
        tool = brave_search(settings(folder, brave_api_key="wrong-key"), base_url=server.url)
        with pytest.raises(ToolFailed, match=r"TOKEN_INVALID.*puna keys set") as caught:
            await ask(tool)
    assert "wrong-key" not in str(caught.value)


async def test_a_silent_service_is_given_up(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(brave_module, "SECONDS", 0.2)
    with (
        web(FakeBrave(["hang"])) as server,
        pytest.raises(ToolFailed, match=r"longer than 0\.2 seconds"),
    ):
        await ask(brave_search(settings(folder), base_url=server.url))


async def test_refused_for_speed_it_asks_once_more(folder: Path) -> None:
    with web(FakeBrave(["429"])) as server:
        output = await ask(brave_search(settings(folder), base_url=server.url))
        assert len(server.asked) == 2
    assert json.loads(output.text)["top_k"]
    assert spent(folder) == 1


async def test_a_spent_quota_is_told_and_nothing_more_is_sent(folder: Path) -> None:
    with web(FakeBrave(["spent"])) as server:
        tool = brave_search(settings(folder), base_url=server.url)
        for _ in range(3):
            with pytest.raises(ToolFailed, match="used up for another 16 days"):
                await ask(tool)
        assert len(server.asked) == 1
    assert spent(folder) == 0


async def test_an_answer_is_not_paid_for_twice(folder: Path) -> None:
    with web(FakeBrave()) as server:
        tool = brave_search(settings(folder), base_url=server.url)
        first = await ask(tool, "Stockholm weather")
        assert await ask(tool, "  Stockholm\n weather ") == first
        await ask(tool, "stockholm Weather")
        assert len(server.asked) == 2
    assert spent(folder) == 2


@pytest.mark.parametrize("query", ["x" * 401, "x " * 51])
async def test_a_query_that_brave_would_refuse_is_not_sent(folder: Path, query: str) -> None:
    with web(FakeBrave()) as server:
        with pytest.raises(ToolFailed, match="fewer words"):
            await ask(brave_search(settings(folder), base_url=server.url), query)
        assert not server.asked


async def test_an_empty_query_is_not_sent(folder: Path) -> None:
    with web(FakeBrave()) as server:
        with pytest.raises(ToolFailed, match="empty"):
            await ask(brave_search(settings(folder), base_url=server.url), " \n")
        assert not server.asked


async def test_calls_at_once_keep_to_the_plans_rate(folder: Path) -> None:
    headers = {"X-RateLimit-Limit": "5", "X-RateLimit-Policy": "5;w=1"}
    with web(FakeBrave(headers=headers)) as server:
        tool = brave_search(settings(folder), base_url=server.url)
        await ask(tool, "first")
        await asyncio.gather(*(ask(tool, f"query {n}") for n in range(4)))
    times = sorted(one.at for one in server.asked)
    gaps = [after - before for before, after in pairwise(times[1:])]
    assert all(gap > 0.15 for gap in gaps)


# --- The monthly cap


async def test_the_monthly_cap_holds_before_anything_is_sent(folder: Path) -> None:
    with web(FakeBrave()) as server:
        tool = brave_search(settings(folder, brave_monthly_cap=1), base_url=server.url)
        await ask(tool, "one")
        for _ in range(2):
            with pytest.raises(ToolFailed, match=r"1 searches.*PUNA_BRAVE_MONTHLY_CAP"):
                await ask(tool, "two")
        assert len(server.asked) == 1
        await ask(tool, "one")  # remembered
    assert spent(folder) == 1


def test_a_cap_is_on_without_being_asked_for(folder: Path) -> None:
    assert settings(folder).brave_monthly_cap == 1000


def test_a_new_month_begins_at_nothing(folder: Path) -> None:
    now = [datetime(2026, 11, 30, 23, 59, tzinfo=UTC)]
    budget = Budget(folder / "count.json", 1, lambda: now[0])
    with budget.spend():
        pass
    with pytest.raises(ToolFailed, match="used up"), budget.spend():
        pass
    now[0] = datetime(2026, 12, 1, tzinfo=UTC)
    with budget.spend():
        pass


@pytest.mark.parametrize("text", ["{", "[]", "3", '{"month": 3, "requests": 0}', "null"])
def test_a_count_that_cannot_be_read_stops_the_spending(folder: Path, text: str) -> None:
    path = folder / "count.json"
    path.write_text(text)
    with pytest.raises(StartupError, match="mend or remove"):
        Budget(path, 10)
    path.unlink()
    budget = Budget(path, 10)
    path.write_text(text)
    with pytest.raises(ToolFailed, match="mend or remove"), budget.spend():
        pass


def spend_many(path: Path) -> int:
    budget, done = Budget(path, 30), 0
    for _ in range(20):
        with suppress(ToolFailed), budget.spend():
            done += 1
    return done


def test_programs_that_share_the_count_do_not_spend_more_together(folder: Path) -> None:
    # A lock on an open file holds between threads as it does between processes.
    with ThreadPoolExecutor(3) as programs:
        assert sum(programs.map(spend_many, [folder / "count.json"] * 3)) == 30


def test_a_state_folder_that_cannot_be_written_is_told_at_the_start(folder: Path) -> None:
    (folder / "state").write_text("a file")
    with pytest.raises(StartupError, match="cannot be counted"):
        brave_search(settings(folder))


# --- The throttle


def throttle() -> tuple[Throttle, list[float]]:
    clock = [100.0]
    return Throttle(lambda: clock[0]), clock


def test_before_the_first_answer_one_request_a_second_goes_out() -> None:
    one, _ = throttle()
    assert [one.turn() for _ in range(3)] == [0, 1, 2]


def test_braves_documented_headers_are_understood() -> None:
    one, clock = throttle()
    one.turn()
    one.learn({"x-ratelimit-limit": "1, 15000", "x-ratelimit-policy": "1;w=1, 15000;w=2592000",
               "x-ratelimit-remaining": "0, 14523", "x-ratelimit-reset": "1, 1419704"})  # fmt: skip
    assert one.turn() == 1
    clock[0] += 10
    one.learn({"x-ratelimit-limit": "1, 15000", "x-ratelimit-policy": "1;w=1, 15000;w=2592000",
               "x-ratelimit-remaining": "1, 0", "x-ratelimit-reset": "1, 1419704"})  # fmt: skip
    with pytest.raises(ToolFailed, match="16 days"):
        one.turn()


def test_a_limit_of_zero_is_no_limit() -> None:
    one, clock = throttle()
    one.learn({"x-ratelimit-limit": "50, 0", "x-ratelimit-policy": "50;w=1, 0;w=2592000",
               "x-ratelimit-remaining": "49, 0", "x-ratelimit-reset": "1, 1419704"})  # fmt: skip
    clock[0] += 1
    assert one.turn() == 0
    assert one.turn() == pytest.approx(0.02)


@given(
    st.dictionaries(
        st.sampled_from(["limit", "remaining", "reset", "policy"]).map("x-ratelimit-{}".format),
        st.text("0123456789,;w=. -einfna", max_size=20),
    ),
    st.booleans(),
)
def test_no_header_breaks_the_throttle(headers: dict[str, str], refused: bool) -> None:
    one, _ = throttle()
    one.learn(headers, refused=refused)
    with suppress(ToolFailed):
        assert 0 <= one.turn() <= 10


# --- Results


@hypothesis(suppress_health_check=[HealthCheck.too_slow], max_examples=50)
@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.just("web"),
    lambda inner: st.lists(inner) | st.dictionaries(
        st.sampled_from(["mixed", "main", "web", "results", "type", "index", "all", "title", "url",
                         "grounding", "generic", "snippets", "sources", "age", "poi", "map"]),
        inner),
))  # fmt: skip
def test_no_answer_breaks_the_reading(found: object) -> None:
    for read in (web_results, context_results):
        for one in worth(read(found), 5):
            json.dumps(one.as_json())


def test_every_documented_result_is_found_once() -> None:
    found = worth(web_results(brave_web("x")), 20)
    assert [one.kind for one in found] == ["web", "web", "faq"]


def test_markup_goes_and_text_stays() -> None:
    assert plain("a <b>bold</b> &lt;tag&gt; if 1 < 2 and 3 > 2", 99) == (
        "a bold <tag> if 1 < 2 and 3 > 2"
    )
    assert plain("x" * 20, 10) == "x" * 9 + "…"
    assert plain(None, 10) == plain(3, 10) == ""


@pytest.mark.parametrize("url", ["javascript:alert(1)", "", None, "http://a\nb", "data:,x", 3])
def test_what_has_no_address_is_no_result(url: object) -> None:
    assert worth([result({"title": "t", "url": url})], 5) == []


def test_answers_are_forgotten_after_a_while() -> None:
    clock = [0.0]
    kept = Answers(lambda: clock[0])
    found = [Result("t", "http://a", "d")]
    kept.put("q", found)
    clock[0] = KEEP_SECONDS - 1
    assert kept.get("q") == found
    clock[0] = KEEP_SECONDS
    assert kept.get("q") is None


# --- Without a key


async def test_without_a_key_the_users_own_searxng_answers(folder: Path) -> None:
    with web(FakeSearxng()) as server:
        known = settings(folder, brave_api_key=None, searxng_url=server.url)
        output = await ask(brave_search(known))
    assert output.source == "SearXNG at 127.0.0.1"
    assert json.loads(output.text) == {
        "query": "Stockholm weather",
        "top_k": [
            {
                "type": "web",
                "title": "Weather in Stockholm",
                "url": "https://example.com/weather",
                "description": "Rain later. You asked: Stockholm weather",
                "date": "2026-11-21T08:00:00",
            }
        ],
    }
    assert server.asked[0].path == "/search"


@pytest.mark.parametrize(("status", "told"), [(403, "search.formats"), (500, "answered 500")])
async def test_a_searxng_that_gives_no_results_says_why(
    folder: Path, status: int, told: str
) -> None:
    with web(FakeSearxng(status)) as server:
        known = settings(folder, brave_api_key=None, searxng_url=server.url + "/search")
        with pytest.raises(ToolFailed, match=told):
            await ask(brave_search(known))


async def test_a_searxng_cannot_lead_elsewhere_in_the_network(folder: Path) -> None:
    def away(_: Asked) -> Told:
        return Told(302, headers={"Location": f"http://localhost:{other.port}/"})

    with web(FakeSearxng()) as other, web(away) as server:
        known = settings(folder, brave_api_key=None, searxng_url=server.url)
        with pytest.raises(ToolFailed, match="not public"):
            await ask(brave_search(known))
        assert not other.asked


@pytest.mark.parametrize("url", ["localhost:8888", "ftp://x", "http://", "nonsense"])
def test_a_searxng_without_an_address_is_told_at_the_start(folder: Path, url: str) -> None:
    with pytest.raises(StartupError, match="searxng_url"):
        brave_search(settings(folder, brave_api_key=None, searxng_url=url))


def test_with_nobody_to_ask_it_says_what_to_set(folder: Path) -> None:
    with pytest.raises(StartupError, match=r"keys set brave_search.*SEARXNG_URL.*FALLBACK=ddgs"):
        brave_search(settings(folder, brave_api_key=None))


async def test_ddgs_is_asked_only_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class DDGSException(Exception):
        pass

    class DDGS:
        def __init__(self, **_: object) -> None:
            pass

        def text(self, query: str, max_results: int) -> list[dict[str, str]]:
            if query == "nothing":
                raise DDGSException("No results found.")
            return [
                {"title": "T", "href": "https://example.com/", "body": f"{query} {max_results}"}
            ]

    fake = types.ModuleType("ddgs")
    fake.DDGS = DDGS  # type: ignore[attr-defined]
    fake.__spec__ = __import__("importlib.machinery").machinery.ModuleSpec("ddgs", None)
    exceptions = types.ModuleType("ddgs.exceptions")
    exceptions.DDGSException = DDGSException  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "ddgs", fake)
    monkeypatch.setitem(sys.modules, "ddgs.exceptions", exceptions)
    tool = brave_search(settings(folder, brave_api_key=None, search_fallback="ddgs"))
    output = await ask(tool, "q")
    assert output.source == "public search engines (ddgs)"
    assert json.loads(output.text)["top_k"][0]["description"] == "q 5"
    with pytest.raises(ToolFailed, match="No results"):
        await ask(tool, "nothing")


def test_the_real_ddgs_has_the_call_that_is_used() -> None:
    ddgs = pytest.importorskip("ddgs")
    from ddgs.exceptions import DDGSException

    assert issubclass(DDGSException, Exception)
    assert callable(ddgs.DDGS(timeout=10).text)
