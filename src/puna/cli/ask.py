"""`puna ask`: one question, one answer; a pipe is read, too."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puna.cli.options import (
    Asking,
    Device,
    Dtype,
    MaxContext,
    MaxTokens,
    Pin,
    Quantize,
    Record,
    Replay,
    Seed,
    System,
    Temperature,
    Tools,
)

if TYPE_CHECKING:
    from puna.chat import ChatEvent, Reply
    from puna.cli.steps import Steps


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
    tools: Tools = None,
    asking: Asking = None,
    pin: Pin = None,
    record: Record = None,
    replay: Replay = None,
) -> int:
    """Ask one question: puna ask "What is the weather in Stockholm?"

    `cat notes.txt | puna ask "What is this about?"` sends both; `-` alone reads the pipe.
    """
    from puna.api import Model, sampling_from
    from puna.cli.steps import Steps
    from puna.cli.terminal import loading, read_image
    from puna.cli.tools import Wanted, opened_tools
    from puna.opening import settings_from

    content = [*(read_image(path) for path in image or ()), *_words(question)]
    messages: list[dict[str, Any]] = [{"role": "user", "content": content}]
    if system is not None:
        messages.insert(0, {"role": "system", "content": system})
    sampling: dict[str, Any] = {"max_tokens": max_tokens, "temperature": temperature, "seed": seed}
    sampling_from(sampling)  # Wrong values are told before a model is loaded.
    settings = settings_from(
        {
            "device": device,
            "dtype": dtype,
            "quantize": quantize,
            "max_context": max_context,
            "pinned_tools": pin,
        }
    )
    # Nobody is asked: a pipe may be where the answers would come from.
    with opened_tools(Wanted(tools or (), asking or (), record, replay), settings) as ready:
        answering = loading(model or ("cria-vision" if image else "cria-text"), settings)
        if ready is not None:
            answering = ready.give(answering)
        chosen = Model(answering)
        if json_output:
            return _print_json(chosen.chat(messages, **sampling))
        return _print_stream(chosen.events(messages, **sampling), Steps())


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
        "steps": [
            {
                "name": step.call.name,
                "arguments": step.call.arguments,
                "content": step.content,
                "is_error": step.is_error,
                "source": step.source,
            }
            for step in reply.steps
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


def _print_stream(events: Iterator[ChatEvent], steps: Steps) -> int:
    from puna.chat import Finished, TextDelta
    from puna.cli.terminal import printable, say

    for event in events:
        if isinstance(event, TextDelta):
            print(printable(event.text), end="", flush=True)
        elif isinstance(event, Finished):
            print()
            if event.reason == "length":
                say(f"cut after {event.usage.completion_tokens} tokens (--max-tokens allows more)")
        else:
            steps.show(event)
    return 0
