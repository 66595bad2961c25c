"""The image encoder and the projector: tiles of pixels -> what cross-attention looks at.

It knows no files, no text and no cache. Parameter names are transformers' canonical ones below
`vision_model.` and `multi_modal_projector.`; training runs this same code. Semantics are those of
Meta's reference (`llama_models.llama3.multimodal.model`), three of which surprise:

- every picture runs as `max_num_tiles` tiles, each with pad tokens up to a multiple of 8;
- padding sees no padding, but real patches do attend to it;
- the intermediate features are the *inputs* of the chosen layers, stacked on the last axis.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna import kernels
from puna.kernels import Packed
from puna.llama.config import VisionConfig
from puna.llama.linear import Linear


class VisionAttention(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        width = config.hidden_size
        self.num_heads = config.num_attention_heads
        self.q_proj = Linear(width, width, bias=False)
        self.k_proj = Linear(width, width, bias=False)
        self.v_proj = Linear(width, width, bias=False)
        self.o_proj = Linear(width, width, bias=False)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        q, k, v = (
            projection(x).unflatten(-1, (self.num_heads, -1))
            for projection in (self.q_proj, self.k_proj, self.v_proj)
        )
        weight = self.q_proj.weight  # beside 8-bit products, keys and values need no more bits
        whole = isinstance(weight, Packed) and weight.format != "bf16"
        out = kernels.padded_attention(q, k, v, real, torch.int8 if whole else q.dtype)
        return self.o_proj(out.flatten(2))


class VisionMLP(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.fc1 = Linear(config.hidden_size, config.intermediate_size)
        self.fc2 = Linear(config.intermediate_size, config.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))


class VisionLayer(nn.Module):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.self_attn = VisionAttention(config)
        self.post_attention_layernorm = nn.LayerNorm(config.hidden_size, eps=config.norm_eps)
        self.mlp = VisionMLP(config)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        h = x + self.self_attn(self.input_layernorm(x), real)
        return h + self.mlp(self.post_attention_layernorm(h))


class GatedVisionLayer(VisionLayer):
    def __init__(self, config: VisionConfig) -> None:
        super().__init__(config)
        self.gate_attn = nn.Parameter(torch.zeros(1))
        self.gate_ffn = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        h = x + self.gate_attn.tanh() * self.self_attn(self.input_layernorm(x), real)
        return h + self.gate_ffn.tanh() * self.mlp(self.post_attention_layernorm(h))


class VisionLayers(nn.Module):
    def __init__(self, config: VisionConfig, kind: type[VisionLayer], count: int) -> None:
        super().__init__()
        self.layers = nn.ModuleList(kind(config) for _ in range(count))


class TileEmbedding(nn.Module):
    """One vector a tile, chosen by the picture's aspect ratio."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        rows = len(config.supported_aspect_ratios) + 1
        self.max_num_tiles = config.max_num_tiles
        self.embedding = nn.Embedding(rows, config.max_num_tiles * config.hidden_size)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, aspect_ratio_id: Tensor) -> Tensor:
        tiles = self.embedding(aspect_ratio_id).view(len(x), self.max_num_tiles, 1, -1)
        return x + tiles * self.gate.tanh()


class PositionEmbedding(nn.Module):
    """A patch's place in its tile, and the tile's place in the picture, blended by one gate."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        rows = len(config.supported_aspect_ratios) + 1
        tokens, width = config.num_patches, config.hidden_size
        self.shape = (config.max_num_tiles, tokens, width)
        self.embedding = nn.Parameter(torch.empty(tokens, width))
        nn.init.normal_(self.embedding, std=width**-0.5)
        self.tile_embedding = nn.Embedding(rows, config.max_num_tiles * tokens * width)
        self.gate = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, aspect_ratio_id: Tensor) -> Tensor:
        gate = self.gate.tanh()
        tiles = self.tile_embedding(aspect_ratio_id).view(len(x), *self.shape)
        return x + (1 - gate) * self.embedding + gate * tiles


class VisionEncoder(nn.Module):
    """`vision_model`: a local transformer, then a gated global one, over all tiles of a picture."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        self.config = config
        width, patch = config.hidden_size, config.patch_size
        self.patch_embedding = nn.Conv2d(3, width, patch, stride=patch, bias=False)
        self.class_embedding = nn.Parameter(torch.empty(width))
        nn.init.normal_(self.class_embedding, std=width**-0.5)
        self.gated_positional_embedding = PositionEmbedding(config)
        self.pre_tile_positional_embedding = TileEmbedding(config)
        self.post_tile_positional_embedding = TileEmbedding(config)
        # Meta's reference leaves these two at torch's default, whatever the config says
        self.layernorm_pre = nn.LayerNorm(width)
        self.layernorm_post = nn.LayerNorm(width)
        self.transformer = VisionLayers(config, VisionLayer, config.num_hidden_layers)
        self.global_transformer = VisionLayers(config, GatedVisionLayer, config.num_global_layers)

    def forward(
        self, pixels: Tensor, aspect_ratio_id: int | Tensor, num_tiles: int | Tensor
    ) -> Tensor:
        """Encodes one picture, or a batch of them.

        `pixels` [tiles, 3, size, size], or [batch, tiles, 3, size, size] with `aspect_ratio_id` and
        `num_tiles` [batch] int64. `tiles` is `max_num_tiles`; those past `num_tiles` are zeros.
        Returns [(batch,) tiles, num_patches, vision_output_dim]: unused tiles are still in it.
        """
        single = pixels.dim() == 4
        if single:
            pixels = pixels.unsqueeze(0)
        ratio = torch.as_tensor(aspect_ratio_id, device=pixels.device).expand(len(pixels))
        used = torch.as_tensor(num_tiles, device=pixels.device).expand(len(pixels))
        *_, out = self.layer_by_layer(pixels, ratio, used)
        return out[0] if single else out

    def layer_by_layer(self, pixels: Tensor, ratio: Tensor, used: Tensor) -> Iterator[Tensor]:
        """The same for a batch, a layer each time one is asked for: the last is what counts."""
        device, batch, tiles = pixels.device, pixels.shape[0], pixels.shape[1]
        tokens = self.config.num_patches
        pad = -tokens % 8

        x = self._patches(pixels)
        x = self.pre_tile_positional_embedding(x, ratio)
        x = torch.cat([self.class_embedding.expand(batch, tiles, 1, -1), x], dim=2)
        x = self.gated_positional_embedding(x, ratio)
        x = F.pad(self.layernorm_pre(x), (0, 0, 0, pad)).flatten(1, 2)

        real = (torch.arange(tiles, device=device) < used[:, None])[:, :, None]
        real = (real & (torch.arange(tokens + pad, device=device) < tokens)).flatten(1)

        inputs: list[Tensor] = []
        for index, layer in enumerate(self.transformer.layers):
            if index in self.config.intermediate_layers_indices:
                inputs.append(x)
            x = layer(x, real)
            yield x
        x = self.layernorm_post(x).unflatten(1, (tiles, -1))
        x = self.post_tile_positional_embedding(x, ratio).flatten(1, 2)
        for layer in self.global_transformer.layers:
            x = layer(x, real)
            yield x
        kept = torch.stack(inputs, dim=-1).flatten(-2) if inputs else x[..., :0]
        yield torch.cat([x, kept], dim=-1).view(batch, tiles, tokens + pad, -1)[:, :, :tokens]

    def _patches(self, pixels: Tensor) -> Tensor:
        """[batch, tiles, 3, S, S] -> [batch, tiles, patches, hidden]."""
        weight, size = self.patch_embedding.weight, self.config.patch_size
        patches = F.pixel_unshuffle(pixels.flatten(0, 1).to(weight.dtype), size)
        patches = patches.flatten(2).transpose(1, 2)
        return kernels.linear(patches, weight.flatten(1)).view(*pixels.shape[:2], -1, len(weight))


def multi_modal_projector(config: VisionConfig, hidden_size: int) -> nn.Linear:
    """`multi_modal_projector`: [..., vision_output_dim] -> [..., hidden_size] of the text model."""
    return Linear(config.vision_output_dim, hidden_size, bias=True)
