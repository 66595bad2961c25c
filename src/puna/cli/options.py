"""Options that several commands share, and the reading of sizes and aliases.

It knows typer; what an option means is settings' business.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12}


def size(text: str) -> int:
    """`4GiB`, `512MB`, `2G` or plain bytes -> bytes."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgt])(i?))?b?\s*", text, re.IGNORECASE)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no size; expected bytes, or like 512MB or 4GiB")
    number, unit, binary = match.groups(default="")
    factor = 1024 ** "_kmgt".index(unit.lower()) if binary else _UNITS[unit.lower()]
    return int(float(number) * factor)


def aliases(pairs: Iterable[str]) -> dict[str, str]:
    """`NAME=MODEL` ... -> a mapping."""
    found: dict[str, str] = {}
    for pair in pairs:
        name, sign, model = (part.strip() for part in pair.partition("="))
        if not (name and sign and model):
            raise typer.BadParameter(f"--alias {pair!r}: expected NAME=MODEL")
        found[name] = model
    return found


Device = Annotated[
    str | None, typer.Option(help="Where to compute.", metavar="auto|cpu|cuda", show_default="auto")
]
Dtype = Annotated[
    str | None,
    typer.Option(
        help="How exact: auto, float32, bfloat16 or float16.", metavar="DTYPE", show_default="auto"
    ),
]
Quantize = Annotated[
    str | None,
    typer.Option(
        help="Weights in fewer bits (CPU alone so far); auto: as the files have them.",
        metavar="auto|none|int8|int4",
        show_default="auto",
    ),
]
MaxContext = Annotated[
    int | None,
    typer.Option(
        help="Tokens that prompt and answer may have together.",
        metavar="TOKENS",
        show_default="the model's",
    ),
]
KvDtype = Annotated[
    str | None,
    typer.Option(
        "--kv",
        help="Keys and values in fewer bits: int8 holds twice as many tokens (CPU alone so far).",
        metavar="auto|float32|bfloat16|int8",
        show_default="auto",
    ),
]
KvMemory = Annotated[
    int | None,
    typer.Option(
        help="Memory for keys and values, like 4GiB.",
        parser=size,
        metavar="SIZE",
        show_default="what is free",
    ),
]
Draft = Annotated[
    str | None,
    typer.Option(
        help="A smaller model with the same tokens, which guesses ahead: faster, the same text.",
        metavar="MODEL",
        show_default="none",
    ),
]
Speculation = Annotated[
    str | None,
    typer.Option(
        help="Guess tokens ahead where that is faster; no text changes by it.",
        metavar="auto|off",
        show_default="auto",
    ),
]
Alias = Annotated[
    list[str] | None,
    typer.Option(help="Let NAME reach MODEL too; may be given again.", metavar="NAME=MODEL"),
]
System = Annotated[
    str | None, typer.Option("--system", "-s", help="The system message.", metavar="TEXT")
]
Temperature = Annotated[
    float | None,
    typer.Option(
        help="From 0, always the same, to 2.", metavar="NUMBER", show_default="the model's"
    ),
]
MaxTokens = Annotated[
    int | None, typer.Option(help="Tokens of an answer, at most.", metavar="TOKENS")
]
Seed = Annotated[int | None, typer.Option(help="Same seed, same answer.", metavar="NUMBER")]
Tools = Annotated[
    list[str] | None,
    typer.Option(
        help="Tools that Puna runs for the model: brave_search, wolfram_alpha, code_interpreter, "
        "FILE.py, mcp:NAME; several with commas.",
        metavar="NAMES",
    ),
]
Asking = Annotated[
    list[str] | None,
    typer.Option(
        "--ask",
        help="Ask a person before tool NAME runs: never, once or always; may be given again.",
        metavar="NAME=WHEN",
        show_default="never if it changes nothing, else always",
    ),
]
Pin = Annotated[
    list[str] | None,
    typer.Option(help="Offer this tool however many there are.", metavar="NAME"),
]
Record = Annotated[
    Path | None, typer.Option(help="Write what tools answer to a new file.", metavar="FILE")
]
Replay = Annotated[
    Path | None,
    typer.Option(help="Let such a file answer in the tools' place.", metavar="FILE"),
]
