"""Meta's layout: shards joined, what is unsaid derived, code never run."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from puna.llama.catalog import find
from puna.llama.weights import open_checkpoint
from puna.llama.weights.meta_params import (
    cross_attention_layers,
    intermediate_size,
    read_params,
)
from tests.checkpoints import (
    TINY_META_VISION,
    TINY_TEXT,
    TINY_TIED,
    consistent_tiles,
    meta_params,
    random_weights,
    write_json,
    write_meta,
)
from tests.unit.llama.weights.damage import cuts, flips, opens_or_refuses, refusal

SMALL = replace(TINY_TEXT, num_hidden_layers=1)
VISION_WEIGHTS = consistent_tiles(TINY_META_VISION, random_weights(TINY_META_VISION))
FAMILIES = {
    "text": (TINY_TEXT, random_weights(TINY_TEXT)),
    "tied": (TINY_TIED, random_weights(TINY_TIED)),
    "vision": (TINY_META_VISION, VISION_WEIGHTS),
}


@pytest.mark.parametrize("shards", [1, 2])
@pytest.mark.parametrize("family", FAMILIES.values(), ids=FAMILIES.keys())
def test_every_tensor_comes_back_bit_for_bit_from_any_number_of_shards(
    tmp_path: Path, family: Any, shards: int
) -> None:
    config, weights = family
    write_meta(tmp_path, config, weights, shards=shards)
    checkpoint = open_checkpoint(tmp_path)
    assert checkpoint.config == config
    assert f"{shards} shard" in checkpoint.layout
    read = dict(checkpoint.tensors(torch.float32))
    assert read.keys() == weights.keys()
    assert all(torch.equal(read[name], weights[name]) for name in weights)


def test_eight_shards_join_as_for_the_large_models(tmp_path: Path) -> None:
    config = replace(TINY_TEXT, num_attention_heads=8, num_key_value_heads=8, head_dim=8)
    weights = random_weights(config)
    write_meta(tmp_path, config, weights, shards=8)
    read = dict(open_checkpoint(tmp_path).tensors(torch.float32))
    assert all(torch.equal(read[name], weights[name]) for name in weights)


@pytest.mark.parametrize(
    ("name", "params"),
    [
        ("Llama-3.1-8B", (4096, 32, 32, 8, 1.3, 1024, {})),
        ("Llama-3.1-70B", (8192, 80, 64, 8, 1.3, 4096, {})),
        ("Llama-3.1-405B", (16384, 126, 128, 8, 1.2, 4096, {})),
        ("Llama-3.2-1B", (2048, 16, 32, 8, 1.5, 256, {})),
        ("Llama-3.2-3B", (3072, 28, 24, 8, 1.0, 256, {})),
        ("Llama-3.2-11B-Vision", (4096, 32, 32, 8, 1.3, 1024, {"layers": 8})),
        ("Llama-3.2-90B-Vision", (8192, 80, 64, 8, 1.3, 4096, {"layers": 20})),
    ],
)
def test_metas_published_params_describe_the_catalogs_models(
    tmp_path: Path, name: str, params: Any
) -> None:
    width, layers, heads, kv_heads, multiplier, multiple_of, vision = params
    model = find(name + "-Instruct")
    assert model is not None
    assert model.config is not None
    content = {
        "dim": width,
        "n_layers": layers,
        "n_heads": heads,
        "n_kv_heads": kv_heads,
        "vocab_size": 128256,
        "ffn_dim_multiplier": multiplier,
        "multiple_of": multiple_of,
        "norm_eps": 1e-05,
        "rope_theta": 500000.0,
        "use_scaled_rope": True,
    }
    state: dict[str, torch.Tensor] = {}
    if vision:
        content |= {
            "vision_chunk_size": 560,
            "vision_max_num_chunks": 4,
            "vision_num_cross_attention_layers": vision["layers"],
        }
        encoder = "vision_model.vision_encoder."
        state[encoder + "class_embedding"] = torch.empty(1280, device="meta")
        state[encoder + "conv1._linear.weight"] = torch.empty(160, 588, device="meta")
        for part, count in (("transformer", 32), ("global_transformer", 8)):
            for layer in range(count):
                state[f"{encoder}{part}.resblocks.{layer}.ln_1.bias"] = torch.empty(0)
    write_json(tmp_path / "params.json", content)
    tied = model.config.tie_word_embeddings
    assert read_params(tmp_path / "params.json", state, tied=tied) == model.config


def test_the_widths_of_3_2_have_factor_32_even_with_a_head_of_their_own(tmp_path: Path) -> None:
    for width, factor in ((2048, 32), (3072, 32), (4096, 8)):
        params = meta_params(TINY_TEXT) | {"dim": width, "n_heads": 32, "multiple_of": 256}
        write_json(tmp_path / "params.json", params)
        scaling = read_params(tmp_path / "params.json", {}, tied=False).rope_scaling
        assert scaling is not None
        assert scaling.factor == factor


def test_llama_3_0_has_no_scaling_and_8192_positions(tmp_path: Path) -> None:
    write_json(tmp_path / "params.json", meta_params(replace(TINY_TEXT, rope_scaling=None)))
    config = read_params(tmp_path / "params.json", {}, tied=False)
    assert config.rope_scaling is None
    assert config.max_position_embeddings == 8192


def test_cross_attention_layers_stand_where_hugging_face_counts_them() -> None:
    assert cross_attention_layers(32, 8) == tuple(range(3, 40, 5))
    assert cross_attention_layers(80, 20) == tuple(range(3, 100, 5))
    assert cross_attention_layers(3, 2) == (0, 3)  # counted from the last, as Meta does


def test_the_size_of_the_middle_layer_follows_metas_rule() -> None:
    assert intermediate_size(4096, 1024, 1.3) == 14336
    assert intermediate_size(8192, 4096, 1.3) == 28672
    assert intermediate_size(16384, 4096, 1.2) == 53248
    assert intermediate_size(2048, 256, 1.5) == 8192
    assert intermediate_size(3072, 256, 1.0) == 8192


def test_a_missing_shard_is_named(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL), shards=2)
    (tmp_path / "consolidated.00.pth").unlink()
    assert "consolidated.00.pth" in refusal(tmp_path)


@pytest.mark.parametrize("content", [b"", b"half a file"])
def test_an_empty_or_damaged_shard_is_named(tmp_path: Path, content: bytes) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL), shards=2)
    (tmp_path / "consolidated.01.pth").write_bytes(content)
    assert "consolidated.01.pth" in refusal(tmp_path)


def test_one_shard_of_two_is_refused_for_its_shapes(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL), shards=2)
    (tmp_path / "consolidated.01.pth").unlink()
    assert "expected [768, 64]" in refusal(tmp_path)


def test_shards_of_two_checkpoints_are_refused(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL), shards=2)
    write_meta(tmp_path / "other", TINY_TEXT, random_weights(TINY_TEXT), shards=2)
    (tmp_path / "other/consolidated.01.pth").replace(tmp_path / "consolidated.01.pth")
    assert "different checkpoints" in refusal(tmp_path)


def test_shards_whose_pieces_do_not_fit_together_are_refused(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL), shards=2)
    shard = torch.load(tmp_path / "consolidated.01.pth", weights_only=True)
    for name, tensor in (
        ("layers.0.attention.wq.weight", torch.zeros(32, 63)),
        ("layers.0.attention.wo.weight", torch.zeros(63, 32)),
        ("norm.weight", torch.zeros(65)),
        ("output.weight", torch.zeros(384)),
        ("output.weight", torch.zeros(())),
    ):
        torch.save(shard | {name: tensor}, tmp_path / "consolidated.01.pth")
        assert name in refusal(tmp_path)


def test_an_image_embedding_of_another_width_is_refused(tmp_path: Path) -> None:
    path = write_meta(tmp_path, TINY_META_VISION, VISION_WEIGHTS) / "consolidated.00.pth"
    state = torch.load(path, weights_only=True)
    torch.save(state | {"text_model.learnable_embedding.weight": torch.zeros(8, 63)}, path)
    assert "model.embed_tokens.weight" in refusal(tmp_path)


def test_other_pth_files_among_the_shards_are_refused(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL))
    torch.save({"optimizer": torch.zeros(1)}, tmp_path / "optimizer.pth")
    assert "optimizer.pth" in refusal(tmp_path)


class RunsCode:
    """A pickle that makes a folder when it is opened by a careless reader."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_wants_to_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL))
    trap = tmp_path / "it-ran"
    torch.save({"norm.weight": RunsCode(trap)}, tmp_path / "consolidated.00.pth")
    assert "run code" in refusal(tmp_path)
    assert not trap.exists()


@pytest.mark.parametrize(
    "value",
    [
        [torch.zeros(1)],
        {},
        {"norm.weight": 7},
        {7: torch.zeros(1)},
        {"norm.weight": torch.zeros(64, dtype=torch.int8)},
        {"norm.weight": torch.zeros(64).to(torch.float8_e4m3fn)},
        {"norm.weight": torch.eye(4).to_sparse()},
    ],
)
def test_what_is_no_dictionary_of_plain_tensors_is_refused(tmp_path: Path, value: object) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL))
    torch.save(value, tmp_path / "consolidated.00.pth")
    refusal(tmp_path)


def test_a_tensor_that_claims_more_than_its_storage_is_refused(tmp_path: Path) -> None:
    path = write_meta(tmp_path, SMALL, random_weights(SMALL)) / "consolidated.00.pth"
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            if name.endswith("data.pkl"):
                # K\x40: the number 64, as every hidden size and stride has it.
                content = content.replace(b"K\x40", b"K\xff")
            archive.writestr(name, content)
    refusal(tmp_path)


@pytest.mark.parametrize(
    "change",
    [
        {"dim": "64"},
        {"dim": None},
        {"n_heads": 5},
        {"n_layers": 0},
        {"n_kv_heads": 3},
        {"vocab_size": -1},
        {"vocab_size": 32000},
        {"norm_eps": -1},
        {"ffn_dim_multiplier": 1e20},
        {"multiple_of": 0},
        {"quantization_args": {"scheme": "int4_weight_int8_dynamic_activation"}},
        {"lora_args": {"rank": 16}},
        {"use_scaled_rope": "yes"},
        {"vision_chunk_size": 560},
        {"vision_chunk_size": 560, "vision_num_cross_attention_layers": 1},
    ],
)
def test_params_that_make_no_llama_are_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL))
    params = json.loads((tmp_path / "params.json").read_text())
    write_json(tmp_path / "params.json", params | change)
    refusal(tmp_path)


def test_a_missing_tokenizer_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL), tokenizer=False)
    assert not opens_or_refuses(tmp_path)


def test_a_shard_cut_anywhere_is_refused_in_one_line(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL), shards=2)
    path = tmp_path / "consolidated.01.pth"
    data = path.read_bytes()
    for cut in cuts(data, places=25):
        path.write_bytes(cut)
        assert not opens_or_refuses(tmp_path)


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_spoiled_bytes_never_cause_anything_but_a_refusal(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL))
    path = tmp_path / "consolidated.00.pth"
    data = path.read_bytes()
    refused = 0
    for spoiled in flips(data, 120, seed=2, head=2500, tail=3000):
        path.write_bytes(spoiled)
        refused += not opens_or_refuses(tmp_path)
    assert refused > 40


def test_the_old_bare_pickle_is_refused(tmp_path: Path) -> None:
    write_meta(tmp_path, SMALL, random_weights(SMALL))
    (tmp_path / "consolidated.00.pth").write_bytes(pickle.dumps({"a": 1}))
    assert "pickle" in refusal(tmp_path)
