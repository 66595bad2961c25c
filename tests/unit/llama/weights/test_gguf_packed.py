"""GGUF straight into packed weights: the file's own numbers, to the last bit."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import gguf
import numpy as np
import pytest
import torch

from puna.kernels import linear, unpack
from puna.kernels.packed import linear_twin
from puna.llama.load import load_llama
from puna.llama.shapes import tensor_shapes
from puna.llama.weights import open_checkpoint
from tests.checkpoints import TINY_WIDE, random_weights, to_interleaved, write_gguf

# Rows that fill no block of 32, and tensors whose rotary rows are shuffled.
CONFIG = replace(TINY_WIDE, vocab_size=777, num_hidden_layers=2, intermediate_size=512)
# Our format, and the bytes of a block that are fp16.
EXACT = {
    "Q8_0": ("int8", (0,)),
    "Q4_0": ("int4", (0,)),
    "Q4_K": ("int4m", (0, 2)),
    "Q6_K": ("int6", (208,)),
}


def written(path: Path, quant: str, seed: int) -> Path:
    """A file whose blocks are arbitrary: what an importance matrix or another tool may write."""
    rng = np.random.default_rng(seed)
    write_gguf(path, CONFIG, random_weights(CONFIG, seed), quant=quant, tokenizer=False)  # type: ignore[arg-type]
    data = np.fromfile(path, np.uint8)
    size = gguf.GGML_QUANT_SIZES[gguf.GGMLQuantizationType[quant]][1]
    for tensor in gguf.GGUFReader(path).tensors:
        if tensor.tensor_type.name == quant:
            count = tensor.n_bytes // size
            blocks = rng.integers(0, 256, (count, size), np.uint8)
            for at in EXACT[quant][1]:
                scales = rng.normal(0, 0.05, (count, 1)).astype(np.float16)
                scales[:: count // 7] = 0
                blocks[:, at : at + 2] = scales.view(np.uint8)
            data[tensor.data_offset :][: tensor.n_bytes] = blocks.ravel()
    data.tofile(path)
    return path


@pytest.mark.parametrize("quant", EXACT)
def test_every_matrix_says_what_the_gguf_package_reads(tmp_path: Path, quant: str) -> None:
    path = written(tmp_path / "tiny.gguf", quant, seed=3)
    theirs = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type)
        for tensor in gguf.GGUFReader(path).tensors
    }
    checkpoint = open_checkpoint(path)
    model = load_llama(checkpoint, packing="stored")
    heads = {"q_proj": CONFIG.num_attention_heads, "k_proj": CONFIG.num_key_value_heads}
    found = 0
    for name, shape in tensor_shapes(CONFIG).items():
        if len(shape) < 2:
            continue
        module = name.removesuffix(".weight")
        weight = model.get_submodule(module).weight
        assert weight.format == EXACT[quant][0]
        stored = unpack(weight)
        rotated = heads.get(module.rpartition(".")[2])
        if rotated:
            stored = to_interleaved(stored, rotated)
        assert np.array_equal(stored.numpy(), theirs[_gguf_name(name)]), name
        assert torch.equal(unpack(weight), checkpoint.read(name, torch.float32))
        found += 1
    assert found == 7 * CONFIG.num_hidden_layers + 2


@pytest.mark.parametrize("quant", EXACT)
def test_the_kernels_take_integers_that_our_own_packing_never_makes(
    tmp_path: Path, quant: str
) -> None:
    """-128 in Q8_0, blocks of Q4_0 without a -8, negative scales, every 6-bit scale and minimum."""
    checkpoint = open_checkpoint(written(tmp_path / "tiny.gguf", quant, seed=4))
    weight = checkpoint.packed("model.layers.1.mlp.down_proj.weight")
    for rows in (1, 5):
        x = torch.randn(rows, weight.columns)
        with torch.inference_mode():
            got = linear(x, weight)
        expected = linear_twin(x, weight)
        assert (got - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.parametrize(("quant", "asked"), [(quant, form) for quant, (form, _) in EXACT.items()])
def test_a_format_that_is_asked_for_and_there_is_taken_as_it_is(
    tmp_path: Path, quant: str, asked: str
) -> None:
    checkpoint = open_checkpoint(written(tmp_path / "tiny.gguf", quant, seed=5))
    model = load_llama(checkpoint, packing=asked)  # type: ignore[arg-type]
    for layer in model.model.layers:
        name = "model.layers.0.mlp.up_proj.weight"
        assert layer.mlp.up_proj.weight.format == asked
    weight = model.model.layers[0].mlp.up_proj.weight
    assert torch.equal(unpack(weight), checkpoint.read(name, torch.float32))


def test_what_the_file_holds_unquantised_is_packed_as_bf16(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", CONFIG, random_weights(CONFIG), quant="F16")
    model = load_llama(open_checkpoint(path), packing="stored")
    assert model.lm_head.weight.format == "bf16"


def _gguf_name(name: str) -> str:
    parts = {
        "q_proj": "attn_q",
        "k_proj": "attn_k",
        "v_proj": "attn_v",
        "o_proj": "attn_output",
        "gate_proj": "ffn_gate",
        "up_proj": "ffn_up",
        "down_proj": "ffn_down",
        "embed_tokens": "token_embd",
        "lm_head": "output",
    }
    split = name.split(".")
    part = parts[split[-2]]
    return f"blk.{split[2]}.{part}.weight" if "layers" in split else f"{part}.weight"
