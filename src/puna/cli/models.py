"""`puna models`: the catalog, with what is on disk and what would fit in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from puna.llama.config import LlamaConfig
    from puna.settings import Settings

CONTEXT = 8192
Bits = Literal["int8", "int4"]


@dataclass(frozen=True, slots=True)
class Row:
    """A model as it is listed. Sizes in bytes, in bfloat16 unless said otherwise; `memory` with a
    context of `CONTEXT` tokens and, for a vision model, one picture."""

    name: str
    parameters: int
    vision: bool
    memory: int
    fits: bool
    on_disk: str | None


def models(
    everything: Annotated[
        bool, typer.Option("--all", help="Base models and those of Llama 3.0 as well.")
    ] = False,
    quantize: Annotated[
        str | None,
        typer.Option(
            help="Count the weights in so many bits.", metavar="int8|int4", show_default="bfloat16"
        ),
    ] = None,
    json_output: Annotated[bool, typer.Option("--json", help="Print a JSON list.")] = False,
) -> int:
    """List the models that Puna runs, which are on disk, and which would fit in memory."""
    from puna.cli.terminal import gigabytes
    from puna.opening import free_memory, settings_from

    bits = _bits(quantize)
    settings = settings_from({})
    free = free_memory(settings)
    rows = [
        *embedded_rows(),
        *prepared_rows(settings, free),
        *catalog_rows(settings, free, everything=everything, bits=bits),
    ]
    if json_output:
        import json

        print(json.dumps([asdict(row) for row in rows], indent=2))
        return 0
    widths = (max(len(row.name) for row in rows) + 2, 12, 9, 12)
    titles = ("MODEL", "PARAMETERS", "SEES", "MEMORY", "HERE")
    print(_line(titles, widths))
    for row in rows:
        memory = gigabytes(row.memory) + ("" if row.fits else " !")
        cells = (row.name, _parameters(row.parameters), "pictures" if row.vision else "-", memory)
        print(_line((*cells, row.on_disk or "-"), widths))
    print(
        f"\nMEMORY: weights in {bits or 'bfloat16'} and {CONTEXT:,} tokens; {gigabytes(free)} are "
        "free here, and ! does not fit.\n"
        "puts one on disk: puna pull MODEL    serves it: puna serve MODEL"
    )
    return 0


def embedded_rows() -> list[Row]:
    """The models that come with Puna, as they are in this installation."""
    import json

    from puna.errors import CheckpointError
    from puna.opening import EMBEDDED, embedded

    rows: list[Row] = []
    for name in EMBEDDED:
        try:
            folder = embedded(name)
        except CheckpointError:
            continue
        vision = "vision_config" in json.loads((folder / "config.json").read_bytes())
        count = sum(parameters_in(file) for file in folder.glob("*.safetensors"))
        # So small that they are computed in float32.
        rows.append(Row(name, count, vision, 4 * count, True, "embedded"))
    return rows


def parameters_in(file: Path) -> int:
    """The numbers that a safetensors file holds: its header says so, and no more is read."""
    import json
    import math

    with file.open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    return sum(math.prod(each["shape"]) for key, each in header.items() if key != "__metadata__")


def prepared_rows(settings: Settings, free: int) -> Iterator[Row]:
    """What `puna quantize` wrote here or into `models_dir`; their headers alone are read."""
    from puna.errors import CheckpointError
    from puna.llama.prepared_header import SUFFIX, read_header
    from puna.llama.shapes import count_parameters

    for folder in dict.fromkeys((Path(), settings.models_dir or Path())):
        for file in sorted(folder.glob(f"*{SUFFIX}")):
            try:
                config = read_header(file).config
            except CheckpointError:
                continue  # whoever names it is told
            weights = file.stat().st_size
            memory = weights + _beside_weights(config)
            count = count_parameters(config)
            vision = config.vision is not None
            yield Row(file.stem, count, vision, memory, memory <= free, str(file))


def catalog_rows(
    settings: Settings, free: int, *, everything: bool, bits: Bits | None = None
) -> list[Row]:
    """The published models that Puna runs; those on disk are never left out."""
    from puna.llama.catalog import CATALOG
    from puna.opening import find_on_disk, hub_of

    hub = hub_of(settings)
    rows: list[Row] = []
    for model in CATALOG:
        if model.config is None:
            continue
        found = find_on_disk(model.name, settings)
        begun = found is None and hub.begun(model.repository)
        old = model.name.startswith("Meta-Llama-3-")
        usual = model.name.endswith("-Instruct") and not old
        if not (everything or usual or found or begun):
            continue
        memory = _weights(model.config, bits) + _beside_weights(model.config)
        here = "in part" if begun else str(found) if found else None
        rows.append(
            Row(model.name, model.parameters or 0, model.vision, memory, memory <= free, here)
        )
    return rows


def _weights(config: LlamaConfig, bits: Bits | None) -> int:
    if bits is None:
        from puna.llama.catalog import footprint

        return footprint(config).weights
    from puna.llama.packing import packed_bytes  # imports torch, which takes seconds

    return packed_bytes(config, bits)


def _beside_weights(config: LlamaConfig) -> int:
    from puna.llama.catalog import footprint

    tokens = min(CONTEXT, config.max_position_embeddings)
    needs = footprint(config)
    return needs.total(tokens, int(config.vision is not None)) - needs.weights


def _bits(name: str | None) -> Bits | None:
    if name is None or name == "int8" or name == "int4":
        return name
    raise typer.BadParameter(f"--quantize {name!r}: expected int8 or int4")


def _parameters(count: int) -> str:
    return f"{count / 1e9:.1f} B" if count >= 1e8 else f"{count / 1e6:.1f} M"


def _line(cells: tuple[str, ...], widths: tuple[int, ...]) -> str:
    padded = [cell.ljust(width) for cell, width in zip(cells, widths, strict=False)]
    return "".join([*padded, *cells[len(widths) :]]).rstrip()
