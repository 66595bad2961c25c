"""Hugging Face's layout: what it gives, and what it refuses."""

from __future__ import annotations

import json
import struct
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from puna.llama.weights import open_checkpoint
from tests.checkpoints import (
    TINY_TEXT,
    TINY_TIED,
    TINY_VISION,
    random_weights,
    write_hf,
    write_json,
)
from tests.unit.llama.weights.damage import cuts, flips, opens_or_refuses, refusal

SMALL = replace(TINY_TEXT, num_hidden_layers=1)
FAMILIES = {"text": TINY_TEXT, "tied": TINY_TIED, "vision": TINY_VISION}


@pytest.mark.parametrize("naming", ["v4", "v5"])
@pytest.mark.parametrize("shards", [1, 3])
@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_every_tensor_comes_back_bit_for_bit_under_its_canonical_name(
    tmp_path: Path, config: Any, shards: int, naming: Any
) -> None:
    weights = random_weights(config)
    write_hf(tmp_path, config, weights, shards=shards, naming=naming)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config == config
    read = dict(checkpoint.tensors(torch.float32))
    assert list(read) == list(weights)
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_stored_dtype_is_told_and_another_one_is_given_rounded(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    weights = random_weights(SMALL)
    write_hf(tmp_path, SMALL, weights, dtype=dtype)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.stored_dtype == dtype
    name = "model.norm.weight"
    for wanted in (torch.float32, torch.bfloat16, torch.float16):
        assert torch.equal(checkpoint.read(name, wanted), weights[name].to(dtype).to(wanted))


def test_weight_bytes_are_known_before_loading_and_depend_on_the_dtype(tmp_path: Path) -> None:
    weights = random_weights(TINY_TIED)
    write_hf(tmp_path, TINY_TIED, weights)
    checkpoint = open_checkpoint(tmp_path)
    numbers = sum(tensor.numel() for tensor in weights.values())
    assert checkpoint.weight_bytes(torch.float32) == 4 * numbers
    assert checkpoint.weight_bytes(torch.bfloat16) == 2 * numbers


def test_any_file_of_the_checkpoint_may_be_named_in_place_of_its_folder(tmp_path: Path) -> None:
    write_hf(tmp_path / "one", SMALL, random_weights(SMALL))
    write_hf(tmp_path / "many", SMALL, random_weights(SMALL), shards=3)
    for path in ("one/model.safetensors", "many/model-00002-of-00003.safetensors"):
        assert open_checkpoint(tmp_path / path).config == SMALL


def test_shards_without_an_index_are_taken_together(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL), shards=3)
    (tmp_path / "model.safetensors.index.json").unlink()
    assert open_checkpoint(tmp_path).config == SMALL
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    assert "2 of the shards" in refusal(tmp_path)


def test_an_index_that_names_missing_shards_is_refused_with_their_names(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL), shards=3)
    (tmp_path / "model-00002-of-00003.safetensors").unlink()
    message = refusal(tmp_path)
    assert "model-00002-of-00003.safetensors" in message
    assert "incomplete" in message


@pytest.mark.parametrize("name", ["../other.safetensors", "/etc/passwd", "a/b", 7, "", "a\0b"])
def test_an_index_that_points_outside_its_folder_is_refused(tmp_path: Path, name: object) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    index = {"weight_map": {"model.norm.weight": name}}
    write_json(tmp_path / "model.safetensors.index.json", index)
    refusal(tmp_path)


def test_missing_unexpected_and_misshapen_tensors_are_each_named(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    path = tmp_path / "model.safetensors"
    tensors = load_file(path)
    del tensors["model.layers.0.mlp.up_proj.weight"]
    tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(64)
    tensors["model.norm.weight"] = torch.ones(65)
    save_file({name: tensor.clone() for name, tensor in tensors.items()}, path)
    message = refusal(tmp_path)
    assert "missing (model.layers.0.mlp.up_proj.weight)" in message
    assert "no use in a Llama (model.layers.0.self_attn.q_proj.bias)" in message
    assert "model.norm.weight is [65], expected [64]" in message


def test_a_hostile_tensor_name_cannot_break_the_line(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, {**random_weights(SMALL), "a\nTraceback": torch.zeros(1)})
    assert "a\\nTraceback" in refusal(tmp_path)


def test_stored_rotary_tables_of_old_converters_are_passed_over(tmp_path: Path) -> None:
    extra = {"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(8)}
    write_hf(tmp_path, SMALL, {**random_weights(SMALL), **extra})
    assert open_checkpoint(tmp_path).config == SMALL


def test_a_tied_model_may_store_its_head_if_it_is_the_embedding(tmp_path: Path) -> None:
    weights = random_weights(TINY_TIED)
    head = weights["model.embed_tokens.weight"].clone()
    write_hf(tmp_path / "same", TINY_TIED, {**weights, "lm_head.weight": head})
    assert dict(open_checkpoint(tmp_path / "same").tensors(torch.float32)).keys() == weights.keys()
    write_hf(tmp_path / "other", TINY_TIED, {**weights, "lm_head.weight": head + 1})
    assert "tie_word_embeddings" in refusal(tmp_path / "other")
    write_hf(tmp_path / "flat", TINY_TIED, {**weights, "lm_head.weight": torch.tensor(1.0)})
    assert "tie_word_embeddings" in refusal(tmp_path / "flat")
    del weights["model.embed_tokens.weight"]
    write_hf(tmp_path / "alone", TINY_TIED, {**weights, "lm_head.weight": head})
    assert "model.embed_tokens.weight" in refusal(tmp_path / "alone")


@pytest.mark.parametrize("dtype", [torch.int8, torch.float8_e4m3fn, torch.uint8])
def test_quantised_tensors_are_refused_with_a_word_on_what_works(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    weights = random_weights(SMALL)
    weights["model.layers.0.mlp.up_proj.weight"] = torch.zeros(192, 64).to(dtype)
    write_hf(tmp_path, SMALL, weights)
    message = refusal(tmp_path)
    assert "model.layers.0.mlp.up_proj.weight" in message
    assert "bfloat16" in message


def test_a_checkpoint_of_one_width_with_the_config_of_another_is_refused(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    config = json.loads((tmp_path / "config.json").read_text())
    write_json(tmp_path / "config.json", config | {"num_hidden_layers": 2})
    assert "9 tensors are missing" in refusal(tmp_path)


@pytest.mark.parametrize("file", ["config.json", "tokenizer.json"])
def test_a_missing_companion_file_is_named(tmp_path: Path, file: str) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    (tmp_path / file).unlink()
    if file == "config.json":
        assert "config.json is missing" in refusal(tmp_path)
    else:
        assert not opens_or_refuses(tmp_path)


def test_a_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    write_hf(tmp_path, replace(SMALL, bos_token_id=3), random_weights(SMALL))
    assert not opens_or_refuses(tmp_path)


@pytest.mark.parametrize("file", ["model.safetensors", "config.json"])
def test_a_file_cut_anywhere_is_refused_in_one_line(tmp_path: Path, file: str) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    data = (tmp_path / file).read_bytes()
    for cut in cuts(data):
        (tmp_path / file).write_bytes(cut)
        # A JSON text less its last line feed is whole.
        assert not opens_or_refuses(tmp_path) or cut == data.rstrip()


def test_spoiled_header_bytes_never_cause_anything_but_a_refusal(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    path = tmp_path / "model.safetensors"
    data = path.read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    refused = 0
    for spoiled in flips(data, 150, seed=1, head=8 + length):
        path.write_bytes(spoiled)
        refused += not opens_or_refuses(tmp_path)
    assert refused > 100


@pytest.mark.parametrize("length", [2**63, 2**40, 100_000_001, 99_999_999, 2, 0])
def test_a_header_that_claims_any_length_costs_no_memory(tmp_path: Path, length: int) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", length) + path.read_bytes()[8:])
    refusal(tmp_path)


def test_a_header_that_claims_a_huge_tensor_costs_no_memory(tmp_path: Path) -> None:
    write_hf(tmp_path, SMALL, random_weights(SMALL))
    entry = {"dtype": "F32", "shape": [2**40, 2**20], "data_offsets": [0, 2**62]}
    header = json.dumps({"model.norm.weight": entry}).encode()
    path = tmp_path / "model.safetensors"
    path.write_bytes(struct.pack("<Q", len(header)) + header + b"\0" * 100)
    refusal(tmp_path)
