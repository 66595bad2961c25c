"""Meta's layout: `consolidated.NN.pth`, one for each of the machines it was cut for, `params.json`.

Shards are memory-mapped and read as weights only: a pickle that wants to run code is refused. It
knows no other layout and no device. What Meta's files leave unsaid is in `meta_params.py`.
"""

from __future__ import annotations

import math
import pickle
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import cast

import torch
from torch import Tensor

from puna.errors import CheckpointError
from puna.llama.config import VisionConfig
from puna.llama.shapes import Shape, tensor_shapes
from puna.llama.tokenizer import Tokenizer
from puna.llama.weights.checkpoint import Checkpoint, copied, equal, half_split
from puna.llama.weights.detect import describe
from puna.llama.weights.fields import listed, one_line, show
from puna.llama.weights.meta_params import read_params

_TOP = {
    "model.norm": "norm",
    "lm_head": "output",
    "multi_modal_projector": "vision_model.vision_projection",
    "vision_model.patch_embedding": "conv1._linear",
    "vision_model.class_embedding": "class_embedding",
    "vision_model.layernorm_pre": "ln_pre",
    "vision_model.layernorm_post": "ln_post",
    "vision_model.gated_positional_embedding.gate": "gated_positional_embedding_gate",
    "vision_model.gated_positional_embedding.embedding": "positional_embedding",
    "vision_model.gated_positional_embedding.tile_embedding.weight": "gated_positional_embedding",
    "vision_model.pre_tile_positional_embedding.gate": "pre_tile_pos_embed.gate",
    "vision_model.pre_tile_positional_embedding.embedding.weight": "pre_tile_pos_embed.embedding",
    "vision_model.post_tile_positional_embedding.gate": "post_tile_pos_embed.gate",
    "vision_model.post_tile_positional_embedding.embedding.weight": "post_tile_pos_embed.embedding",
}
_TEXT_PART = {
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
    "cross_attn_attn_gate": "gate_attn",
    "cross_attn_mlp_gate": "gate_ffwd",
    "mlp.gate_proj": "feed_forward.w1",
    "mlp.down_proj": "feed_forward.w2",
    "mlp.up_proj": "feed_forward.w3",
    "input_layernorm": "attention_norm",
    "post_attention_layernorm": "ffn_norm",
}
_VISION_PART = {
    "self_attn.q_proj": "attn.wq",
    "self_attn.k_proj": "attn.wk",
    "self_attn.v_proj": "attn.wv",
    "self_attn.o_proj": "attn.wo",
    "mlp.fc1": "mlp.c_fc",
    "mlp.fc2": "mlp.c_proj",
    "input_layernorm": "ln_1",
    "post_attention_layernorm": "ln_2",
    "gate_attn": "gate_attn",
    "gate_ffn": "gate_ffn",
}
_LAYER = re.compile(r"(.+)\.layers\.(\d+)\.(.+?)(\.weight|\.bias)?$")
_SHARD = re.compile(r"\.(\d+)\.pth$")
_EMBEDDING = "model.embed_tokens.weight"
_COMPUTED = ("rope.freqs", "text_model.rope.freqs")


class MetaCheckpoint(Checkpoint):
    def __init__(self, path: Path, files: list[Path]) -> None:
        self.path = path
        self._directory = files[0].parent
        self._shards = [_load(file) for file in _complete(self._directory, files)]
        self._check_alike(files)
        first = self._shards[0]
        numbers = Counter[torch.dtype]()
        for tensor in first.values():
            numbers[tensor.dtype] += tensor.numel()
        self.stored_dtype = numbers.most_common(1)[0][0]
        self.config = read_params(self._directory / "params.json", first, tied=self._is_tied())
        self._prefix = "text_model." if self.config.vision else ""
        self._sources = {name: self._source(name) for name in tensor_shapes(self.config)}
        count = len(self._shards)
        self.layout = f"Meta .pth, {count} shard{'s' if count > 1 else ''}"

    def stored_shapes(self) -> Mapping[str, Shape]:
        found: dict[str, Shape] = {}
        for name, sources in self._sources.items():
            if all(source in self._shards[0] for source in sources):
                found[name] = self._shape(name)
        used = {source for sources in self._sources.values() for source in sources}
        used |= {*_COMPUTED, *(("output.weight",) if self.config.tie_word_embeddings else ())}
        strange = {n: tuple(t.shape) for n, t in self._shards[0].items() if n not in used}
        return found | strange

    def read(self, name: str, dtype: torch.dtype) -> Tensor:
        mapped = [shard[source] for source in self._sources[name] for shard in self._shards]
        return copied(self._build(name).to(dtype).contiguous(), *mapped)

    def _open_tokenizer(self) -> Tokenizer:
        return Tokenizer.from_directory(self._directory)

    def _shape(self, name: str) -> Shape:
        """The shape of what `_build` gives; where it could give nothing, that of Meta's tensor."""
        first, *others = (self._joined_shape(source) for source in self._sources[name])
        if others and first[1:] == others[0][1:]:
            return first[0] + others[0][0], *first[1:]
        if name.endswith("gate") and math.prod(first) == 1:
            return (1,)
        if vision := self.config.vision:
            patch = (3, vision.patch_size, vision.patch_size)
            if name == "vision_model.patch_embedding.weight" and first[1:] == (math.prod(patch),):
                return first[0], *patch
            tiles = vision.max_num_tiles
            if name.endswith("embedding.weight") and first[:2] == (tiles, tiles):
                return len(vision.supported_aspect_ratios) + 1, tiles * math.prod(first[2:])
        return first

    def _joined_shape(self, source: str) -> Shape:
        shapes = [tuple(shard[source].shape) for shard in self._shards]
        dim = _shard_dim(source)
        if dim is None or dim >= len(shapes[0]):
            return shapes[0]
        return *shapes[0][:dim], sum(shape[dim] for shape in shapes), *shapes[0][dim + 1 :]

    def _build(self, name: str) -> Tensor:
        """A canonical tensor out of Meta's."""
        parts = [self._joined(source) for source in self._sources[name]]
        tensor = torch.cat(parts) if len(parts) > 1 else parts[0]
        if name.endswith("self_attn.q_proj.weight") and name.startswith("model."):
            return half_split(tensor, self.config.num_attention_heads)
        if name.endswith("self_attn.k_proj.weight") and name.startswith("model."):
            return half_split(tensor, self.config.num_key_value_heads)
        if name.endswith("gate"):
            return tensor.view(1)
        if vision := self.config.vision:
            if name == "vision_model.patch_embedding.weight":
                return tensor.view(-1, 3, vision.patch_size, vision.patch_size)
            if name.endswith("embedding.weight"):
                return _rows_by_ratio(tensor, vision)
        return tensor

    def _joined(self, source: str) -> Tensor:
        dim = _shard_dim(source)
        if dim is None or len(self._shards) == 1:
            return self._shards[0][source]
        return torch.cat([shard[source] for shard in self._shards], dim)

    def _source(self, name: str) -> tuple[str, ...]:
        """Meta's names for a canonical tensor: the embedding of a vision model is in two."""
        if name == _EMBEDDING:
            names = ("tok_embeddings", "learnable_embedding") if self.config.vision else None
            return tuple(f"{self._prefix}{n}.weight" for n in names or ("tok_embeddings",))
        if match := _LAYER.match(name):
            where, number, part, leaf = match.groups()
            if where == "model":
                layer = self._text_layer(int(number))
                return (f"{self._prefix}{layer}.{_TEXT_PART[part]}{leaf or ''}",)
            layer = where.removeprefix("vision_model.") + f".resblocks.{number}"
            return (f"vision_model.vision_encoder.{layer}.{_VISION_PART[part]}{leaf or ''}",)
        stem, _, leaf = name.rpartition(".")
        stored = _TOP[name] if name in _TOP else f"{_TOP[stem]}.{leaf}"
        if name.startswith("vision_model."):
            return (f"vision_model.vision_encoder.{stored}",)
        return (stored if name.startswith("multi_modal") else self._prefix + stored,)

    def _text_layer(self, layer: int) -> str:
        """Meta numbers self- and cross-attention layers apart."""
        if layer in self.config.cross_attention_layers:
            return f"cross_attention_layers.{self.config.cross_attention_layers.index(layer)}"
        return f"layers.{self.config.self_attention_layers.index(layer)}"

    def _is_tied(self) -> bool:
        """Meta's 3.2 1B and 3B hold the embedding a second time as `output.weight`."""
        for shard in self._shards:
            head, embedding = shard.get("output.weight"), shard.get("tok_embeddings.weight")
            if head is None or embedding is None:
                continue
            if head.data_ptr() != embedding.data_ptr() and not equal(head, embedding):
                return False
        return "text_model.output.weight" not in self._shards[0]

    def _check_alike(self, files: list[Path]) -> None:
        first = self._shards[0]
        for file, shard in zip(files, self._shards, strict=True):
            if strange := first.keys() ^ shard.keys():
                raise CheckpointError(
                    f"{file} and {files[0].name} are of different checkpoints: only one holds "
                    f"{listed(sorted(strange))}"
                )
            for name, tensor in shard.items():
                if not _fit(first[name], tensor, _shard_dim(name)):
                    raise CheckpointError(
                        f"{file} and {files[0].name} are of different checkpoints: {show(name)} is "
                        f"{list(tensor.shape)} here and {list(first[name].shape)} there"
                    )


def _shard_dim(source: str) -> int | None:
    """The dimension along which Meta cut a tensor; None for those that each shard holds whole."""
    if source.endswith((".wo.weight", ".w2.weight", ".c_proj.weight")):
        return 1
    cut = (
        *(".wq.weight", ".wk.weight", ".wv.weight", ".w1.weight", ".w3.weight"),
        *("output.weight", "tok_embeddings.weight", "learnable_embedding.weight"),
        *(".c_fc.weight", ".c_fc.bias", "conv1._linear.weight"),
        *("vision_projection.weight", "vision_projection.bias"),
    )
    return 0 if source.endswith(cut) else None


def _fit(one: Tensor, other: Tensor, dim: int | None) -> bool:
    """Whether two pieces can be joined along `dim`; None: whether they can be the same."""
    if dim is None or dim >= one.ndim:
        return one.shape == other.shape
    return one.ndim == other.ndim and all(
        one.shape[i] == other.shape[i] for i in range(one.ndim) if i != dim
    )


def _rows_by_ratio(grid: Tensor, vision: VisionConfig) -> Tensor:
    """Embeddings on a grid of tiles [tiles, tiles, (patches,) width] -> a row for each canvas.

    Row i is that of aspect ratio id i, zero where the canvas has no tile; row 0 is padding.
    """
    tiles = vision.max_num_tiles
    rows = grid.new_zeros(len(vision.supported_aspect_ratios) + 1, tiles, *grid.shape[2:])
    for ratio_id, (height, width) in enumerate(vision.supported_aspect_ratios, start=1):
        rows[ratio_id, : height * width] = grid[:height, :width].flatten(0, 1)
    return rows.flatten(1)


def _complete(directory: Path, files: list[Path]) -> list[Path]:
    """The shards in order; refuses a set with gaps, and other .pth files among them."""
    for file in sorted(directory.glob("consolidated.*.pth")):
        if file not in files:
            raise CheckpointError(f"{file} is {describe(file)}. Download it again")
    named = {int(match[1]): file for file in files if (match := _SHARD.search(file.name))}
    if not named:
        if len(files) == 1:
            return files
        raise CheckpointError(
            f"{directory} holds several .pth files ({listed(f.name for f in files)}), none named "
            "consolidated.NN.pth: keep those of one checkpoint"
        )
    if len(named) != len(files):
        raise CheckpointError(
            f"{directory} holds .pth files besides the shards "
            f"({listed(file.name for file in files if file not in named.values())}): move them away"
        )
    missing = sorted(set(range(max(named) + 1)) - named.keys())
    if missing:
        raise CheckpointError(
            f"{directory}: shard {missing[0]} (consolidated.{missing[0]:02}.pth) is missing: the "
            "download is incomplete"
        )
    return [named[number] for number in sorted(named)]


def _load(path: Path) -> dict[str, Tensor]:
    try:
        state: object = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path} wants to run code when it is opened, or is damaged: Puna reads weights alone. "
            "Use the checkpoint from its publisher"
        ) from None
    except Exception as error:  # torch raises nearly anything on a damaged file
        raise CheckpointError(
            f"{path} is truncated, corrupt or no torch checkpoint ({one_line(error)}): download it "
            "again"
        ) from None
    if not isinstance(state, dict) or not state:
        raise CheckpointError(f"{path} holds no dictionary of tensors")
    for name, value in cast(dict[object, object], state).items():
        if not isinstance(name, str) or not isinstance(value, Tensor):
            raise CheckpointError(f"{path} holds {show(name)}, which is no named tensor")
        if not value.is_floating_point() or value.itemsize < 2 or value.layout != torch.strided:
            raise CheckpointError(
                f"{path}: {name} is stored as {value.dtype}: quantised checkpoints are not read. "
                "Use the bfloat16 one, or GGUF"
            )
    return cast(dict[str, Tensor], state)
