"""`wolfram_alpha`: Wolfram|Alpha where there is an app id, else what SymPy and Pint can answer.

It knows Wolfram's two APIs, the full results and the one made for language models, and gives the
model the shape that Meta documents (`queryresult`, with its pods). The app id goes to Wolfram
alone, and into no message.
"""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any, cast

from puna.errors import ToolFailed
from puna.settings import Settings
from puna.tools.keys import key_of
from puna.tools.mathematics.child import GaveUp, Mathematicians
from puna.tools.outside import Answer, Refused, fetch
from puna.tools.tool import Arguments, Output, Run, Session, Tool

FULL = "https://api.wolframalpha.com"
LLM = "https://www.wolframalpha.com"
SECONDS = 30.0
MAX_QUERY = 1000
MAX_TEXT = 6800
MAX_PODS = 8

HERE = "SymPy and Pint on this machine"


def wolfram_alpha(settings: Settings, *, base_url: str | None = None) -> Tool:
    """The tool. Without an app id it computes on this machine, and each answer says so.

    Another `base_url` than Wolfram's may be anywhere, also inside the own network.
    """
    app_id = key_of("wolfram_alpha", settings)
    return Tool(
        name="wolfram_alpha",
        description=(
            "Compute: algebra, calculus, equations, numbers, units, dates"
            + (", and facts about the world." if app_id else ".")
        ),
        parameters={
            "type": "object",
            "properties": {
                "query": {"type": "string", "description": "What to compute, in a few words."}
            },
            "required": ["query"],
            "additionalProperties": False,
        },
        run=_asking(app_id, settings.wolfram_endpoint, base_url) if app_id else _computing(),
        read_only=True,
    )


# --- On this machine


def _computing() -> Run:
    mathematicians = Mathematicians()

    async def run(arguments: Arguments, _: Session) -> Output:
        query = _query(arguments)
        try:
            found = await mathematicians.ask(query, datetime.now().astimezone().date())
        except GaveUp as error:
            raise ToolFailed(f"{HERE} gave up on {query[:80]!r}: {error}") from None
        if "pods" not in found:
            raise ToolFailed(
                f"{HERE} cannot answer {query[:80]!r}: {found['unknown']}. They do algebra, "
                "calculus, equations, numbers, units and dates, in words like 'solve x^2 = 4', "
                "'derivative of sin x', '12 miles in km', 'days between 2024-01-01 and 2024-12-25'."
                " For the rest the owner can set an app id: puna keys set wolfram_alpha"
            )
        told = {"success": True, "inputstring": query, "pods": found["pods"], "source": HERE}
        return _output({"queryresult": told}, HERE)

    return run


# --- At Wolfram's


def _asking(app_id: str, endpoint: str, base_url: str | None) -> Run:
    async def run(arguments: Arguments, _: Session) -> Output:
        query = _query(arguments)
        try:
            if endpoint == "llm":
                answer = await fetch(
                    f"{(base_url or LLM).rstrip('/')}/api/v1/llm-api",
                    params={"input": query, "maxchars": str(MAX_TEXT)},
                    headers={"Authorization": f"Bearer {app_id}"},
                    own=base_url is not None,
                    seconds=SECONDS,
                )
            else:
                answer = await fetch(
                    f"{(base_url or FULL).rstrip('/')}/v2/query",
                    params={
                        "input": query,
                        "appid": app_id,
                        "format": "plaintext",
                        "output": "json",
                    },
                    own=base_url is not None,
                    seconds=SECONDS,
                )
        except Refused as error:
            raise ToolFailed(f"Wolfram|Alpha cannot be reached: {error}") from None
        return _llm_output(answer, query) if endpoint == "llm" else _full_output(answer, query)

    return run


_NAME = "Wolfram|Alpha"


def _llm_output(answer: Answer, query: str) -> Output:
    text = answer.body.decode("utf-8", "replace").strip()
    if answer.status == 501:
        raise ToolFailed(_not_understood(query, text))
    _check(answer)
    return Output(text[:MAX_TEXT], source=_NAME)


def _full_output(answer: Answer, query: str) -> Output:
    if answer.status == 501:
        raise ToolFailed(_not_understood(query))
    _check(answer)
    try:
        found: Any = json.loads(answer.body)["queryresult"]
    except (ValueError, KeyError, TypeError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ToolFailed("Wolfram|Alpha's answer broke off; try again")
    result = cast("dict[str, Any]", found)
    error = result.get("error")
    if isinstance(error, dict):
        told = str(cast("dict[str, Any]", error).get("msg", "an error"))[:200]
        raise ToolFailed(_refused(told) if "appid" in told.lower() else f"Wolfram|Alpha: {told}")
    pods = [pod for pod in map(_pod, _list(result.get("pods"))) if pod is not None]
    if not result.get("success") or not pods:
        raise ToolFailed(_not_understood(query, _suggestions(result)))
    told = {"success": True, "inputstring": query, "pods": _up_to_the_result(pods)}
    return _output({"queryresult": told}, _NAME)


def _pod(pod: Any) -> dict[str, Any] | None:
    """What of a pod can be read: its title and its texts."""
    if not isinstance(pod, dict):
        return None
    fields = cast("dict[str, Any]", pod)
    subpods: list[dict[str, str]] = []
    for one in _list(fields.get("subpods")):
        sub = cast("dict[str, Any]", one) if isinstance(one, dict) else {}
        text = sub.get("plaintext")
        if isinstance(text, str) and text:
            subpods.append({"title": str(sub.get("title", "")), "plaintext": text[:2000]})
    return {"title": str(fields.get("title", "")), "subpods": subpods} if subpods else None


def _up_to_the_result(pods: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """As Meta's own tool does: what comes after the pod `Result` is left out."""
    for index, pod in enumerate(pods):
        if pod["title"] == "Result":
            return pods[: index + 1]
    return pods[:MAX_PODS]


def _check(answer: Answer) -> None:
    match answer.status:
        case 200:
            return
        case 401 | 403:
            raise ToolFailed(_refused(str(answer.status)))
        case 429:
            raise ToolFailed("Wolfram|Alpha answered 429: too many questions; try again later")
        case status:
            raise ToolFailed(f"Wolfram|Alpha answered {status}; try again, or in other words")


def _refused(told: str) -> str:
    return (
        f"Wolfram|Alpha refused the app id ({told}); the owner sets it: puna keys set wolfram_alpha"
    )


def _not_understood(query: str, more: str = "") -> str:
    told = f"Wolfram|Alpha has no answer to {query[:80]!r}; ask in other words, in English."
    return f"{told} {' '.join(more.split())[:500]}".strip()


def _suggestions(result: dict[str, Any]) -> str:
    found = result.get("didyoumeans")
    many = cast("list[Any]", found) if isinstance(found, list) else [found]
    values = [
        str(cast("dict[str, Any]", one).get("val", "")) for one in many if isinstance(one, dict)
    ]
    return f"It suggests: {', '.join(values)}" if any(values) else ""


def _list(value: Any) -> list[Any]:
    return cast("list[Any]", value) if isinstance(value, list) else []


def _query(arguments: Arguments) -> str:
    query = str(arguments["query"]).strip()
    if not query:
        raise ToolFailed("query is empty; expected what to compute")
    if len(query) > MAX_QUERY:
        raise ToolFailed(f"query has {len(query)} characters; expected {MAX_QUERY} at most")
    return query


def _output(told: dict[str, Any], source: str) -> Output:
    return Output(json.dumps(told, ensure_ascii=False), source=source)
