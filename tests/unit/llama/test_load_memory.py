"""How much memory loading takes on its way, whatever the layout."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from puna.llama.load import load_llama, packed
from puna.llama.packing import format_of
from puna.llama.prepare import prepare
from puna.llama.shapes import tensor_shapes
from puna.llama.weights import open_checkpoint
from tests.checkpoints import TINY_WIDE, write_gguf, write_hf, write_meta

WIDE = replace(
    TINY_WIDE, hidden_size=1024, head_dim=128, intermediate_size=3072, num_hidden_layers=2
)
MATRICES = [name for name in tensor_shapes(WIDE) if format_of(name, WIDE, "int4")]
LAYOUTS = ["hf", "meta", "gguf", "wide.puna"]
PART = 2**20  # weights
LITTLE = 10e6  # bytes: two parts, and what else is mapped


def mapped() -> int:
    """Bytes of files that are in this process's memory."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        pytest.skip("this system does not tell")
    return next(int(line.split()[1]) for line in lines if line.startswith("RssFile")) * 1024


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same 25 million weights in every layout: 50 MB, or 27 in 8 bits."""
    path = tmp_path_factory.mktemp("wide")
    noise = torch.randn(3072 * 1024).bfloat16() / 32
    weights = {
        name: noise[: torch.Size(shape).numel()].view(shape).clone()
        if len(shape) == 2
        else torch.ones(shape)
        for name, shape in tensor_shapes(WIDE).items()
    }
    weights["lm_head.weight"] = -weights["lm_head.weight"]  # else Meta's layout would be tied
    write_hf(path / "hf", WIDE, weights)
    write_meta(path / "meta", WIDE, weights)
    write_gguf(path / "gguf" / "wide.gguf", WIDE, weights, quant="Q8_0")
    prepare(open_checkpoint(path / "gguf"), path / "wide.puna", "int8")
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_matrix_is_packed_in_parts_and_what_is_done_stays_no_longer(
    folder: Path, layout: str
) -> None:
    checkpoint = open_checkpoint(folder / layout)
    before, most, seen = mapped(), 0, 0
    for name in MATRICES:
        for part in checkpoint.parts(name):
            assert part.count_nonzero()  # so it is read
            assert part.numel() <= PART
            most, seen = max(most, mapped()), seen + part.numel()
    assert seen == sum(torch.Size(tensor_shapes(WIDE)[name]).numel() for name in MATRICES)
    assert most - before < LITTLE


@pytest.mark.parametrize("packing", ["int4", "stored", None])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_nothing_of_a_file_stays_that_the_model_has_in_another_form(
    folder: Path, layout: str, packing: str | None
) -> None:
    checkpoint = open_checkpoint(folder / layout)
    before = mapped()
    load_llama(checkpoint, packing=packing)  # type: ignore[arg-type]
    assert mapped() - before < LITTLE


@pytest.mark.parametrize("layout", LAYOUTS)
def test_what_was_given_back_is_read_again(folder: Path, layout: str) -> None:
    checkpoint = open_checkpoint(folder / layout)
    for name in ("model.layers.0.self_attn.q_proj.weight", "model.layers.1.mlp.up_proj.weight"):
        once, again = (packed(checkpoint, name, "int6").data for _ in range(2))
        assert torch.equal(once, again)
        assert once.any()
        once, again = (checkpoint.read(name, torch.float16) for _ in range(2))
        assert torch.equal(once, again)
        assert once.any()
