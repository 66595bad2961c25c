"""llama.cpp's layout: one GGUF file with weights, description and tokenizer.

Text models (architecture `llama`), and vision models as Ollama converts them (`mllama`): llama.cpp
itself has no layout for those. Weights are dequantised when read, or taken as they are where our
kernels have the format. It knows no bytes: the container is `gguf_file.py`.

What is said of Ollama is its converter's doing, read there (0.7.1 and later); no published file was
at hand to try. It stores the vision encoder's gates as tanh(gate), the position gate twice (as
1 - tanh and tanh), and the rows of every q_proj and k_proj in interleaved order, cross-attention's
and the encoder's included, though those do not rotate.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from puna.errors import CheckpointError
from puna.kernels import Format, Packed, give_back, in_parts
from puna.llama.config import LlamaConfig, RopeScaling, VisionConfig
from puna.llama.rope import rope_frequencies
from puna.llama.shapes import Shape, tensor_shapes
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights.check_config import check_config
from puna.llama.weights.checkpoint import Checkpoint, aspect_ratios, copied, half_split
from puna.llama.weights.fields import Fields, show
from puna.llama.weights.ggml_quants import GGMLType, repacked
from puna.llama.weights.gguf_file import GGUFFile

_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "multi_modal_projector": "mm.0",
    "vision_model.patch_embedding": "v.patch_embd",
    "vision_model.class_embedding": "v.class_embd",
    "vision_model.layernorm_pre": "v.pre_ln",
    "vision_model.layernorm_post": "v.post_ln",
    "vision_model.gated_positional_embedding.embedding": "v.position_embd.weight",
    "vision_model.gated_positional_embedding.gate": "v.tile_position_embd.gate",
    "vision_model.gated_positional_embedding.tile_embedding": "v.tile_position_embd",
    "vision_model.pre_tile_positional_embedding.gate": "v.pre_tile_position_embd.gate",
    "vision_model.pre_tile_positional_embedding.embedding": "v.pre_tile_position_embd",
    "vision_model.post_tile_positional_embedding.gate": "v.post_tile_position_embd.gate",
    "vision_model.post_tile_positional_embedding.embedding": "v.post_tile_position_embd",
}
_LAYERS = {
    "model.layers": "blk",
    "vision_model.transformer.layers": "v.blk",
    "vision_model.global_transformer.layers": "v.global.blk",
}
_PART = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "mlp.fc1": "ffn_up",
    "mlp.fc2": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
    "cross_attn.q_proj": "cross_attn_q_proj",
    "cross_attn.k_proj": "cross_attn_k_proj",
    "cross_attn.v_proj": "cross_attn_v_proj",
    "cross_attn.o_proj": "cross_attn_o_proj",
    "cross_attn.q_norm": "cross_attn_q_norm",
    "cross_attn.k_norm": "cross_attn_k_norm",
    "cross_attn_attn_gate": "cross_attn_attn_gate",
    "cross_attn_mlp_gate": "cross_attn_mlp_gate",
    "gate_attn": "attn_gate",
    "gate_ffn": "ffn_gate",
}
_NO_WEIGHTS = ("rope_freqs.weight", "v.position_embd.gate")
_LAYER = re.compile(r"(.+\.layers)\.(\d+)\.(.+?)(\.weight|\.bias)?$")


class GGUFCheckpoint(Checkpoint):
    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = files[0] if path.is_dir() else path
        self._file = GGUFFile(self.path)
        self._fields = Fields(self._file.metadata, self.path)
        family = _family(self._fields)
        self.config = _config(self._fields, self._file, family)
        check_config(self.config, str(self.path))
        self._names = {name: gguf_name(name) for name in tensor_shapes(self.config)}
        sizes = Counter[GGMLType]()
        for tensor in self._file.tensors.values():
            sizes[tensor.kind] += tensor.size
        ((most, _),) = sizes.most_common(1)
        self.stored_dtype = most.plain or torch.float16
        self.layout = f"GGUF {most.name}"
        self.quantized = None if most.plain else most.name

    def stored_shapes(self) -> Mapping[str, Shape]:
        found: dict[str, Shape] = {}
        tensors = self._file.tensors
        for name, stored_name in self._names.items():
            if stored_name in tensors:
                found[name] = tensors[stored_name].shape
        used = {*self._names.values(), *_NO_WEIGHTS}
        return found | {n: t.shape for n, t in tensors.items() if n not in used}

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        stored_name = self._names[name]
        if _is_tanh(name):
            gate = self._file.read(stored_name, torch.float32)
            if not bool((gate.abs() <= 1).all()):
                raise CheckpointError(
                    f"{self.path}: {stored_name} is no tanh: the file was converted by an Ollama "
                    "older than 0.7.1. Convert or pull it again"
                )
            return torch.atanh(gate).to(dtype)
        tensor = self._file.read(stored_name, dtype)
        if heads := self._interleaved_heads(name):
            return copied(half_split(tensor, heads), tensor)
        return tensor

    def stored_format(self, name: str) -> Format | None:
        return self._file.tensors[self._names[name]].kind.format

    def packed(self, name: str) -> Packed:
        tensor = self._file.tensors[self._names[name]]
        rows, columns = tensor.shape
        return repacked(self._raw_parts(name), rows, columns, tensor.kind)

    def parts(self, name: str) -> Iterator[Tensor]:
        tensor = self._file.tensors[self._names[name]]
        for raw in self._raw_parts(name):
            # numbers times fp16 scales are exact in fp32 alone
            values = self._file.values(raw, tensor.kind, tensor.kind.plain or torch.float32)
            yield values.view(len(raw), -1)

    def _raw_parts(self, name: str) -> Iterator[Tensor]:
        """A matrix's bytes, uint8 [rows, bytes a row], as `parts` gives its values."""
        stored_name = self._names[name]
        rows, columns = self._file.tensors[stored_name].shape
        raw = self._file.raw(stored_name).view(rows, -1)
        if heads := self._interleaved_heads(name):
            raw = copied(half_split(raw, heads), raw)
        for part in in_parts(raw, columns):
            yield part
            give_back(part)

    def _interleaved_heads(self, name: str) -> int | None:
        if not name.endswith(("q_proj.weight", "k_proj.weight")):
            return None
        if self.config.vision and name.startswith("vision_model."):
            return self.config.vision.num_attention_heads
        if name.endswith("q_proj.weight"):
            return self.config.num_attention_heads
        return self.config.num_key_value_heads

    def _open_tokenizer(self) -> Tokenizer:
        names = ("tokens", "merges", "token_type")
        missing = [name for name in names if f"tokenizer.ggml.{name}" not in self._fields]
        if missing:
            raise CheckpointError(
                f"{self.path} holds no tokenizer (tokenizer.ggml.{missing[0]}): take a GGUF with "
                "one, as llama.cpp's converter writes it"
            )
        try:
            return Tokenizer.from_gguf_metadata(
                self._fields.texts("tokenizer.ggml.tokens"),
                self._fields.texts("tokenizer.ggml.merges"),
                self._fields.integers("tokenizer.ggml.token_type"),
            )
        except CheckpointError as error:
            raise CheckpointError(f"{self.path}: {error}") from None


def gguf_name(name: str) -> str:
    """What a GGUF file calls a canonical tensor."""
    if match := _LAYER.match(name):
        layers, number, part, leaf = match.groups()
        return f"{_LAYERS[layers]}.{number}.{_PART[part]}{leaf or ''}"
    if name in _TOP:
        return _TOP[name]
    stem, _, leaf = name.rpartition(".")
    return f"{_TOP[stem]}.{leaf}"


def _is_tanh(name: str) -> bool:
    return name.startswith("vision_model.") and name.endswith((".gate", ".gate_attn", ".gate_ffn"))


def _family(fields: Fields) -> str:
    family = fields.text("general.architecture", "")
    if family not in ("llama", "mllama"):
        raise CheckpointError(
            f"{fields.where} holds a model of architecture {show(family)}: Puna runs Llama 3.1 "
            "and 3.2 (llama, mllama)"
        )
    kind = fields.text("general.type", "model")
    if kind != "model":
        raise CheckpointError(f"{fields.where} holds {show(kind)}, not a whole model")
    if "split.count" in fields and fields.integer("split.count", most=65535) > 1:
        raise CheckpointError(
            f"{fields.where} is one part of a split GGUF: join the parts with llama.cpp's "
            "`llama-gguf-split --merge`"
        )
    if fields.text("tokenizer.ggml.model", "gpt2") != "gpt2":
        raise fields.error("tokenizer.ggml.model", '"gpt2": is this Llama 1, 2 or Mistral?')
    fields.only(
        *("tokenizer.ggml.pre", "llama-bpe", "llama3", "llama-v3"),
        reason="another way to cut text gives other tokens: take a GGUF of Llama 3.1 or 3.2",
    )
    fields.only(f"{family}.expert_count", 0, reason="a mixture of experts is no Llama 3")
    fields.only(f"{family}.rope.scaling.type", "none", reason="rope_freqs.weight says it instead")
    return family


def _config(fields: Fields, file: GGUFFile, family: str) -> LlamaConfig:
    heads = fields.integer(f"{family}.attention.head_count")
    width = fields.integer(f"{family}.embedding_length")
    head_dim = fields.integer(f"{family}.attention.key_length", max(width // heads, 1))
    for name in (f"{family}.attention.value_length", f"{family}.rope.dimension_count"):
        fields.only(name, head_dim)
    embedding = file.tensors.get("token_embd.weight")
    if embedding is None or len(embedding.shape) != 2:
        raise CheckpointError(f"{fields.where} holds no token_embd.weight: is this a whole model?")
    bos = fields.integer("tokenizer.ggml.bos_token_id", 128000, least=0)
    config = LlamaConfig(
        hidden_size=width,
        num_hidden_layers=fields.integer(f"{family}.block_count", most=1024),
        num_attention_heads=heads,
        num_key_value_heads=fields.integer(f"{family}.attention.head_count_kv", heads),
        intermediate_size=fields.integer(f"{family}.feed_forward_length"),
        head_dim=head_dim,
        vocab_size=embedding.shape[0],
        max_position_embeddings=fields.integer(f"{family}.context_length"),
        rope_theta=fields.number(f"{family}.rope.freq_base", 10000.0),
        rms_norm_eps=_decimal(fields.number(f"{family}.attention.layer_norm_rms_epsilon")),
        tie_word_embeddings="output.weight" not in file.tensors,
        bos_token_id=bos,
        eos_token_ids=_stops(fields),
    )
    if config.head_dim % 2 == 0:
        config = _with_rope(config, file)
    if family == "llama":
        return config
    if "v.patch_embd.weight" not in file.tensors:
        raise CheckpointError(
            f"{fields.where} holds no vision encoder (an old file in two parts): pull the model "
            "again, or use it from Hugging Face"
        )
    return replace(
        config,
        vocab_size=embedding.shape[0] - 8,
        cross_attention_layers=fields.integers(f"{family}.attention.cross_attention_layers"),
        vision=_vision(fields),
    )


def _vision(fields: Fields) -> VisionConfig:
    prefix = "mllama.vision."
    tiles = fields.integer(prefix + "max_num_tiles", most=64)
    fields.only(prefix + "num_channels", 3)
    return VisionConfig(
        hidden_size=fields.integer(prefix + "embedding_length"),
        num_attention_heads=fields.integer(prefix + "attention.head_count"),
        intermediate_size=fields.integer(prefix + "feed_forward_length"),
        num_hidden_layers=fields.integer(prefix + "block_count", most=1024),
        num_global_layers=fields.integer(prefix + "global.block_count", most=1024),
        patch_size=fields.integer(prefix + "patch_size"),
        image_size=fields.integer(prefix + "image_size"),
        max_num_tiles=tiles,
        intermediate_layers_indices=fields.integers(prefix + "intermediate_layers_indices"),
        supported_aspect_ratios=aspect_ratios(tiles),
        norm_eps=_decimal(fields.number(prefix + "attention.layer_norm_epsilon")),
    )


def _decimal(value: float) -> float:
    """The number that was meant: 1e-05, not the float32 next to it."""
    return float(f"{value:.6g}")


def _stops(fields: Fields) -> tuple[int, ...]:
    """The ids that end an answer: those of the metadata, and Llama 3's by name."""
    ids = {
        fields.integer(f"tokenizer.ggml.{name}_token_id", least=0)
        for name in ("eos", "eot", "eom")
        if f"tokenizer.ggml.{name}_token_id" in fields
    }
    if "tokenizer.ggml.tokens" in fields:
        tokens = fields.texts("tokenizer.ggml.tokens")
        named = ("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>")
        ids |= {tokens.index(name) for name in named if name in tokens}
    return tuple(sorted(ids)) or (128001, 128008, 128009)


def _with_rope(config: LlamaConfig, file: GGUFFile) -> LlamaConfig:
    """llama.cpp stores what the frequencies are divided by instead of the scaling's numbers.

    The largest divisor is the factor. If Llama 3's rule for that factor gives the rest (as it does
    in every file of a published model), the config says so in its own words.
    """
    if "rope_freqs.weight" not in file.tensors:
        return config
    stored = file.tensors["rope_freqs.weight"]
    if stored.shape != (config.head_dim // 2,):
        raise CheckpointError(
            f"{file.path}: rope_freqs.weight is {list(stored.shape)}, expected "
            f"[{config.head_dim // 2}]"
        )
    divisors = file.copy("rope_freqs.weight", torch.float32)
    if not bool((torch.isfinite(divisors) & (divisors > 0)).all()):
        raise CheckpointError(f"{file.path}: rope_freqs.weight holds no plausible divisors")
    if bool((divisors == 1).all()):
        return config
    scaled = replace(config, rope_scaling=RopeScaling(round(float(divisors.max()), 4)))
    if torch.allclose(rope_frequencies(config) / divisors, rope_frequencies(scaled), 1e-4, 0):
        return scaled
    return replace(config, rope_divisors=tuple(float(divisor) for divisor in divisors))
