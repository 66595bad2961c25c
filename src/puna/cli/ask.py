"""`puna ask`: one question, one answer; a pipe is read, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puna.cli.options import (
    Device,
    Dtype,
    MaxContext,
    MaxTokens,
    Quantize,
    Seed,
    System,
    Temperature,
)

if TYPE_CHECKING:
    from puna.chat import ChatEvent, Reply


def ask(
    question: Annotated[
        str | None,
        typer.Argument(help="What to ask; text from a pipe follows it.", metavar="QUESTION"),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            help="Path, catalog name or http address.",
            metavar="MODEL",
            show_default="cria-text; with an image cria-vision",
        ),
    ] = None,
    image: Annotated[
        list[Path] | None,
        typer.Option("--image", "-i", help="An image; may be given again.", metavar="FILE"),
    ] = None,
    system: System = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print one JSON object: text, calls, reason, usage.")
    ] = False,
    max_tokens: MaxTokens = None,
    temperature: Temperature = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    max_context: MaxContext = None,
) -> int:
    """Ask one question: puna ask "What is the weather in Stockholm?"

    `cat notes.txt | puna ask "What is this about?"` sends both; `-` alone reads the pipe.
    """
    from puna.api import Model, sampling_from
    from puna.cli.terminal import loading, read_image
    from puna.opening import settings_from

    content = [*(read_image(path) for path in image or ()), *_words(question)]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    sampling: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    sampling_from(sampling)  # Wrong values are told before a model is loaded.
    settings = settings_from(
        {"device": device, "dtype": dtype, "quantize": quantize, "max_context": max_context}
    )
    chosen = Model(loading(model or ("cria-vision" if image else "cria-text"), settings))
    if json_output:
        return _print_json(chosen.chat(messages, **sampling))
    return _print_stream(chosen.events(messages, **sampling))


def _words(question: str | None) -> list[str]:
    """The question and what a pipe brings, each where there is one."""
    piped = "" if sys.stdin is None or sys.stdin.isatty() else sys.stdin.read().strip()
    asked = "" if question in (None, "-") else question
    words = "\n\n".join(part for part in (asked, piped) if part)
    if not words:
        raise typer.BadParameter('nothing to ask; expected a question: puna ask "..."')
    return [words]


def _print_json(reply: Reply) -> int:
    import json

    usage = reply.usage
    answer = {
        "text": reply.text,
        "tool_calls": [
            {"name": call.name, "arguments": call.arguments} for call in reply.tool_calls
        ],
        "finish_reason": reply.reason,
        "usage": {
            "prompt_tokens": usage.prompt_tokens,
            "completion_tokens": usage.completion_tokens,
            "total_tokens": usage.total_tokens,
        },
    }
    print(json.dumps(answer, ensure_ascii=False))
    return 0


def _print_stream(events: Iterator[ChatEvent]) -> int:
    from puna.chat import Finished, TextDelta
    from puna.cli.terminal import printable, say

    for event in events:
        if isinstance(event, TextDelta):
            print(printable(event.text), end="", flush=True)
        elif isinstance(event, Finished):
            print()
            if event.reason == "length":
                say(f"cut after {event.usage.completion_tokens} tokens (--max-tokens allows more)")
    return 0
