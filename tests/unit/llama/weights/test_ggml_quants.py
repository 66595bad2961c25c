"""Block formats, bit for bit as the gguf package decodes them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest
import torch

from puna.llama.weights import ggml_quants
from puna.llama.weights.ggml_quants import TYPES, UNREAD, dequantize
from tests.checkpoints import quantize_q4_k, quantize_q6_k

QUANTISED = [(number, kind) for number, kind in TYPES.items() if kind.decode]
each_quantised = pytest.mark.parametrize(
    ("number", "kind"), QUANTISED, ids=[kind.name for _, kind in QUANTISED]
)


def random_blocks(kind: ggml_quants.GGMLType, count: int, seed: int = 0) -> np.ndarray:
    """Any bytes at all, but for scales that are not finite."""
    raw = np.random.default_rng(seed).integers(0, 256, (count, kind.size), dtype=np.uint8)
    scales = {"Q4_K": (0, 2), "Q6_K": (208,)}.get(kind.name, (0,))
    for place in scales:
        raw[:, place + 1] &= 0xBB  # an exponent that is not all ones
    return raw


def test_the_table_of_types_is_ggmls_own() -> None:
    for number, kind in TYPES.items():
        theirs = gguf.GGMLQuantizationType(number)
        assert theirs.name == kind.name
        assert gguf.GGML_QUANT_SIZES[theirs] == (kind.block, kind.size)
    for number, name in UNREAD.items():
        assert gguf.GGMLQuantizationType(number).name == name


@each_quantised
def test_any_block_decodes_bit_for_bit_as_in_the_gguf_package(
    number: int, kind: ggml_quants.GGMLType
) -> None:
    raw = random_blocks(kind, 500)
    theirs = gguf.dequantize(raw, gguf.GGMLQuantizationType(number)).flatten()
    ours = dequantize(torch.from_numpy(raw).flatten(), kind, torch.float32).numpy()
    assert np.isfinite(ours).all()
    assert ours.std() > 0
    assert np.array_equal(ours.view(np.uint32), theirs.view(np.uint32))


@each_quantised
def test_the_chunk_size_changes_nothing(
    number: int, kind: ggml_quants.GGMLType, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = torch.from_numpy(random_blocks(kind, 100)).flatten()
    whole = dequantize(raw, kind, torch.bfloat16)
    monkeypatch.setattr(ggml_quants, "CHUNK_VALUES", 7 * kind.block)
    assert torch.equal(dequantize(raw, kind, torch.bfloat16), whole)
    assert torch.equal(dequantize(raw, kind, torch.float32).bfloat16(), whole)


@pytest.mark.parametrize("name", ["Q8_0", "Q4_0"])
def test_what_the_gguf_package_encodes_comes_back_within_the_formats_step(name: str) -> None:
    weight = np.random.default_rng(1).standard_normal((8, 256)).astype(np.float32)
    number = gguf.GGMLQuantizationType[name]
    raw = torch.from_numpy(gguf.quantize(weight, number)).flatten()
    back = dequantize(raw, TYPES[number], torch.float32).view(8, 256).numpy()
    step = np.abs(weight.reshape(-1, 32)).max(1) / (127 if name == "Q8_0" else 8)
    assert (np.abs(back - weight).reshape(-1, 32).max(1) <= 1.01 * step).all()


@pytest.mark.parametrize(
    ("number", "encode", "bits"), [(12, quantize_q4_k, 4), (14, quantize_q6_k, 6)]
)
def test_the_tests_own_k_quant_encoders_are_decoded_close_to_what_went_in(
    number: int, encode: object, bits: int
) -> None:
    weight = np.random.default_rng(2).standard_normal((4, 512)).astype(np.float32)
    raw = torch.from_numpy(encode(weight)).flatten()  # type: ignore[operator]
    back = dequantize(raw, TYPES[number], torch.float32).view(4, 512).numpy()
    assert np.abs(back - weight).max() < np.abs(weight).max() * 2.5 / 2**bits


def test_blocks_of_zeros_are_zeros() -> None:
    for _, kind in QUANTISED:
        raw = torch.zeros(3 * kind.size, dtype=torch.uint8)
        assert dequantize(raw, kind, torch.float32).count_nonzero() == 0


def test_a_plain_type_has_no_blocks_to_decode() -> None:
    with pytest.raises(ValueError, match="F32"):
        dequantize(torch.zeros(4, dtype=torch.uint8), TYPES[0], torch.float32)
