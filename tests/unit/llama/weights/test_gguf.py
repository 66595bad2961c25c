"""GGUF: the container, what llama.cpp's and Ollama's files mean, and what is refused."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from puna.errors import CheckpointError
from puna.llama.config import LlamaConfig, RopeScaling
from puna.llama.rope import rope_frequencies
from puna.llama.weights import open_checkpoint
from puna.llama.weights.gguf_file import GGUFFile
from tests.checkpoints import (
    TINY_TEXT,
    TINY_TIED,
    TINY_VISION,
    TINY_WIDE,
    random_weights,
    rope_factors,
    to_interleaved,
    tokenizer_json,
    write_gguf,
    write_hf,
)
from tests.unit.llama.weights.damage import cuts, flips, opens_or_refuses, refusal

SMALL = replace(TINY_TEXT, num_hidden_layers=1)
QUANTS = ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"]


def rewritten(path: Path, change: Callable[[gguf.GGUFWriter, gguf.GGUFReader], set[str]]) -> Path:
    """The file copied by the gguf package; `change` adds entries and says which ones to drop."""
    reader = gguf.GGUFReader(path)
    other = path.with_name("changed.gguf")
    writer = gguf.GGUFWriter(other, "llama")
    dropped = {"GGUF.version", "GGUF.tensor_count", "GGUF.kv_count", "general.architecture"}
    dropped |= change(writer, reader)
    for field in reader.fields.values():
        if field.name not in dropped:
            sub_type = field.types[-1] if field.types[0] == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), field.types[0], sub_type)
    for tensor in reader.tensors:
        if tensor.name not in dropped:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    path.unlink()
    return other


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "tiny.gguf", SMALL, random_weights(SMALL))


@pytest.mark.parametrize("quant", QUANTS)
def test_the_description_is_that_of_the_same_model_elsewhere(tmp_path: Path, quant: Any) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", TINY_WIDE, random_weights(TINY_WIDE), quant=quant)
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == TINY_WIDE
    assert quant in checkpoint.layout
    assert checkpoint.generation.temperature == 0.6


@pytest.mark.parametrize("quant", QUANTS)
def test_tensors_are_the_gguf_packages_with_rotary_rows_in_halves(
    tmp_path: Path, quant: Any
) -> None:
    path = write_gguf(tmp_path / "tiny.gguf", TINY_WIDE, random_weights(TINY_WIDE), quant=quant)
    theirs = {
        tensor.name: gguf.dequantize(tensor.data, tensor.tensor_type).reshape(
            tuple(int(n) for n in reversed(tensor.shape))
        )
        for tensor in gguf.GGUFReader(path).tensors
    }
    checkpoint = open_checkpoint(path)
    for ours, name, heads in (
        ("model.embed_tokens.weight", "token_embd.weight", None),
        ("model.layers.1.mlp.down_proj.weight", "blk.1.ffn_down.weight", None),
        ("model.layers.2.self_attn.v_proj.weight", "blk.2.attn_v.weight", None),
        ("model.layers.2.self_attn.q_proj.weight", "blk.2.attn_q.weight", 8),
        ("model.layers.0.self_attn.k_proj.weight", "blk.0.attn_k.weight", 2),
        ("model.norm.weight", "output_norm.weight", None),
    ):
        tensor = checkpoint.read(ours, torch.float32)
        assert tensor.is_contiguous()
        stored = to_interleaved(tensor, heads) if heads else tensor
        assert np.array_equal(stored.numpy(), theirs[name])
        half = checkpoint.read(ours, torch.bfloat16)
        assert torch.equal(half, tensor.bfloat16())


def test_no_output_weight_means_a_tied_head(tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "tied.gguf", TINY_TIED, random_weights(TINY_TIED))
    assert open_checkpoint(path).config == TINY_TIED


@pytest.mark.parametrize("scaling", [None, RopeScaling(8.0), RopeScaling(32.0)])
def test_rope_freqs_are_understood_as_llamas_scaling(
    tmp_path: Path, scaling: RopeScaling | None
) -> None:
    config = replace(SMALL, rope_scaling=scaling)
    path = write_gguf(tmp_path / "tiny.gguf", config, random_weights(config))
    assert open_checkpoint(path).config == config


def test_divisors_of_another_rule_are_used_as_they_stand(tmp_path: Path, tiny: Path) -> None:
    divisors = np.array([1, 1, 1.5, 2, 3, 4, 5, 6], dtype=np.float32)

    def change(writer: gguf.GGUFWriter, _: object) -> set[str]:
        writer.add_tensor("rope_freqs.weight", divisors)
        return {"rope_freqs.weight"}

    config = open_checkpoint(rewritten(tiny, change)).config
    assert config.rope_scaling is None
    plain = rope_frequencies(replace(SMALL, rope_scaling=None))
    assert torch.allclose(rope_frequencies(config) * torch.from_numpy(divisors), plain)


@pytest.mark.parametrize("bad", [[1.0] * 7, [0.0] + [1.0] * 7, [float("nan")] * 8, [-1.0] * 8])
def test_divisors_that_make_no_sense_are_refused(tiny: Path, bad: list[float]) -> None:
    def change(writer: gguf.GGUFWriter, _: object) -> set[str]:
        writer.add_tensor("rope_freqs.weight", np.array(bad, dtype=np.float32))
        return {"rope_freqs.weight"}

    assert "rope_freqs.weight" in refusal(rewritten(tiny, change))


def test_the_tokenizer_is_the_one_of_the_same_model_elsewhere(tmp_path: Path, tiny: Path) -> None:
    write_hf(tmp_path / "hf", SMALL, random_weights(SMALL))
    theirs = open_checkpoint(tmp_path / "hf").tokenizer()
    ours = open_checkpoint(tiny).tokenizer()
    text = "What is the weather in Stockholm? naïve 東京 <|eot_id|>"
    assert ours.encode(text) == theirs.encode(text)
    for name in ("<|begin_of_text|>", "<|eot_id|>", "<|python_tag|>"):
        assert ours.special(name) == theirs.special(name)


def test_a_file_without_a_tokenizer_is_refused_when_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "tiny.gguf"
    write_gguf(path, replace(SMALL, bos_token_id=128000), random_weights(SMALL), tokenizer=False)
    with pytest.raises(CheckpointError, match="no tokenizer"):
        open_checkpoint(path).tokenizer()


@pytest.mark.parametrize("version", [0, 1, 4, 2**24 * 3, 2**32 - 1])
def test_other_versions_are_refused_and_version_2_is_read(tiny: Path, version: int) -> None:
    data = tiny.read_bytes()
    tiny.write_bytes(data[:4] + struct.pack("<I", 2) + data[8:])
    assert open_checkpoint(tiny).config == SMALL
    tiny.write_bytes(data[:4] + struct.pack("<I", version) + data[8:])
    message = refusal(tiny)
    assert ("big-endian" in message) == (version == 2**24 * 3)


@pytest.mark.parametrize(("kind", "size", "block"), [(8, 34, 32), (2, 18, 32), (12, 144, 256)])
def test_a_block_at_an_odd_place_is_read(tmp_path: Path, kind: int, size: int, block: int) -> None:
    info = text(b"t") + struct.pack("<IQIQ", 1, block, kind, 1)
    path = tmp_path / "odd.gguf"
    path.write_bytes(header(tensors=info, tensor_count=1) + b"\0" * 1000)
    assert torch.equal(GGUFFile(path).read("t", torch.float32), torch.zeros(block))


def test_an_alignment_of_its_own_is_honoured(tmp_path: Path, tiny: Path) -> None:
    def change(writer: gguf.GGUFWriter, _: object) -> set[str]:
        writer.add_custom_alignment(8)
        return set()

    weights = random_weights(SMALL)
    changed = open_checkpoint(rewritten(tiny, change))
    assert all(torch.equal(t, weights[name]) for name, t in changed.tensors(torch.float32))


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("llama.embedding_length", 65, "UINT32"),
        ("llama.embedding_length", "64", "STRING"),
        ("llama.block_count", 2**31, "UINT32"),
        ("llama.block_count", 2, "UINT32"),
        ("llama.attention.head_count", 0, "UINT32"),
        ("llama.attention.head_count_kv", 3, "UINT32"),
        ("llama.attention.value_length", 8, "UINT32"),
        ("llama.rope.dimension_count", 8, "UINT32"),
        ("llama.rope.scaling.type", "yarn", "STRING"),
        ("llama.rope.freq_base", -1.0, "FLOAT32"),
        ("llama.expert_count", 8, "UINT32"),
        ("llama.feed_forward_length", 100, "UINT32"),
        ("llama.attention.layer_norm_rms_epsilon", float("nan"), "FLOAT32"),
        ("general.type", "adapter", "STRING"),
        ("split.count", 3, "UINT16"),
        ("tokenizer.ggml.model", "llama", "STRING"),
        ("tokenizer.ggml.eos_token_id", "x", "STRING"),
    ],
)
def test_metadata_of_no_llama_3_is_refused(tiny: Path, key: str, value: Any, kind: str) -> None:
    def change(writer: gguf.GGUFWriter, _: object) -> set[str]:
        writer.add_key_value(key, value, gguf.GGUFValueType[kind])
        return {key}

    refusal(rewritten(tiny, change))


@pytest.mark.parametrize(
    ("pre", "read"),
    [("llama-bpe", True), ("llama3", True), ("llama-v3", True)]
    + [(pre, False) for pre in ("default", "gpt-2", "qwen2", "llama4", "smaug-bpe")],
)
def test_text_is_cut_in_llama_3s_way_or_the_file_is_refused(
    tiny: Path, pre: str, read: bool
) -> None:
    def change(writer: gguf.GGUFWriter, _: object) -> set[str]:
        writer.add_tokenizer_pre(pre)
        return {"tokenizer.ggml.pre"}

    changed = rewritten(tiny, change)
    if read:
        assert open_checkpoint(changed).tokenizer().encode("Hello")
    else:
        message = refusal(changed)
        assert f"tokenizer.ggml.pre is '{pre}', expected \"llama-bpe\"" in message
        assert "take a GGUF of Llama 3.1 or 3.2" in message


def test_other_architectures_are_refused_by_name(tiny: Path) -> None:
    data = tiny.read_bytes()
    tiny.write_bytes(data.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0qwen2", 1))
    assert "'qwen2'" in refusal(tiny)


@pytest.mark.parametrize("name", ["Q5_K", "IQ4_XS", "Q2_K"])
def test_quantisations_that_are_not_read_are_named_with_those_that_are(
    tmp_path: Path, name: str
) -> None:
    kind = gguf.GGMLQuantizationType[name]
    writer = gguf.GGUFWriter(tmp_path / "tiny.gguf", "llama")
    writer.add_tensor(
        "token_embd.weight",
        np.zeros((2, gguf.GGML_QUANT_SIZES[kind][1]), dtype=np.uint8),
        raw_dtype=kind,
    )
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    message = refusal(tmp_path / "tiny.gguf")
    assert name in message
    assert "Q4_K" in message


def test_missing_and_unexpected_tensors_are_named(tiny: Path) -> None:
    def change(writer: gguf.GGUFWriter, _: object) -> set[str]:
        writer.add_tensor("blk.0.attn_q.bias", np.zeros(64, dtype=np.float32))
        return {"blk.0.ffn_up.weight"}

    message = refusal(rewritten(tiny, change))
    assert "model.layers.0.mlp.up_proj.weight" in message
    assert "blk.0.attn_q.bias" in message


def test_a_file_cut_anywhere_is_refused_in_one_line(tiny: Path) -> None:
    data = tiny.read_bytes()
    for cut in cuts(data, places=60):
        tiny.write_bytes(cut)
        assert not opens_or_refuses(tiny)


def test_spoiled_header_bytes_never_cause_anything_but_a_refusal(tiny: Path) -> None:
    data = tiny.read_bytes()
    refused = 0
    # The key names and numbers first, then the tensors' descriptions behind the vocabulary.
    end = data.rindex(b"output_norm.weight") + 60
    spoiled_files = [
        *flips(data, 70, seed=3, head=1000),
        *(data[: end - 1200] + part for part in flips(data[end - 1200 :], 70, seed=4, head=1200)),
    ]
    for spoiled in spoiled_files:
        tiny.write_bytes(spoiled)
        refused += not opens_or_refuses(tiny)
    assert refused > 70


@pytest.mark.parametrize("offset", [8, 16])
@pytest.mark.parametrize("count", [2**64 - 1, 2**63, 2**40, 2**31, 10_000])
def test_counts_beyond_the_file_cost_no_memory(tiny: Path, offset: int, count: int) -> None:
    data = tiny.read_bytes()
    tiny.write_bytes(data[:offset] + struct.pack("<Q", count) + data[offset + 8 :])
    refusal(tiny)


def header(*entries: bytes, tensors: bytes = b"", tensor_count: int = 0) -> bytes:
    return (
        b"GGUF" + struct.pack("<IQQ", 3, tensor_count, len(entries)) + b"".join(entries) + tensors
    )


def text(value: bytes) -> bytes:
    return struct.pack("<Q", len(value)) + value


@pytest.mark.parametrize(
    "entry",
    [
        text(b"k") + struct.pack("<IIQ", 9, 4, 2**62),  # a list of 2**62 numbers
        text(b"k") + struct.pack("<IIQ", 9, 8, 2**40),  # of texts
        text(b"k") + struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IIQ", 9, 9, 1) * 100,  # nested
        text(b"k") + struct.pack("<IQ", 8, 2**63),  # a text of 2**63 bytes
        text(b"k") + struct.pack("<I", 99),  # an unknown type
        struct.pack("<Q", 2**63),  # a key of 2**63 bytes
        text(b"\xff\xfe") + struct.pack("<IB", 0, 1),  # no UTF-8
    ],
)
def test_hostile_metadata_is_refused(tmp_path: Path, entry: bytes) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(header(entry) + b"\0" * 1000)
    refusal(path)


@pytest.mark.parametrize(
    "info",
    [
        struct.pack("<I", 2**31),  # dimensions
        struct.pack("<I", 5) + b"\0" * 60,
        struct.pack("<IQQIQ", 2, 2**40, 2**40, 0, 0),  # more than the file
        struct.pack("<IQQIQ", 2, 2**63, 2**63, 0, 0),
        struct.pack("<IQIQ", 1, 4, 0, 2**63),  # far behind its end
        struct.pack("<IQIQ", 1, 33, 8, 0),  # no whole block
        struct.pack("<IQIQ", 1, 4, 77, 0),  # unknown type
    ],
)
def test_hostile_tensor_descriptions_are_refused(tmp_path: Path, info: bytes) -> None:
    path = tmp_path / "hostile.gguf"
    path.write_bytes(header(tensors=text(b"t") + info, tensor_count=1) + b"\0" * 1000)
    with pytest.raises(CheckpointError):
        GGUFFile(path)


def test_names_that_come_twice_are_refused(tmp_path: Path) -> None:
    entry = text(b"k") + struct.pack("<IB", 0, 1)
    tensor = text(b"t") + struct.pack("<IQIQ", 1, 4, 0, 0)
    for data in (header(entry, entry), header(tensors=tensor * 2, tensor_count=2)):
        (tmp_path / "twice.gguf").write_bytes(data + b"\0" * 200)
        assert "twice" in refusal(tmp_path / "twice.gguf")


def test_every_kind_of_metadata_is_read_as_the_gguf_package_reads_it(tiny: Path) -> None:
    values = {
        "UINT8": 200,
        "INT8": -5,
        "UINT16": 60000,
        "INT16": -300,
        "UINT32": 2**32 - 1,
        "INT32": -(2**31),
        "FLOAT32": 0.5,
        "BOOL": True,
        "STRING": "größe",
        "UINT64": 2**64 - 1,
        "INT64": -(2**63),
        "FLOAT64": 1 / 3,
    }

    def change(writer: gguf.GGUFWriter, _: object) -> set[str]:
        for kind, value in values.items():
            writer.add_key_value(f"test.{kind}", value, gguf.GGUFValueType[kind])
        writer.add_array("test.list", [1, 2, 3])
        writer.add_array("test.texts", ["a", "b"])
        return set()

    metadata = GGUFFile(rewritten(tiny, change)).metadata
    assert {kind: metadata[f"test.{kind}"] for kind in values} == values
    assert metadata["test.list"] == [1, 2, 3]
    assert metadata["test.texts"] == ["a", "b"]


# --------------------------------------------------------------- Ollama's vision files


LAYER_PARTS = {
    **{f"self_attn.{x}_proj": f"attn_{x}" for x in "qkv"},
    **{f"cross_attn.{x}_proj": f"cross_attn_{x}_proj" for x in "qkvo"},
    **{f"cross_attn.{x}_norm": f"cross_attn_{x}_norm" for x in "qk"},
    **{f"mlp.{x}_proj": f"ffn_{x}" for x in ("gate", "up", "down")},
    "self_attn.o_proj": "attn_output",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "gate_attn": "attn_gate",
    "gate_ffn": "ffn_gate",
}
TOP_PARTS = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    **{f"vision_model.layernorm_{x}": f"v.{x}_ln" for x in ("pre", "post")},
    **{f"vision_model.{x}_embedding": f"v.{x}_embd" for x in ("class", "patch")},
    "multi_modal_projector": "mm.0",
}


def ollama_name(name: str) -> str:
    """What Ollama's converter calls a tensor."""
    stem, dot, leaf = name.rpartition(".")
    if ".layers." in name:
        if leaf not in ("weight", "bias"):
            stem, dot, leaf = name, "", ""
        where, _, rest = stem.partition(".layers.")
        number, _, part = rest.partition(".")
        blocks = {
            "model": "blk",
            "vision_model.transformer": "v.blk",
            "vision_model.global_transformer": "v.global.blk",
        }[where]
        return f"{blocks}.{number}.{LAYER_PARTS.get(part, part)}{dot}{leaf}"
    if "positional_embedding" in name:
        kind = name.split(".")[1].removesuffix("_positional_embedding")
        row = {"gated": "", "pre_tile": "pre_tile_", "post_tile": "post_tile_"}[kind]
        row = "tile_" if "tile_embedding" in name else row
        return f"v.{row}position_embd.{'gate' if leaf == 'gate' else 'weight'}"
    return TOP_PARTS[name] if name in TOP_PARTS else f"{TOP_PARTS[stem]}.{leaf}"


def write_mllama(path: Path, config: LlamaConfig, *, tanh: bool = True, eyes: bool = True) -> None:
    """A vision model as Ollama 0.7.1 and later convert it."""
    import json

    vision = config.vision
    assert vision is not None
    writer = gguf.GGUFWriter(path, "mllama")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_array("mllama.attention.cross_attention_layers", config.cross_attention_layers)
    prefix = "mllama.vision."
    writer.add_uint32(prefix + "block_count", vision.num_hidden_layers)
    writer.add_uint32(prefix + "global.block_count", vision.num_global_layers)
    writer.add_array(prefix + "intermediate_layers_indices", vision.intermediate_layers_indices)
    writer.add_uint32(prefix + "embedding_length", vision.hidden_size)
    writer.add_uint32(prefix + "feed_forward_length", vision.intermediate_size)
    writer.add_uint32(prefix + "attention.head_count", vision.num_attention_heads)
    writer.add_float32(prefix + "attention.layer_norm_epsilon", vision.norm_eps)
    writer.add_uint32(prefix + "image_size", vision.image_size)
    writer.add_uint32(prefix + "patch_size", vision.patch_size)
    writer.add_uint32(prefix + "max_num_tiles", vision.max_num_tiles)
    writer.add_uint32(prefix + "num_channels", 3)
    content = json.loads(tokenizer_json(image=True))
    specials = {token["content"]: token["id"] for token in content["added_tokens"]}
    tokens = content["model"]["vocab"] | specials
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list(sorted(tokens, key=tokens.__getitem__))
    writer.add_token_types(
        [3 if name in specials else 1 for name in sorted(tokens, key=tokens.get)]
    )  # type: ignore[arg-type]
    writer.add_token_merges([" ".join(merge) for merge in content["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(config.eos_token_ids[0])
    writer.add_tensor("rope_freqs.weight", rope_factors(config))
    for name, tensor in random_weights(config).items():
        array = tensor
        if not eyes and name.startswith("vision_model."):
            continue
        if name.endswith(("q_proj.weight", "k_proj.weight")):
            if name.startswith("vision_model."):
                heads = vision.num_attention_heads
            else:
                keys = name.endswith("k_proj.weight")
                heads = config.num_key_value_heads if keys else config.num_attention_heads
            array = to_interleaved(tensor, heads)
        elif name.startswith("vision_model.") and "gate" in name.rsplit(".", 1)[-1]:
            array = tensor.tanh() if tanh else tensor + 1
            if "gated_positional" in name:
                writer.add_tensor("v.tile_position_embd.gate", array.numpy())
                array = 1 - array
        writer.add_tensor(ollama_name(name), array.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def test_ollamas_vision_files_give_the_weights_that_went_in(tmp_path: Path) -> None:
    write_mllama(tmp_path / "vision.gguf", TINY_VISION)
    checkpoint = open_checkpoint(tmp_path / "vision.gguf")
    assert checkpoint.config == TINY_VISION
    weights = random_weights(TINY_VISION)
    for name, tensor in checkpoint.tensors(torch.float32):
        if "gate" in name.rsplit(".", 1)[-1]:  # tanh and back
            assert torch.allclose(tensor, weights[name], rtol=1e-5)
        else:
            assert torch.equal(tensor, weights[name]), name
    assert checkpoint.tokenizer().special("<|image|>") == TINY_VISION.image_token_id


def test_ollamas_older_vision_files_are_refused(tmp_path: Path) -> None:
    write_mllama(tmp_path / "raw.gguf", TINY_VISION, tanh=False)
    with pytest.raises(CheckpointError, match="Ollama"):
        dict(open_checkpoint(tmp_path / "raw.gguf").tensors(torch.float32))
    write_mllama(tmp_path / "blind.gguf", TINY_VISION, eyes=False)
    assert "vision encoder" in refusal(tmp_path / "blind.gguf")
