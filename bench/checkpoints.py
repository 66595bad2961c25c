"""Checkpoints of random weights in the true shapes, as files that Puna and its peers both read.

One file serves both sides, so bytes, formats and head are equal by construction: GGUF with blocks
of random integers under plausible scales (the time of a product does not depend on the numbers),
the head in Q6_K beside Q4_0 and in Q8_0 beside Q8_0, as llama.cpp's own quantiser leaves it. The
tokenizer is the real one of Llama 3, from the `llama-models` package. Nothing is downloaded.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any, Literal

import gguf
import numpy as np
import torch
from safetensors.torch import save_file

from puna.llama.config import LlamaConfig, RopeScaling
from puna.llama.shapes import tensor_shapes
from puna.llama.tokenizer import Tokenizer
from tests.checkpoints import gguf_name, hf_config, rope_factors

Kind = Literal["Q4_0", "Q8_0", "BF16"]
SPREAD = 0.02  # of a weight

LLAMA_3_2_1B = LlamaConfig(
    hidden_size=2048,
    num_hidden_layers=16,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=8192,
    head_dim=64,
    rope_scaling=RopeScaling(factor=32),
    tie_word_embeddings=True,
)
LLAMA_3_1_8B = LlamaConfig(
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
    head_dim=128,
    rope_scaling=RopeScaling(factor=8),
    tie_word_embeddings=False,
)
SHAPES = {"1B": LLAMA_3_2_1B, "8B": LLAMA_3_1_8B}


def gguf_checkpoint(folder: Path, shape: str, kind: Kind) -> Path:
    """The file of `shape` in `kind`; made if it is not there."""
    path = folder / f"random-{shape}-{kind}.gguf"
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{path.name} is made; a minute for 8B", flush=True)
        unfinished = path.with_suffix(".part")
        _write_gguf(unfinished, SHAPES[shape], kind)
        unfinished.rename(path)
    return path


def hf_checkpoint(folder: Path, shape: str) -> Path:
    """A folder of `shape` in bfloat16, as Hugging Face's libraries read it; made if not there."""
    path = folder / f"random-{shape}-hf"
    if not (path / "config.json").exists():
        path.mkdir(parents=True, exist_ok=True)
        print(f"{path.name} is made; half a minute", flush=True)
        config = SHAPES[shape]
        weights = {
            name: torch.ones(size, dtype=torch.bfloat16)
            if len(size) < 2
            else torch.randn(size, dtype=torch.bfloat16).mul_(SPREAD)
            for name, size in tensor_shapes(config).items()
        }
        save_file(weights, path / "model.safetensors", metadata={"format": "pt"})
        (path / "tokenizer.json").write_text(json.dumps(_tokenizer_json()))
        (path / "tokenizer_config.json").write_text(
            json.dumps(
                {
                    "tokenizer_class": "PreTrainedTokenizerFast",
                    "bos_token": "<|begin_of_text|>",
                    "eos_token": "<|eot_id|>",
                    "unk_token": "<|begin_of_text|>",  # CTranslate2's converter wants one
                }
            )
        )
        (path / "generation_config.json").write_text(json.dumps({"eos_token_id": [128009]}))
        (path / "config.json").write_text(json.dumps(hf_config(config)))
    return path


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


def _write_gguf(path: Path, config: LlamaConfig, kind: Kind) -> None:
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Random")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_rope_freq_base(config.rope_theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_vocab_size(config.vocab_size)
    content = _tokenizer_json()
    specials = [token["content"] for token in content["added_tokens"]]
    vocab: dict[str, int] = content["model"]["vocab"]
    base = sorted(vocab, key=vocab.__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("llama-bpe")
    writer.add_token_list([*base, *specials])
    writer.add_token_types(
        [gguf.TokenType.NORMAL] * len(base) + [gguf.TokenType.CONTROL] * len(specials)
    )
    writer.add_token_merges([" ".join(pair) for pair in content["model"]["merges"]])
    writer.add_bos_token_id(config.bos_token_id)
    writer.add_eos_token_id(128009)
    rng = np.random.default_rng(0)
    tensors = list(_tensors(config, kind))
    for name, size, form in tensors:
        if form == gguf.GGMLQuantizationType.F32:
            writer.add_tensor_info(name, size, np.dtype(np.float32), 4 * size[0])
        else:
            nbytes = gguf.quant_shape_to_byte_shape(size, form)
            writer.add_tensor_info(name, nbytes, np.dtype(np.uint8), int(np.prod(nbytes)), form)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, size, form in tensors:
        rope = name == "rope_freqs.weight"
        writer.write_tensor_data(rope_factors(config) if rope else _random(rng, size, form))
    writer.close()


def _tensors(
    config: LlamaConfig, kind: Kind
) -> Iterator[tuple[str, tuple[int, ...], gguf.GGMLQuantizationType]]:
    """Name, shape and type of each; the head is token_embd where there is no output."""
    types = gguf.GGMLQuantizationType
    yield "rope_freqs.weight", (config.head_dim // 2,), types.F32
    head = "token_embd.weight" if config.tie_word_embeddings else "output.weight"
    for canonical, size in tensor_shapes(config).items():
        name = gguf_name(canonical)
        if len(size) < 2:
            yield name, size, types.F32
        elif name == head and kind == "Q4_0":
            yield name, size, types.Q6_K
        else:
            yield name, size, types[kind]


def _random(
    rng: np.random.Generator, size: tuple[int, ...], form: gguf.GGMLQuantizationType
) -> np.ndarray:
    """Blocks as the format lays them out, under scales that give weights of about `SPREAD`."""
    types = gguf.GGMLQuantizationType
    if form == types.F32:
        return np.ones(size, np.float32)
    rows, columns = size
    if form == types.BF16:
        high = rng.standard_normal((rows, columns), np.float32) * np.float32(SPREAD)
        return (high.view(np.uint32) >> 16).astype(np.uint16).view(np.uint8)
    per, nbytes = gguf.GGML_QUANT_SIZES[form]
    blocks = rng.integers(0, 256, (rows * columns // per, nbytes), np.uint8)
    if form == types.Q4_0:
        blocks[:, :2] = _scales(rng, len(blocks), SPREAD / 4.6)
    elif form == types.Q8_0:
        blocks[:, :2] = _scales(rng, len(blocks), SPREAD / 73)
    else:  # Q6_K: 192 bytes of integers, 16 scales of a group, one of all
        blocks[:, 192:208] = rng.integers(6, 11, (len(blocks), 16), np.uint8)
        blocks[:, 208:] = _scales(rng, len(blocks), SPREAD / 18.5 / 8)
    return blocks.reshape(rows, -1)


def _scales(rng: np.random.Generator, count: int, middle: float) -> np.ndarray:
    """fp16 scales around `middle`, as bytes [count, 2]."""
    scales = (middle * rng.uniform(0.5, 1.5, count)).astype(np.float16)
    return scales.reshape(-1, 1).view(np.uint8)


def _tokenizer_json() -> dict[str, Any]:
    """The real tokenizer of Llama 3 in Hugging Face's form."""
    model = Path(str(files("llama_models") / "llama3" / "tokenizer.model"))
    tokenizer = Tokenizer.from_file(model)
    encoder: Any = tokenizer._encoder  # pyright: ignore[reportPrivateUsage]
    content: dict[str, Any] = json.loads(encoder.to_str())
    specials: Mapping[str, int] = {
        name: tokenizer.special(name) for name in tokenizer.special_names
    }
    content["added_tokens"] = [
        {
            "id": number,
            "content": name,
            "special": True,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
        }
        for name, number in sorted(specials.items(), key=lambda item: item[1])
        if number < 128256
    ]
    return content
