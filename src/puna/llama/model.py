"""The Llama decoder: a batch of ragged rows in, logits out.

Reads like the paper (2407.21783): `h = x + attention(norm(x))`, `out = h + mlp(norm(h))`. All
self-attention layers that follow each other are one call to `kernels`; in the others, blocks take
the norm before and the sum after them into their own first and last calls. It knows no requests, no
sampling, no files, and no devices or dtypes: those are its weights' and its cache's business.
Parameter names are Hugging Face's, rotary order is half-split.

A vision model has cross-attention layers between the others. A row that sees no image does not
enter them: so text in mixed company gives what it gives alone, and costs nothing extra.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby, islice, pairwise
from typing import cast

import torch
from torch import Tensor, nn

from puna import kernels
from puna.errors import InvalidImage
from puna.kernels import PAGE, LayerWeights, Packed, Source, Step
from puna.llama.batch import Batch, EncodedImage, ImageView, Span
from puna.llama.cache import KVCache
from puna.llama.config import LlamaConfig
from puna.llama.images import PreparedImage
from puna.llama.linear import Embedding, Linear
from puna.llama.rope import rope_frequencies
from puna.llama.vision import VisionEncoder, multi_modal_projector


@dataclass(frozen=True, slots=True)
class Sight:
    """The rows that see an image, [n] int64 ascending, as runs of `lengths` that each see `images`;
    the first `exact` of them are."""

    rows: Tensor
    lengths: tuple[int, ...]
    images: tuple[tuple[ImageView, ...], ...]
    exact: int


class RMSNorm(nn.Module):
    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return kernels.rms_norm(x, self.weight, self.eps)

    def then(self, x: Tensor, exact: int, projection: Linear) -> Tensor:
        """`projection` of `self(x)`, in one call."""
        (out,) = kernels.norm_linear(x, self.weight, self.eps, (projection.weight,), exact)
        return out


class SelfAttention(nn.Module):
    """Its parameters; what is done with them is `SelfAttentionLayer`'s."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, head_dim = config.hidden_size, config.head_dim
        self.head_dim = head_dim
        self.q_proj = Linear(width, config.num_attention_heads * head_dim, bias=False)
        self.k_proj = Linear(width, config.num_key_value_heads * head_dim, bias=False)
        self.v_proj = Linear(width, config.num_key_value_heads * head_dim, bias=False)
        self.o_proj = Linear(config.num_attention_heads * head_dim, width, bias=False)


class CrossAttention(nn.Module):
    """Attention of text rows to an image's features; keys and values are computed once an image."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        width, head_dim = config.hidden_size, config.head_dim
        self.head_dim = head_dim
        self.q_proj = Linear(width, config.num_attention_heads * head_dim, bias=False)
        self.k_proj = Linear(width, config.num_key_value_heads * head_dim, bias=False)
        self.v_proj = Linear(width, config.num_key_value_heads * head_dim, bias=False)
        self.o_proj = Linear(config.num_attention_heads * head_dim, width, bias=False)
        self.q_norm = RMSNorm(head_dim, config.rms_norm_eps)
        self.k_norm = RMSNorm(head_dim, config.rms_norm_eps)

    def source(self, features: Tensor) -> Source:
        """Keys and values of an image's features [tokens, hidden_size]."""
        k = self.k_norm(_heads(self.k_proj(features), self.head_dim))
        v = _heads(self.v_proj(features), self.head_dim)
        tokens, heads, _ = k.shape
        # kept as the cache beside a packed model is
        dtype = torch.bfloat16 if isinstance(self.k_proj.weight, Packed) else k.dtype
        pages = -(-tokens // PAGE)
        keys, values = kernels.new_pages(pages, heads, self.head_dim, PAGE, dtype, k.device)
        kernels.store(keys, values, torch.arange(tokens, device=k.device), k, v)
        return Source(keys, values, tokens)

    def forward(self, x: Tensor, norm: RMSNorm, sight: Sight, order: int, gate: Tensor) -> Tensor:
        """`x + gate * attention(norm(x))`"""
        q = norm.then(x, sight.exact, self.q_proj)
        q = self.q_norm(_heads(q, self.head_dim))
        sources = [[image.sources[order] for image in images] for images in sight.images]
        attended = kernels.cross_attention(q, sight.lengths, sources, sight.exact)
        return self.o_proj.add(attended.flatten(1), sight.exact, x, gate)


class MLP(nn.Module):
    """`forward` is a cross-attention layer's; a self-attention layer takes the parameters alone."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x: Tensor, norm: RMSNorm, exact: int, gate: Tensor) -> Tensor:
        """`x + gate * down(silu(gate_proj(y)) * up_proj(y))` with `y = norm(x)`"""
        gated = kernels.norm_swiglu(
            x, norm.weight, norm.eps, self.gate_proj.weight, self.up_proj.weight, exact
        )
        return self.down_proj.add(gated, exact, x, gate)


class SelfAttentionLayer(nn.Module):
    """Its parameters; those that follow each other are one call to `kernels` (see `Decoder`)."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = SelfAttention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        attention, mlp = self.self_attn, self.mlp
        # By name, `nn.Module` finds them so slowly that it took a fiftieth of a step.
        self._parts = (
            *(self.input_layernorm, attention.q_proj, attention.k_proj, attention.v_proj),
            *(attention.o_proj, self.post_attention_layernorm),
            *(mlp.gate_proj, mlp.up_proj, mlp.down_proj),
        )

    @property
    def weights(self) -> LayerWeights:
        """As they are now: they may be moved, loaded or packed at any time between steps."""
        return LayerWeights(*(part.weight for part in self._parts))


class CrossAttentionLayer(nn.Module):
    """The `order`-th of the model's cross-attention layers. Takes only rows that see an image."""

    def __init__(self, config: LlamaConfig, order: int) -> None:
        super().__init__()
        self.order = order
        self.input_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.cross_attn = CrossAttention(config)
        self.cross_attn_attn_gate = nn.Parameter(torch.zeros(1))
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = MLP(config)
        self.cross_attn_mlp_gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, sight: Sight) -> Tensor:
        attn_gate, mlp_gate = self.cross_attn_attn_gate.tanh(), self.cross_attn_mlp_gate.tanh()
        h = self.cross_attn(x, self.input_layernorm, sight, self.order, attn_gate)
        return self.mlp(h, self.post_attention_layernorm, sight.exact, mlp_gate)


class Decoder(nn.Module):
    """Token ids to features after the last norm."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = Embedding(config.num_embeddings, config.hidden_size)
        self.layers = nn.ModuleList(
            CrossAttentionLayer(config, config.cross_attention_layers.index(layer))
            if layer in config.cross_attention_layers
            else SelfAttentionLayer(config)
            for layer in range(config.num_hidden_layers)
        )
        self.norm = RMSNorm(config.hidden_size, config.rms_norm_eps)

    def forward(
        self,
        token_ids: Tensor,
        step: Step,
        sight: Sight | None,
        cache: KVCache,
        wanted: Tensor,
    ) -> Tensor:
        x = self.embed_tokens(token_ids)
        caches = iter(cache.layers)
        entered = (each for each in self.layers if sight or isinstance(each, SelfAttentionLayer))
        for kind, run in groupby(entered, type):
            if kind is SelfAttentionLayer:
                weights = [cast(SelfAttentionLayer, layer).weights for layer in run]
                paged = list(islice(caches, len(weights)))
                x = kernels.self_attention_layers(x, weights, self.norm.eps, step, paged)
            elif sight is not None:
                # `index_select`, because `x[rows]` of a row wakes torch's threads, which then spin
                # for 5 ms beside the kernels'
                for layer in run:
                    seeing = layer(x.index_select(0, sight.rows), sight)
                    x = x.index_copy(0, sight.rows, seeing)
        return self.norm(x.index_select(0, wanted))


class Llama(nn.Module):
    """The whole model. With tied embeddings there is no `lm_head`: the embedding is the head."""

    def __init__(self, config: LlamaConfig) -> None:
        super().__init__()
        self.config = config
        self.model = Decoder(config)
        if not config.tie_word_embeddings:
            self.lm_head = Linear(config.hidden_size, config.vocab_size, bias=False)
        if config.vision:
            self.vision_model = VisionEncoder(config.vision)
            self.multi_modal_projector = multi_modal_projector(config.vision, config.hidden_size)
        # No buffer: `.to(dtype)` and `.to_empty()` must leave it fp32 and filled.
        self.frequencies = rope_frequencies(config)

    def forward(self, batch: Batch, cache: KVCache) -> Tensor:
        """Logits fp32 [len(batch.logit_rows), vocab_size]; writes the rows' keys and values into
        `cache`."""
        cos, sin = kernels.rotary_table(
            batch.positions, self.frequencies.to(batch.positions.device)
        )
        step = Step(batch.spans, cache.slots(batch.positions, batch.spans), cos, sin, batch.exact)
        x = self.model(batch.token_ids, step, sight_of(batch), cache, batch.logit_rows)
        return kernels.linear(x, self._head).float()

    def encode_image(self, image: PreparedImage) -> EncodedImage:
        """What `ImageView` wants of an image. Raises `InvalidImage` when the model has no eyes."""
        return next(encoded for encoded in self.encoding(image) if encoded is not None)

    def encoding(self, image: PreparedImage) -> Iterator[EncodedImage | None]:
        """`encode_image` a layer of the encoder at a time: None as long as there is more to do, in
        the end the result. Whoever has other work does it in between."""
        if not self.config.vision:
            raise InvalidImage("this model takes text only: send images to a vision model")
        pixels = image.pixels.to(self.model.norm.weight.device)
        tiles = pixels
        for step in self.vision_model.layer_by_layer(
            pixels[None],
            torch.tensor([image.aspect_ratio_id], device=pixels.device),
            torch.tensor([image.num_tiles], device=pixels.device),
        ):
            tiles = step
            yield None
        features = self.multi_modal_projector(tiles[0, : image.num_tiles].flatten(0, 1))
        yield tuple(
            layer.cross_attn.source(features)
            for layer in self.model.layers
            if isinstance(layer, CrossAttentionLayer)
        )

    @property
    def _head(self) -> Tensor | Packed:
        return (self.model.embed_tokens if self.config.tie_word_embeddings else self.lm_head).weight


def sight_of(batch: Batch) -> Sight | None:
    """Who sees what in this batch; None when nobody sees an image."""
    runs = [run for span in batch.spans for run in _runs(span)]
    if not runs:
        return None
    rows = torch.cat([torch.arange(first, end) for first, end, _ in runs])
    return Sight(
        rows.to(batch.token_ids.device),
        tuple(end - first for first, end, _ in runs),
        tuple(images for _, _, images in runs),
        exact=sum(end - first for first, end, _ in runs if first < batch.exact),
    )


def _runs(span: Span) -> Iterator[tuple[int, int, tuple[ImageView, ...]]]:
    """The span cut into rows `first .. end - 1` that see the same images; blind rows left out."""
    if not span.images:
        return
    borders = {span.context, span.context + span.length}
    for image in span.images:
        borders |= {p for p in (image.first, image.end) if min(borders) < p < max(borders)}
    for first, end in pairwise(sorted(borders)):
        seen = tuple(image for image in span.images if image.first <= first < image.end)
        if seen:
            yield span.start + first - span.context, span.start + end - span.context, seen


def _heads(x: Tensor, head_dim: int) -> Tensor:
    return cast(Tensor, x.unflatten(-1, (-1, head_dim)))
