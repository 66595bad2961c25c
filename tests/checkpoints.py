"""Tiny random Llamas, written to disk in every layout that the real ones come in.

    weights = random_weights(TINY_TEXT, seed=1)
    write_hf(tmp_path, TINY_TEXT, weights)          # also shards=3, naming="v5", dtype=...
    write_meta(tmp_path, TINY_TEXT, weights, shards=2)
    write_gguf(tmp_path / "tiny.gguf", TINY_TEXT, weights, quant="Q8_0")

The names of each layout are spelled out here a second time on purpose: were they taken from
`puna.llama.weights`, a wrong name there would go unnoticed. The tokenizer has Llama 3's structure
in small: 256 bytes and 256 merges, then 256 special tokens in Meta's order (so `<|begin_of_text|>`
is 512, `<|eot_id|>` 521, `<|python_tag|>` 522), and `<|image|>` = 768 = vocab_size.
"""

from __future__ import annotations

import base64
import functools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors.torch import save_file
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors
from tokenizers.trainers import BpeTrainer
from torch import Tensor

from puna.llama.config import LlamaConfig, RopeScaling, VisionConfig
from puna.llama.shapes import tensor_shapes

Weights = dict[str, Tensor]

NUM_BASE_TOKENS = 512
VOCAB_SIZE = NUM_BASE_TOKENS + 256
BOS, EOS, EOM, EOT, PYTHON_TAG = (NUM_BASE_TOKENS + i for i in (0, 1, 8, 9, 10))

TINY_TEXT = LlamaConfig(
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=4,
    num_key_value_heads=2,
    intermediate_size=192,
    head_dim=16,
    vocab_size=VOCAB_SIZE,
    rope_scaling=RopeScaling(8.0),
    bos_token_id=BOS,
    eos_token_ids=(EOS, EOM, EOT),
)
"""As Llama 3.1: a head of its own, rotary factor 8."""

TINY_TIED = replace(TINY_TEXT, rope_scaling=RopeScaling(32.0), tie_word_embeddings=True)
"""As Llama 3.2 1B and 3B: tied, rotary factor 32."""

TINY_WIDE = replace(
    TINY_TEXT, hidden_size=256, intermediate_size=768, head_dim=32, num_attention_heads=8
)
"""Rows of 256, so that it can be written in GGUF's K-quants."""

TINY_VISION = replace(
    TINY_TEXT,
    num_hidden_layers=5,
    cross_attention_layers=(1, 4),
    vision=VisionConfig(
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=128,
        num_hidden_layers=5,
        num_global_layers=2,
        image_size=56,
        intermediate_layers_indices=(0, 2, 4),
    ),
)
"""As Llama 3.2 Vision: 4 x 4 patches and the class token a tile, three intermediate layers."""

TINY_META_VISION = replace(
    TINY_VISION,
    cross_attention_layers=(0, 3),
    vision=VisionConfig(hidden_size=64, intermediate_size=256, image_size=28),
)
"""The same with what Meta's files leave unsaid: 32 + 8 layers, 16 heads, and its own places for
the cross-attention layers."""


def random_weights(
    config: LlamaConfig, seed: int = 0, dtype: torch.dtype = torch.float32
) -> Weights:
    """Every tensor by its canonical name; large enough that each one moves the logits."""
    generator = torch.Generator().manual_seed(seed)
    weights: Weights = {}
    for name, shape in tensor_shapes(config).items():
        noise = torch.randn(shape, generator=generator)
        if name.endswith(("norm.weight", "layernorm_pre.weight", "layernorm_post.weight")):
            noise = 1 + 0.1 * noise
        elif "gate" in name and shape == (1,):
            noise = 0.5 + 0.1 * noise
        elif name.endswith("bias"):
            noise = 0.1 * noise
        elif "embed" not in name:
            noise = noise / math.sqrt(shape[-1])
        weights[name] = noise.to(dtype)
    return weights


# ---------------------------------------------------------------------------------- tokenizer

_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_CORPUS = """What is the weather in Stockholm? The weather is cold and the sky is grey.
You are a helpful assistant that describes images in details. What's in this image?
Environment: ipython Tools: brave_search, wolfram_alpha Cutting Knowledge Date: December 2023
Today Date: 23 July 2024 brave_search.call(query="Stockholm weather") {"name": "get_weather",
"parameters": {"city": "Paris", "unit": "celsius"}} system user assistant The answer is 42.
A red circle and two blue squares on a white background, on the left and on the right.
The picture shows three green triangles above a yellow rectangle; nothing else can be seen there.
Which function should be called? Use the tool only if needed, otherwise answer from the passage.
def add(first, second): return first + second  # prints 1234567890, naïve café, Größe, 東京, Привет
"""


def special_tokens(*, image: bool = False) -> list[str]:
    """The 256 special tokens in the order of their ids, and `<|image|>` after them if asked."""
    named = [
        "<|begin_of_text|>",
        "<|end_of_text|>",
        "<|reserved_special_token_0|>",
        "<|reserved_special_token_1|>",
        "<|finetune_right_pad_id|>",
        "<|step_id|>",
        "<|start_header_id|>",
        "<|end_header_id|>",
        "<|eom_id|>",
        "<|eot_id|>",
        "<|python_tag|>",
    ]
    reserved = [f"<|reserved_special_token_{i + 2}|>" for i in range(256 - len(named))]
    return [*named, *reserved, *(["<|image|>"] if image else [])]


@functools.cache
def _trained() -> str:
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(_SPLIT), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = BpeTrainer(
        vocab_size=NUM_BASE_TOKENS,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator([_CORPUS] * 4, trainer)
    assert tokenizer.get_vocab_size() == NUM_BASE_TOKENS, "the corpus is too short"
    return tokenizer.to_str()


def tokenizer_json(*, image: bool = False) -> str:
    """A `tokenizer.json` as Hugging Face writes it for Llama 3."""
    tokenizer = Tokenizer.from_str(_trained())
    tokenizer.add_special_tokens(
        [AddedToken(token, special=True, normalized=False) for token in special_tokens(image=image)]
    )
    tokenizer.post_processor = processors.Sequence(
        [
            processors.ByteLevel(trim_offsets=False),
            processors.TemplateProcessing(
                single="<|begin_of_text|> $A", special_tokens=[("<|begin_of_text|>", BOS)]
            ),
        ]
    )
    return tokenizer.to_str(pretty=True)


def _byte_of() -> dict[str, int]:
    """GPT-2's printable character for each byte, turned round."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(256 + i): byte for i, byte in enumerate(others)}


def tokenizer_model() -> bytes:
    """A `tokenizer.model` as Meta ships it: `base64 rank` lines, without the special tokens."""
    byte_of = _byte_of()
    vocab = json.loads(_trained())["model"]["vocab"]
    lines = [
        base64.b64encode(bytes(byte_of[c] for c in token)) + b" %d\n" % rank
        for token, rank in sorted(vocab.items(), key=lambda item: item[1])
    ]
    return b"".join(lines)


# ------------------------------------------------------------------------------- Hugging Face


def hf_config(config: LlamaConfig, *, naming: Literal["v4", "v5"] = "v4") -> dict[str, Any]:
    """`config.json`, with the keys of the published files (`v5`: as transformers 5 saves it)."""
    scaling = config.rope_scaling
    rope: dict[str, Any] = {"rope_type": "default"}
    if scaling:
        rope = {
            "factor": scaling.factor,
            "low_freq_factor": scaling.low_freq_factor,
            "high_freq_factor": scaling.high_freq_factor,
            "original_max_position_embeddings": scaling.original_max_position_embeddings,
            "rope_type": "llama3",
        }
    text: dict[str, Any] = {
        "bos_token_id": config.bos_token_id,
        "eos_token_id": list(config.eos_token_ids),
        "hidden_act": "silu",
        "hidden_size": config.hidden_size,
        "initializer_range": 0.02,
        "intermediate_size": config.intermediate_size,
        "max_position_embeddings": config.max_position_embeddings,
        "num_attention_heads": config.num_attention_heads,
        "num_hidden_layers": config.num_hidden_layers,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "tie_word_embeddings": config.tie_word_embeddings,
        "use_cache": True,
        "vocab_size": config.vocab_size,
    }
    if naming == "v5":
        text["rope_parameters"] = {**rope, "rope_theta": config.rope_theta}
    else:
        text |= {"rope_scaling": rope if scaling else None, "rope_theta": config.rope_theta}
    vision = config.vision
    if vision is None:
        return text | {
            "architectures": ["LlamaForCausalLM"],
            "attention_bias": False,
            "attention_dropout": 0.0,
            "head_dim": config.head_dim,
            "mlp_bias": False,
            "model_type": "llama",
            "pretraining_tp": 1,
            "torch_dtype": "bfloat16",
        }
    return {
        "architectures": ["MllamaForConditionalGeneration"],
        "image_token_index": config.image_token_id,
        "model_type": "mllama",
        "text_config": text
        | {
            "cross_attention_layers": list(config.cross_attention_layers),
            "model_type": "mllama_text_model",
            "pad_token_id": config.bos_token_id + 4,
        },
        "torch_dtype": "bfloat16",
        "vision_config": {
            "attention_heads": vision.num_attention_heads,
            "hidden_act": "gelu",
            "hidden_size": vision.hidden_size,
            "image_size": vision.image_size,
            "intermediate_layers_indices": list(vision.intermediate_layers_indices),
            "intermediate_size": vision.intermediate_size,
            "max_num_tiles": vision.max_num_tiles,
            "model_type": "mllama_vision_model",
            "norm_eps": vision.norm_eps,
            "num_channels": 3,
            "num_global_layers": vision.num_global_layers,
            "num_hidden_layers": vision.num_hidden_layers,
            "patch_size": vision.patch_size,
            "supported_aspect_ratios": [list(ratio) for ratio in vision.supported_aspect_ratios],
            "vision_output_dim": vision.vision_output_dim,
        },
    }


def hf_name(name: str, config: LlamaConfig, naming: Literal["v4", "v5"] = "v4") -> str:
    """What the published files (`v4`) or transformers 5 (`v5`) call a tensor."""
    if config.vision is None:
        return name
    if naming == "v4":
        return "language_model." + name if name.startswith(("model.", "lm_head.")) else name
    if name.startswith("lm_head."):
        return name
    return "model." + (
        name.replace("model.", "language_model.", 1) if name[:6] == "model." else name
    )


def write_hf(
    directory: Path,
    config: LlamaConfig,
    weights: Weights,
    *,
    shards: int = 1,
    naming: Literal["v4", "v5"] = "v4",
    dtype: torch.dtype | None = None,
    greedy: bool = True,
    tokenizer: bool = True,
) -> Path:
    """A directory as from the hub. `greedy`: what `generation_config.json` asks for."""
    directory.mkdir(parents=True, exist_ok=True)
    named = {
        hf_name(name, config, naming): tensor.to(dtype or tensor.dtype).contiguous()
        for name, tensor in weights.items()
    }
    if shards == 1:
        save_file(named, directory / "model.safetensors", {"format": "pt"})
    else:
        names = list(named)
        index: dict[str, str] = {}
        for shard in range(shards):
            part = names[shard::shards]
            file = f"model-{shard + 1:05}-of-{shards:05}.safetensors"
            save_file({name: named[name] for name in part}, directory / file, {"format": "pt"})
            index |= dict.fromkeys(part, file)
        total = sum(tensor.nbytes for tensor in named.values())
        write_json(
            directory / "model.safetensors.index.json",
            {"metadata": {"total_size": total}, "weight_map": index},
        )
    write_json(directory / "config.json", hf_config(config, naming=naming))
    sampling = {} if greedy else {"temperature": 0.6, "top_p": 0.9}
    write_json(
        directory / "generation_config.json",
        {
            "bos_token_id": config.bos_token_id,
            "do_sample": not greedy,
            "eos_token_id": list(config.eos_token_ids),
            **sampling,
        },
    )
    if tokenizer:
        image = config.vision is not None
        (directory / "tokenizer.json").write_text(tokenizer_json(image=image), encoding="utf-8")
        write_json(
            directory / "tokenizer_config.json",
            {
                "bos_token": "<|begin_of_text|>",
                "eos_token": "<|eot_id|>",
                "model_max_length": config.max_position_embeddings,
                "tokenizer_class": "PreTrainedTokenizerFast",
            },
        )
    return directory


def write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=2), encoding="utf-8")


# --------------------------------------------------------------------------------------- Meta


def to_interleaved(weight: Tensor, heads: int) -> Tensor:
    """Half-split rotary rows (Hugging Face) -> interleaved ones (Meta, GGUF)."""
    rows, columns = weight.shape
    halves = weight.view(heads, 2, rows // heads // 2, columns)
    return halves.transpose(1, 2).reshape(rows, columns)


_META_LAYER = {
    "self_attn.q_proj": "attention.wq",
    "self_attn.k_proj": "attention.wk",
    "self_attn.v_proj": "attention.wv",
    "self_attn.o_proj": "attention.wo",
    "cross_attn.q_proj": "attention.wq",
    "cross_attn.k_proj": "attention.wk",
    "cross_attn.v_proj": "attention.wv",
    "cross_attn.o_proj": "attention.wo",
    "cross_attn.q_norm": "attention.q_norm",
    "cross_attn.k_norm": "attention.k_norm",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
    "cross_attn_attn_gate": "gate_attn",
    "cross_attn_mlp_gate": "gate_ffwd",
}
_META_VISION = (
    ("vision_model.patch_embedding.", "vision_model.vision_encoder.conv1._linear."),
    ("vision_model.class_embedding", "vision_model.vision_encoder.class_embedding"),
    ("multi_modal_projector.", "vision_model.vision_projection."),
    ("vision_model.layernorm_", "vision_model.vision_encoder.ln_"),
    (
        "vision_model.gated_positional_embedding.embedding",
        "vision_model.vision_encoder.positional_embedding",
    ),
    (
        "vision_model.gated_positional_embedding.tile_embedding.weight",
        "vision_model.vision_encoder.gated_positional_embedding",
    ),
    (
        "vision_model.gated_positional_embedding.gate",
        "vision_model.vision_encoder.gated_positional_embedding_gate",
    ),
    ("pre_tile_positional_embedding.embedding.weight", "pre_tile_pos_embed.embedding"),
    ("post_tile_positional_embedding.embedding.weight", "post_tile_pos_embed.embedding"),
    ("_tile_positional_embedding.gate", "_tile_pos_embed.gate"),
    ("vision_model.pre_tile", "vision_model.vision_encoder.pre_tile"),
    ("vision_model.post_tile", "vision_model.vision_encoder.post_tile"),
    ("vision_model.transformer.layers.", "vision_model.vision_encoder.transformer.resblocks."),
    (
        "vision_model.global_transformer.layers.",
        "vision_model.vision_encoder.global_transformer.resblocks.",
    ),
    (".self_attn.q_proj", ".attn.wq"),
    (".self_attn.k_proj", ".attn.wk"),
    (".self_attn.v_proj", ".attn.wv"),
    (".self_attn.o_proj", ".attn.wo"),
    (".mlp.fc1", ".mlp.c_fc"),
    (".mlp.fc2", ".mlp.c_proj"),
    (".input_layernorm.", ".ln_1."),
    (".post_attention_layernorm.", ".ln_2."),
)


def _tile_grid(rows: Tensor, vision: VisionConfig, patches: int) -> Tensor:
    """Rows by aspect ratio id (Hugging Face) -> a grid [tiles, tiles, patches, width] (Meta).

    The grid holds what the ratios cover; the rest, which no image reaches, is noise.
    """
    tiles, width = vision.max_num_tiles, vision.hidden_size
    grid = torch.randn(tiles, tiles, patches, width, generator=torch.Generator().manual_seed(7))
    grid = grid.to(rows.dtype)
    for ratio_id, (height, wide) in enumerate(vision.supported_aspect_ratios, start=1):
        row = rows[ratio_id].view(tiles, patches, width)[: height * wide]
        grid[:height, :wide] = row.view(height, wide, patches, width)
    return grid


def consistent_tiles(config: LlamaConfig, weights: Weights) -> Weights:
    """The weights with tile embeddings that one grid can give (as all published ones are)."""
    vision = config.vision
    assert vision is not None
    result = dict(weights)
    for name, tensor in weights.items():
        if "embedding.weight" not in name or not name.startswith("vision_model."):
            continue
        if name.startswith("vision_model.patch"):
            continue
        patches = vision.num_patches if "gated_positional" in name else 1
        tiles, width = vision.max_num_tiles, vision.hidden_size
        grid = _tile_grid(tensor, vision, patches)
        rows = torch.zeros(tensor.shape[0], tiles, patches, width, dtype=tensor.dtype)
        for ratio_id, (height, wide) in enumerate(vision.supported_aspect_ratios, start=1):
            part = grid[:height, :wide].reshape(height * wide, patches, width)
            rows[ratio_id, : height * wide] = part
        result[name] = rows.flatten(1)
    return result


def meta_state_dict(config: LlamaConfig, weights: Weights) -> Weights:
    """The whole (unsharded) state dict under Meta's names, in Meta's order of rotary rows."""
    prefix = "text_model." if config.vision else ""
    state: Weights = {}
    for name, tensor in weights.items():
        if name == "model.embed_tokens.weight":
            state[prefix + "tok_embeddings.weight"] = tensor[: config.vocab_size]
            if config.vision:
                state[prefix + "learnable_embedding.weight"] = tensor[config.vocab_size :]
        elif name == "model.norm.weight":
            state[prefix + "norm.weight"] = tensor
        elif name == "lm_head.weight":
            state[prefix + "output.weight"] = tensor
        elif name.startswith("model.layers."):
            _, _, number, rest = name.split(".", 3)
            stem, dot, leaf = rest.rpartition(".") if "." in rest else (rest, "", "")
            layer = int(number)
            if layer in config.cross_attention_layers:
                where = f"cross_attention_layers.{config.cross_attention_layers.index(layer)}"
            else:
                where = f"layers.{config.self_attention_layers.index(layer)}"
            if rest == "self_attn.q_proj.weight":
                tensor = to_interleaved(tensor, config.num_attention_heads)
            elif rest == "self_attn.k_proj.weight":
                tensor = to_interleaved(tensor, config.num_key_value_heads)
            state[f"{prefix}{where}.{_META_LAYER[stem]}{dot}{leaf}"] = tensor
        else:
            assert config.vision is not None
            for ours, metas in _META_VISION:
                name = name.replace(ours, metas)
            if name.endswith("conv1._linear.weight"):
                tensor = tensor.flatten(1)
            elif name.endswith("vision_encoder.gated_positional_embedding"):
                tensor = _tile_grid(tensor, config.vision, config.vision.num_patches)
            elif name.endswith("tile_pos_embed.embedding"):
                tensor = _tile_grid(tensor, config.vision, 1)
            state[name] = tensor
    return state


def _meta_shard_dim(name: str) -> int | None:
    if name.endswith((".wo.weight", ".w2.weight", ".c_proj.weight")):
        return 1
    split = (
        *(".wq.weight", ".wk.weight", ".wv.weight", ".w1.weight", ".w3.weight"),
        *("output.weight", "tok_embeddings.weight", "learnable_embedding.weight"),
        *(".c_fc.weight", ".c_fc.bias", "conv1._linear.weight"),
        *("vision_projection.weight", "vision_projection.bias"),
    )
    return 0 if name.endswith(split) else None


def meta_params(config: LlamaConfig) -> dict[str, Any]:
    """`params.json`; the intermediate size is said by its multiple alone, as in Meta's files."""
    base = int(8 * config.hidden_size / 3)
    multiple_of = config.intermediate_size // 3  # any multiple that rounds `base` up to the size
    while -(-base // multiple_of) * multiple_of != config.intermediate_size:
        multiple_of -= 1
        assert multiple_of, f"{config.intermediate_size} is not Meta's size for this hidden size"
    params: dict[str, Any] = {
        "dim": config.hidden_size,
        "n_layers": len(config.self_attention_layers),
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "vocab_size": config.vocab_size,
        "multiple_of": multiple_of,
        "ffn_dim_multiplier": 1.0,
        "norm_eps": config.rms_norm_eps,
        "rope_theta": config.rope_theta,
        "use_scaled_rope": config.rope_scaling is not None,
    }
    if config.vision:
        params |= {
            "vision_chunk_size": config.vision.image_size,
            "vision_max_num_chunks": config.vision.max_num_tiles,
            "vision_num_cross_attention_layers": len(config.cross_attention_layers),
        }
    return params


def write_meta(
    directory: Path,
    config: LlamaConfig,
    weights: Weights,
    *,
    shards: int = 1,
    tokenizer: bool = True,
) -> Path:
    """`consolidated.NN.pth`, `params.json` and `tokenizer.model`, as Meta ships them.

    A tied model is written as Meta does it: `output.weight` is there, and is the embedding's
    storage. Vision weights must be `consistent_tiles`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    state = meta_state_dict(config, weights)
    if config.tie_word_embeddings:
        state["output.weight"] = state["tok_embeddings.weight"]
    for shard in range(shards):
        part: Weights = {}
        for name, tensor in state.items():
            dim = _meta_shard_dim(name)
            piece = tensor if dim is None else tensor.chunk(shards, dim)[shard]
            part[name] = piece if shards == 1 else piece.clone()
        if config.tie_word_embeddings:
            part["output.weight"] = part["tok_embeddings.weight"]
        torch.save(part, directory / f"consolidated.{shard:02}.pth")
    write_json(directory / "params.json", meta_params(config))
    if tokenizer:
        (directory / "tokenizer.model").write_bytes(tokenizer_model())
    return directory


# --------------------------------------------------------------------------------------- GGUF

_GGUF_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def gguf_name(name: str) -> str:
    """llama.cpp's name of a text tensor."""
    if name.startswith("model.layers."):
        _, _, number, rest = name.split(".", 3)
        stem, _, leaf = rest.rpartition(".")
        return f"blk.{number}.{_GGUF_LAYER[stem]}.{leaf}"
    return {
        "model.embed_tokens.weight": "token_embd.weight",
        "model.norm.weight": "output_norm.weight",
        "lm_head.weight": "output.weight",
    }[name]


def rope_factors(config: LlamaConfig) -> np.ndarray:
    """What llama.cpp divides the rotary frequencies by: float32 [head_dim / 2]."""
    scaling = config.rope_scaling
    assert scaling is not None
    factors: list[float] = []
    for i in range(0, config.head_dim, 2):
        wavelength = 2 * math.pi * config.rope_theta ** (i / config.head_dim)
        turns = scaling.original_max_position_embeddings / wavelength
        if turns > scaling.high_freq_factor:
            factors.append(1)
        elif turns < scaling.low_freq_factor:
            factors.append(scaling.factor)
        else:
            low, high = scaling.low_freq_factor, scaling.high_freq_factor
            smooth = (turns - low) / (high - low)
            factors.append(1 / ((1 - smooth) / scaling.factor + smooth))
    return np.array(factors, dtype=np.float32)


def write_gguf(
    path: Path,
    config: LlamaConfig,
    weights: Weights,
    *,
    quant: Literal["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"] = "F32",
    tokenizer: bool = True,
) -> Path:
    """A text model as llama.cpp's converter writes it: matrices in `quant`, vectors in F32."""
    import gguf

    assert config.vision is None, "llama.cpp has no file format for Llama 3.2 Vision"
    path.parent.mkdir(parents=True, exist_ok=True)
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_name("Tiny")
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
    if tokenizer:
        model = json.loads(tokenizer_json())["model"]
        base = sorted(model["vocab"], key=model["vocab"].__getitem__)
        specials = special_tokens()
        normal, control = gguf.TokenType.NORMAL, gguf.TokenType.CONTROL
        writer.add_tokenizer_model("gpt2")
        writer.add_tokenizer_pre("llama-bpe")
        writer.add_token_list([*base, *specials])
        writer.add_token_types([normal] * len(base) + [control] * len(specials))
        writer.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in model["merges"]])
        writer.add_bos_token_id(config.bos_token_id)
        writer.add_eos_token_id(EOT)
    if config.rope_scaling:
        writer.add_tensor("rope_freqs.weight", rope_factors(config))
    kind = gguf.GGMLQuantizationType[quant]
    for name, tensor in weights.items():
        if name.endswith("self_attn.q_proj.weight"):
            tensor = to_interleaved(tensor, config.num_attention_heads)
        elif name.endswith("self_attn.k_proj.weight"):
            tensor = to_interleaved(tensor, config.num_key_value_heads)
        array = tensor.float().contiguous().numpy()
        if array.ndim == 1 or quant == "F32":
            writer.add_tensor(gguf_name(name), array)
        elif quant in ("Q4_K", "Q6_K"):
            packed = (quantize_q4_k if quant == "Q4_K" else quantize_q6_k)(array)
            writer.add_tensor(gguf_name(name), packed, raw_dtype=kind)
        else:
            writer.add_tensor(gguf_name(name), gguf.quantize(array, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _fp16_bytes(values: np.ndarray) -> np.ndarray:
    return values.astype(np.float16).reshape(-1, 1).view(np.uint8)


def quantize_q4_k(weight: np.ndarray) -> np.ndarray:
    """A plain Q4_K encoder (the gguf package only decodes it): uint8 [rows, columns / 256 * 144].

    x = d * scale * q - dmin * min, with a 6-bit scale and min for each 32 values.
    """
    blocks = weight.reshape(-1, 8, 32)
    low = np.minimum(blocks.min(axis=2), 0)
    step = (blocks.max(axis=2) - low) / 15
    d = (step.max(axis=1) / 63).astype(np.float16).astype(np.float32)
    dmin = (-low.min(axis=1) / 63).astype(np.float16).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.nan_to_num(np.round(step / d[:, None]), posinf=0).clip(0, 63).astype(np.uint8)
        floor = np.nan_to_num(np.round(-low / dmin[:, None]), posinf=0).clip(0, 63).astype(np.uint8)
        spread = (d[:, None] * scale)[:, :, None]
        shift = (dmin[:, None] * floor)[:, :, None]
        q = np.nan_to_num(np.round((blocks + shift) / spread)).clip(0, 15).astype(np.uint8)
    packed = np.zeros((len(blocks), 12), np.uint8)
    packed[:, 0:4] = scale[:, :4] | (scale[:, 4:] >> 4 << 6)
    packed[:, 4:8] = floor[:, :4] | (floor[:, 4:] >> 4 << 6)
    packed[:, 8:12] = (scale[:, 4:] & 15) | (floor[:, 4:] & 15) << 4
    nibbles = (q[:, 0::2] | q[:, 1::2] << 4).reshape(-1, 128)
    data = np.concatenate([_fp16_bytes(d), _fp16_bytes(dmin), packed, nibbles], axis=1)
    return data.reshape(*weight.shape[:-1], -1)


def quantize_q6_k(weight: np.ndarray) -> np.ndarray:
    """A plain Q6_K encoder: uint8 [rows, columns / 256 * 210]. x = d * scale * (q - 32)."""
    blocks = weight.reshape(-1, 16, 16)
    step = np.abs(blocks).max(axis=2) / 31
    d = (step.max(axis=1) / 127).astype(np.float16).astype(np.float32)
    with np.errstate(divide="ignore", invalid="ignore"):
        scale = np.nan_to_num(np.round(step / d[:, None]), posinf=0).clip(0, 127)
        spread = (d[:, None] * scale)[:, :, None]
        q = np.nan_to_num(np.round(blocks / spread)).clip(-32, 31)
    q = (q + 32).astype(np.uint8).reshape(-1, 2, 4, 32)  # two halves of four runs of 32
    low = (q[:, :, :2] & 15) | (q[:, :, 2:] & 15) << 4
    high = q[:, :, 0] >> 4 | q[:, :, 1] >> 4 << 2 | q[:, :, 2] >> 4 << 4 | q[:, :, 3] >> 4 << 6
    data = np.concatenate(
        [
            low.reshape(-1, 128),
            high.reshape(-1, 64),
            scale.astype(np.int8).view(np.uint8),
            _fp16_bytes(d),
        ],
        axis=1,
    )
    return data.reshape(*weight.shape[:-1], -1)
