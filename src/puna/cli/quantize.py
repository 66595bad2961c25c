"""`puna quantize`: any checkpoint -> one prepared file that is there as soon as it is opened."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

FORMATS = ("int4", "int8", "bf16")


def quantize(
    model: Annotated[
        str,
        typer.Argument(
            help="A path (an HF or Meta folder, a GGUF file), catalog name or embedded model.",
            metavar="MODEL",
        ),
    ],
    to: Annotated[
        Path | None,
        typer.Option(help="The file to write.", metavar="FILE", show_default="MODEL-FORMAT.puna"),
    ] = None,
    format: Annotated[  # noqa: A002 - the option's name
        str | None,
        typer.Option(
            help="Bits of a weight.",
            metavar="|".join(FORMATS),
            show_default="a GGUF's own, else int4",
        ),
    ] = None,
    force: Annotated[
        bool, typer.Option("--force", help="Overwrite FILE.", show_default=False)
    ] = False,
) -> int:
    """Write a model in few bits to one file, which `puna serve FILE` loads in about a second.

    With int4 the head, cross-attention and the vision encoder keep more bits. A quantised GGUF
    is taken over as it is. The file holds the tokenizer and all else that a model needs.
    """
    from puna.cli.terminal import gigabytes, progress_bars, say
    from puna.opening import locate, model_name, settings_from

    asked = _checked(format)
    path = locate(model, settings_from({}))

    from puna.llama.prepare import prepare
    from puna.llama.weights import open_checkpoint

    checkpoint = open_checkpoint(path)
    packing = asked or ("stored" if checkpoint.quantized else "int4")
    words = (packing if packing != "stored" else checkpoint.quantized) or packing
    target = (to or Path(f"{model_name(model)}-{words}.puna")).expanduser()
    with progress_bars() as progress:
        size = prepare(
            checkpoint,
            target,
            packing,
            force=force,
            progress=lambda done, total: progress(target.name, done, total),
        )
    print(target)
    say(f"{words}, {gigabytes(size)}; to go on: puna serve {target}")
    return 0


def _checked(name: str | None) -> Literal["int4", "int8", "bf16"] | None:
    if name is None or name == "int4" or name == "int8" or name == "bf16":
        return name
    raise typer.BadParameter(f"--format {name!r}: expected {', '.join(FORMATS)}")
