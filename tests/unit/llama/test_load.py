"""Weights into the model: what arrives, and what loading does not do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from puna.errors import CheckpointError
from puna.llama.load import load_llama
from puna.llama.weights import open_checkpoint
from tests.checkpoints import (
    TINY_TEXT,
    TINY_TIED,
    TINY_VISION,
    TINY_WIDE,
    random_weights,
    write_gguf,
    write_hf,
    write_meta,
)

FAMILIES = {"text": TINY_TEXT, "tied": TINY_TIED, "vision": TINY_VISION}


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_loaded_model_holds_the_weights_in_the_dtype_asked_for(
    tmp_path: Path, config: object, dtype: torch.dtype
) -> None:
    weights = random_weights(config)  # type: ignore[arg-type]
    write_hf(tmp_path, config, weights)  # type: ignore[arg-type]
    model = load_llama(open_checkpoint(tmp_path), dtype=dtype)
    state = model.state_dict()
    assert state.keys() == weights.keys()
    assert all(torch.equal(state[name], weights[name].to(dtype)) for name in weights)
    assert not model.training
    assert not any(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.is_contiguous() for parameter in model.parameters())
    assert all(buffer.device.type == "cpu" for buffer in model.buffers())
    assert model.frequencies.device.type == "cpu"
    assert model.frequencies.dtype == torch.float32


def test_weights_of_the_stored_dtype_are_mapped_and_not_copied(tmp_path: Path) -> None:
    """A file changed in place shows in the model: its memory is the file's."""
    weights = random_weights(TINY_TEXT)
    write_hf(tmp_path / "hf", TINY_TEXT, weights)
    write_gguf(tmp_path / "gguf" / "tiny.gguf", TINY_TEXT, weights)
    write_meta(tmp_path / "meta", TINY_TEXT, weights)
    needle = weights["model.norm.weight"].numpy().tobytes()
    for folder in ("hf", "gguf", "meta"):
        (path,) = (p for p in (tmp_path / folder).iterdir() if needle in p.read_bytes())
        norm = load_llama(open_checkpoint(path)).model.norm.weight
        assert torch.equal(norm, weights["model.norm.weight"])
        with path.open("r+b") as file:
            file.seek(path.read_bytes().index(needle))
            file.write(torch.full((64,), 7.0).numpy().tobytes())
        assert torch.equal(norm, torch.full((64,), 7.0))


def test_loading_never_holds_two_copies_of_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each tensor is taken only when the one before it has been put in place."""
    write_gguf(tmp_path / "tiny.gguf", TINY_WIDE, random_weights(TINY_WIDE), quant="Q8_0")
    checkpoint = open_checkpoint(tmp_path)
    read, alive = checkpoint.read, 0
    made: list[torch.Tensor] = []

    def counted(name: str, dtype: torch.dtype) -> torch.Tensor:
        nonlocal alive
        made.append(read(name, dtype))
        alive = sum(tensor.nbytes for tensor in made)
        return made[-1]

    monkeypatch.setattr(checkpoint, "read", counted)
    model = load_llama(checkpoint, dtype=torch.bfloat16)
    assert alive == checkpoint.weight_bytes(torch.bfloat16)
    held = {parameter.data_ptr() for parameter in model.parameters()}
    assert {tensor.data_ptr() for tensor in made} == held


def test_loading_fills_in_no_random_numbers_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the meta device that would be useless, and importing torch's compiler takes seconds."""

    def fail(*_: object, **__: object) -> None:
        raise AssertionError("random numbers were asked for")

    write_hf(tmp_path, TINY_VISION, random_weights(TINY_VISION))
    for name in ("normal_", "uniform_", "trunc_normal_"):
        monkeypatch.setattr(torch.Tensor, name, fail, raising=False)
    for name in ("randn", "rand", "normal"):
        monkeypatch.setattr(torch, name, fail)
    load_llama(open_checkpoint(tmp_path))


def test_a_gguf_file_that_shrinks_or_goes_after_it_was_opened_is_refused(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", TINY_TEXT, random_weights(TINY_TEXT))
    for spoil in (lambda: path.write_bytes(path.read_bytes()[:-1000]), path.unlink):
        checkpoint = open_checkpoint(path)
        spoil()
        with pytest.raises(CheckpointError, match=r"tiny\.gguf"):
            load_llama(checkpoint)
        write_gguf(path, TINY_TEXT, random_weights(TINY_TEXT))


def test_a_file_that_shrinks_after_it_was_opened_is_refused_not_read(tmp_path: Path) -> None:
    write_hf(tmp_path, TINY_TEXT, random_weights(TINY_TEXT))
    path = tmp_path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(CheckpointError, match="truncated"):
        open_checkpoint(tmp_path)
