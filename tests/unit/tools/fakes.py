"""Fakes of outside services, after their documented shapes. Nothing here is the real thing.

Each is an answer for `web`: Brave's web search and LLM context, SearXNG's JSON, and Wolfram|Alpha's
full results and LLM API. `mood` says how the service feels today.
"""

from __future__ import annotations

import gzip
import json
from dataclasses import dataclass, field
from typing import Any

from tests.unit.tools.web import Asked, Told

BRAVE_KEY = "fake-brave-key-0123456789"
WOLFRAM_ID = "FAKE-APPID"

PLENTY = {
    "X-RateLimit-Limit": "50, 0",
    "X-RateLimit-Policy": "50;w=1, 0;w=2592000",
    "X-RateLimit-Remaining": "49, 0",
    "X-RateLimit-Reset": "1, 1419704",
}


def brave_web(query: str) -> dict[str, Any]:
    return {
        "type": "search",
        "query": {"original": query, "is_navigational": False, "more_results_available": True},
        "mixed": {
            "type": "mixed",
            "main": [
                {"type": "web", "index": 1, "all": False},
                {"type": "web", "index": 0, "all": False},
                {"type": "faq", "all": True},
                {"type": "unheard_of", "index": 7, "all": False},
                {"type": "web", "index": 99, "all": False},
            ],
            "top": [],
            "side": [],
        },
        "web": {
            "type": "search",
            "results": [
                {
                    "type": "search_result",
                    "title": "Stockholm &amp; the sea",
                    "url": "https://example.com/sea",
                    "description": "Mostly <strong>cloudy</strong>, 4 °C &lt; 10 °C.",
                    "age": "2 days ago",
                    "page_age": "2026-11-21T08:00:00",
                    "profile": {"name": "Example"},
                },
                {
                    "type": "search_result",
                    "title": "Weather in Stockholm",
                    "url": "https://example.com/weather",
                    "description": f"Rain later. You asked: {query}",
                    "extra_snippets": ["Wind 5 m/s.", "Sunset 15:02.", "a", "b"],
                },
            ],
        },
        "faq": {
            "type": "faq",
            "results": [
                {
                    "question": "Is it cold?",
                    "answer": "Yes.",
                    "title": "Cold",
                    "url": "https://example.com/faq",
                }
            ],
        },
    }


def brave_context(query: str) -> dict[str, Any]:
    return {
        "grounding": {
            "generic": [
                {
                    "url": "https://example.com/weather",
                    "title": "Weather in Stockholm",
                    "snippets": ["Rain later.", f"You asked: {query}"],
                }
            ],
            "poi": {
                "name": "A place",
                "url": "https://place.example/",
                "title": None,
                "snippets": ["Open."],
            },
            "map": [],
        },
        "sources": {
            "https://example.com/weather": {
                "title": "Weather in Stockholm",
                "hostname": "example.com",
                "age": ["Saturday, November 21, 2026", "2026-11-21", "2 days ago"],
            }
        },
    }


def brave_error(status: int, code: str, detail: str, **headers: str) -> Told:
    error = {"id": "0", "status": status, "code": code, "detail": detail, "meta": {}}
    return Told(status, {"type": "ErrorResponse", "error": error, "time": 1763900000}, headers)


@dataclass
class FakeBrave:
    """`moods` are used up one by one; then it is well."""

    moods: list[str] = field(default_factory=list)
    headers: dict[str, str] = field(default_factory=lambda: dict(PLENTY))

    def __call__(self, asked: Asked) -> Told:
        if asked.headers.get("x-subscription-token") != BRAVE_KEY:
            detail = "The provided subscription token is invalid."
            return brave_error(422, "SUBSCRIPTION_TOKEN_INVALID", detail)
        query = asked.params.get("q", "")
        match asked.path:
            case "/res/v1/web/search":
                found = brave_web(query)
            case "/res/v1/llm/context":
                found = brave_context(query)
            case _:
                return Told(404, {"type": "ErrorResponse"})
        match self.moods.pop(0) if self.moods else "well":
            case "gzip":
                body = gzip.compress(json.dumps(found).encode())
                return Told(200, body, {**self.headers, "Content-Encoding": "gzip"})
            case "401":
                return brave_error(401, "UNAUTHORIZED", "No token.")
            case "403":
                return brave_error(403, "OPTION_NOT_IN_PLAN", "The option is not in the plan.")
            case "422":
                return brave_error(422, "VALIDATION", "Unable to validate request parameter(s)")
            case "429":
                detail = "Request rate limit exceeded for plan."
                headers = {**PLENTY, "X-RateLimit-Remaining": "0, 0", "X-RateLimit-Reset": "0, 0"}
                return brave_error(429, "RATE_LIMITED", detail, **headers)
            case "spent":
                headers = {
                    "X-RateLimit-Limit": "1, 15000",
                    "X-RateLimit-Policy": "1;w=1, 15000;w=2592000",
                    "X-RateLimit-Remaining": "1, 0",
                    "X-RateLimit-Reset": "1, 1419704",
                }
                return brave_error(429, "QUOTA_LIMITED", "Quota exceeded.", **headers)
            case "501":
                return Told(501, b"not implemented")
            case "hang":
                return Told(hang=True)
            case "truncated":
                return Told(200, json.dumps(found).encode()[:-40], self.headers)
            case "list":
                return Told(200, [found], self.headers)
            case "broken off":
                return Told(200, b"{", self.headers, length=1000)
            case "no mixed":
                del found["mixed"]
            case "nonsense":
                found = {"mixed": {"main": [None, {"type": "web", "index": "0"}, 3]}, "web": [1]}
            case "empty":
                found = {"type": "search", "query": {"original": query}}
        return Told(200, found, self.headers)


@dataclass
class FakeSearxng:
    status: int = 200

    def __call__(self, asked: Asked) -> Told:
        if self.status != 200 or asked.params.get("format") != "json":
            return Told(self.status if self.status != 200 else 403, b"Forbidden")
        query = asked.params["q"]
        return Told(
            200,
            {
                "query": query,
                "number_of_results": 2,
                "results": [
                    {
                        "url": "https://example.com/weather",
                        "title": "Weather in Stockholm",
                        "content": f"Rain later. You asked: {query}",
                        "engine": "fake",
                        "publishedDate": "2026-11-21T08:00:00",
                        "score": 2.0,
                    },
                    {"url": "javascript:alert(1)", "title": "No address", "content": "x"},
                ],
                "answers": [],
                "infoboxes": [],
                "unresponsive_engines": [],
            },
        )


def wolfram_full(query: str) -> dict[str, Any]:
    return {
        "queryresult": {
            "success": True,
            "error": False,
            "numpods": 3,
            "datatypes": "Solve",
            "timedout": "",
            "timedoutpods": "",
            "timing": 1.1,
            "parsetiming": 0.2,
            "parsetimedout": False,
            "recalculate": "",
            "id": "MSP1",
            "host": "https://www6b3.wolframalpha.com",
            "server": "19",
            "related": "https://www6b3.wolframalpha.com/api/v1/relatedQueries.jsp",
            "version": "2.6",
            "inputstring": query,
            "pods": [
                {
                    "title": "Input interpretation",
                    "scanner": "Identity",
                    "id": "Input",
                    "position": 100,
                    "error": False,
                    "numsubpods": 1,
                    "subpods": [{"title": "", "plaintext": f"solve {query}"}],
                    "expressiontypes": {"name": "Default"},
                    "states": [],
                },
                {
                    "title": "Result",
                    "scanner": "Solve",
                    "id": "Result",
                    "position": 200,
                    "error": False,
                    "numsubpods": 1,
                    "primary": True,
                    "subpods": [{"title": "", "plaintext": "x = 4", "img": {"src": "x"}}],
                },
                {
                    "title": "Plot",
                    "scanner": "Plot",
                    "id": "Plot",
                    "position": 300,
                    "error": False,
                    "numsubpods": 1,
                    "subpods": [{"title": "", "plaintext": ""}],
                },
            ],
        }
    }


@dataclass
class FakeWolfram:
    moods: list[str] = field(default_factory=list)

    def __call__(self, asked: Asked) -> Told:
        llm = asked.path == "/api/v1/llm-api"
        if not llm and asked.path != "/v2/query":
            return Told(404)
        bearer = asked.headers.get("authorization", "").removeprefix("Bearer ")
        if (bearer if llm else asked.params.get("appid")) != WOLFRAM_ID:
            if llm:
                return Told(403, b"Error 1: Invalid appid.")
            error = {"code": "1", "msg": "Invalid appid"}
            return Told(200, {"queryresult": {"success": False, "error": error, "numpods": 0}})
        query = asked.params.get("input", "")
        match self.moods.pop(0) if self.moods else "well":
            case "501":
                return Told(501, b"Wolfram|Alpha did not understand your input")
            case "not understood":
                told = {
                    "success": False,
                    "error": False,
                    "numpods": 0,
                    "didyoumeans": [{"score": "0.4", "level": "low", "val": "weather Stockholm"}],
                    "tips": {"text": "Check your spelling, and use English"},
                }
                return Told(200, {"queryresult": told})
            case "429":
                return Told(429, b"Too many")
            case "500":
                return Told(500, b"")
            case "hang":
                return Told(hang=True)
            case "truncated":
                return Told(200, json.dumps(wolfram_full(query)).encode()[:-30])
            case "gzip" if not llm:
                body = gzip.compress(json.dumps(wolfram_full(query)).encode())
                return Told(200, body, {"Content-Encoding": "gzip"})
        if llm:
            return Told(200, f'Query:\n"{query}"\n\nResult:\nx = 4\n'.encode())
        return Told(200, wolfram_full(query))
