"""In what form a checkpoint is loaded, and what is counted for it before it is."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from puna.errors import ModelTooLarge, StartupError
from puna.kernels import Packed, native
from puna.llama.cache import KVCache
from puna.llama.catalog import LLAMA_3_2_1B
from puna.llama.load import load_llama
from puna.llama.packing import packed_bytes
from puna.llama.prepare import prepare
from puna.llama.weights import Checkpoint, open_checkpoint
from puna.local.placement import place
from puna.settings import Settings
from tests.checkpoints import TINY_WIDE, random_weights, write_gguf, write_hf

SMALL = replace(TINY_WIDE, num_hidden_layers=1)
needs_kernels = pytest.mark.skipif(native.library() is None, reason="needs the native kernels")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    write_hf(folder / "hf", SMALL, random_weights(SMALL))
    for quant in ("F16", "Q8_0", "Q4_0"):
        write_gguf(folder / f"{quant}.gguf", SMALL, random_weights(SMALL), quant=quant)  # type: ignore[arg-type]
    for form in ("bf16", "int8", "int4"):
        prepare(open_checkpoint(folder / "hf"), folder / f"{form}.puna", form)  # type: ignore[arg-type]
    return folder


def loaded_bytes(checkpoint: Checkpoint, settings: Settings) -> tuple[int, int]:
    """What was counted before loading, and what the loaded model takes."""
    placement = place(checkpoint, settings)
    model = load_llama(checkpoint, placement.device, placement.dtype, placement.packing)
    weights = (getattr(module, "weight", None) for module in model.modules())
    taken = sum(weight.nbytes for weight in weights if isinstance(weight, Packed))
    taken += sum(tensor.nbytes for tensor in model.state_dict().values())
    return placement.memory.weight_bytes, taken


@needs_kernels
@pytest.mark.parametrize(
    ("file", "words", "form"),
    [
        ("Q8_0.gguf", "Q8_0", "int8"),
        ("Q4_0.gguf", "Q4_0", "int4"),
        ("int8.puna", "int8", "int8"),
        ("int4.puna", "int4", "int4"),
    ],
)
def test_a_quantised_file_is_loaded_as_it_is_by_default(
    folder: Path, file: str, words: str, form: str
) -> None:
    checkpoint = open_checkpoint(folder / file)
    placement = place(checkpoint, Settings(device="cpu"))
    assert placement.weights == words
    assert placement.cache_dtype == torch.bfloat16
    model = load_llama(checkpoint, packing=placement.packing)
    assert model.model.layers[0].mlp.up_proj.weight.format == form


@pytest.mark.parametrize("fields", [{"quantize": "none"}, {"dtype": "float32"}])
@pytest.mark.parametrize("file", ["Q4_0.gguf", "int4.puna"])
def test_whoever_wants_it_gets_the_same_numbers_dequantised(
    folder: Path, file: str, fields: dict[str, Any]
) -> None:
    checkpoint = open_checkpoint(folder / file)
    placement = place(checkpoint, Settings(device="cpu", **fields))
    assert placement.packing is None
    assert placement.weights == "float32"
    model = load_llama(checkpoint, "cpu", placement.dtype, placement.packing)
    name = "model.layers.0.mlp.up_proj.weight"
    assert torch.equal(model.state_dict()[name], checkpoint.read(name, torch.float32))


@pytest.mark.parametrize("file", ["hf", "F16.gguf", "bf16.puna"])
def test_what_is_not_quantised_stays_so_by_default(folder: Path, file: str) -> None:
    placement = place(open_checkpoint(folder / file), Settings(device="cpu"))
    assert placement.weights == "float32"  # so small that it is computed exactly


def test_without_native_kernels_a_quantised_file_is_dequantised(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("puna.kernels.native.library", lambda: None)
    for file in ("Q4_0.gguf", "int4.puna"):
        assert place(open_checkpoint(folder / file), Settings(device="cpu")).packing is None


@pytest.mark.parametrize(
    "fields",
    [{}, {"quantize": "none"}, {"quantize": "int8"}, {"quantize": "int4"}, {"dtype": "bfloat16"}],
)
@pytest.mark.parametrize(
    "file", ["hf", "F16.gguf", "Q8_0.gguf", "Q4_0.gguf", "bf16.puna", "int8.puna", "int4.puna"]
)
def test_the_bytes_counted_before_loading_are_those_that_it_takes(
    folder: Path, file: str, fields: dict[str, Any]
) -> None:
    counted, taken = loaded_bytes(open_checkpoint(folder / file), Settings(device="cpu", **fields))
    assert counted == taken


def test_a_model_that_fits_in_int4_alone_is_refused_with_that_advice(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(folder / "hf")
    monkeypatch.setattr(checkpoint, "config", LLAMA_3_2_1B)
    monkeypatch.setattr("puna.local.placement.free_memory", lambda _: 2 * 10**9)
    with pytest.raises(ModelTooLarge, match=r"this model would with --quantize int4 \(0\.8 GB"):
        place(checkpoint, Settings(device="cpu"))
    assert packed_bytes(LLAMA_3_2_1B, "int4") < 10**9
    plan = place(checkpoint, Settings(device="cpu", quantize="int4")).memory
    assert plan.weight_bytes == packed_bytes(LLAMA_3_2_1B, "int4")
    monkeypatch.setattr("puna.local.placement.free_memory", lambda _: 5 * 10**8)
    with pytest.raises(ModelTooLarge) as caught:
        place(checkpoint, Settings(device="cpu"))
    assert "int4" not in str(caught.value)


@pytest.mark.parametrize("kv", ["auto", "float32", "bfloat16", "int8"])
def test_memory_is_planned_for_keys_and_values_as_they_are_kept(folder: Path, kv: str) -> None:
    checkpoint = open_checkpoint(folder / "hf")
    placement = place(checkpoint, Settings(device="cpu", kv_dtype=kv, kv_memory=2**20))  # type: ignore[arg-type]
    memory = placement.memory
    cache = KVCache(checkpoint.config, memory.num_pages, memory.page_size, placement.cache_dtype)
    taken = sum(tensor.nbytes for layer in cache.layers for tensor in layer)
    assert taken == memory.num_pages * memory.page_bytes <= 2**20
    assert kv == "auto" or placement.cache_dtype == getattr(torch, kv)


def test_8_bits_hold_nearly_twice_the_tokens_of_bfloat16(folder: Path) -> None:
    checkpoint = open_checkpoint(folder / "hf")
    tokens = [
        place(checkpoint, Settings(device="cpu", kv_dtype=kv, kv_memory=2**20)).memory.kv_tokens
        for kv in ("bfloat16", "int8")
    ]
    assert 1.7 < tokens[1] / tokens[0] <= 2


def test_8_bit_keys_and_values_are_refused_where_they_do_not_work(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    checkpoint = open_checkpoint(folder / "hf")
    with pytest.raises(StartupError, match="page_size is 5: use an even one"):
        place(checkpoint, Settings(device="cpu", kv_dtype="int8", page_size=5))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda device: (2**34, 2**34))
    with pytest.raises(StartupError, match="kv_dtype is int8, which works on the CPU alone"):
        place(checkpoint, Settings(device="cuda", kv_dtype="int8"))
