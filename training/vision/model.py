"""The vision model as it is trained: Puna's own encoder, and a decoder that takes whole rows.

The decoder has the semantics of `puna.llama.model` and transformers' parameter names, but dense
tensors instead of a paged cache, so that gradients flow. `tests/parity/test_cria_vision.py` holds
the two equal. It knows no files and no data.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from puna.llama.config import LlamaConfig, VisionConfig
from puna.llama.rope import rope_frequencies
from puna.llama.vision import VisionEncoder, multi_modal_projector

VISION = VisionConfig(
    hidden_size=96,
    num_attention_heads=3,
    intermediate_size=256,
    num_hidden_layers=4,
    num_global_layers=1,
    patch_size=14,
    image_size=56,
    intermediate_layers_indices=(1, 2),
)


def config(vocab_size: int) -> LlamaConfig:
    return LlamaConfig(
        hidden_size=96,
        num_hidden_layers=5,
        num_attention_heads=3,
        num_key_value_heads=3,
        intermediate_size=256,
        head_dim=32,
        vocab_size=vocab_size,
        max_position_embeddings=2048,
        rope_theta=10000.0,
        cross_attention_layers=(1, 3),
        vision=VISION,
    )


class Attention(nn.Module):
    def __init__(self, c: LlamaConfig, cross: bool) -> None:
        super().__init__()
        self.heads, self.groups, self.dim = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.q_proj = nn.Linear(c.hidden_size, self.heads * self.dim, bias=False)
        self.k_proj = nn.Linear(c.hidden_size, self.groups * self.dim, bias=False)
        self.v_proj = nn.Linear(c.hidden_size, self.groups * self.dim, bias=False)
        self.o_proj = nn.Linear(self.heads * self.dim, c.hidden_size, bias=False)
        if cross:
            self.q_norm = nn.RMSNorm(self.dim, eps=c.rms_norm_eps)
            self.k_norm = nn.RMSNorm(self.dim, eps=c.rms_norm_eps)
        self.cross = cross

    def forward(
        self, x: Tensor, source: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor
    ) -> Tensor:
        q = self.q_proj(x).unflatten(-1, (self.heads, self.dim)).transpose(1, 2)
        k = self.k_proj(source).unflatten(-1, (self.groups, self.dim)).transpose(1, 2)
        v = self.v_proj(source).unflatten(-1, (self.groups, self.dim)).transpose(1, 2)
        if self.cross:
            q, k = self.q_norm(q), self.k_norm(k)
        else:
            q, k = rotate(q, *rotary), rotate(k, *rotary)
        repeat = self.heads // self.groups
        k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        return self.o_proj(out.transpose(1, 2).flatten(2))


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, dim=-1)
    return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)


class MLP(nn.Module):
    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.up_proj = nn.Linear(c.hidden_size, c.intermediate_size, bias=False)
        self.down_proj = nn.Linear(c.intermediate_size, c.hidden_size, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class SelfLayer(nn.Module):
    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.self_attn = Attention(c, cross=False)
        self.post_attention_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.mlp = MLP(c)

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor) -> Tensor:
        n = self.input_layernorm(x)
        h = x + self.self_attn(n, n, rotary, mask)
        return h + self.mlp(self.post_attention_layernorm(h))


class CrossLayer(nn.Module):
    """Gates start open: from scratch, closed ones let nothing of the image through."""

    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.cross_attn = Attention(c, cross=True)
        self.cross_attn_attn_gate = nn.Parameter(torch.ones(1))
        self.post_attention_layernorm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)
        self.mlp = MLP(c)
        self.cross_attn_mlp_gate = nn.Parameter(torch.ones(1))

    def forward(
        self, x: Tensor, image: Tensor, rotary: tuple[Tensor, Tensor], mask: Tensor, sees: Tensor
    ) -> Tensor:
        seen = self.cross_attn(self.input_layernorm(x), image, rotary, mask) * sees
        h = x + self.cross_attn_attn_gate.tanh() * seen
        return (
            h + self.cross_attn_mlp_gate.tanh() * self.mlp(self.post_attention_layernorm(h)) * sees
        )


class Decoder(nn.Module):
    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(c.num_embeddings, c.hidden_size)
        self.layers = nn.ModuleList(
            CrossLayer(c) if i in c.cross_attention_layers else SelfLayer(c)
            for i in range(c.num_hidden_layers)
        )
        self.norm = nn.RMSNorm(c.hidden_size, eps=c.rms_norm_eps)

    def forward(
        self,
        tokens: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor,
        image: Tensor,
        tiles_mask: Tensor,
        sees: Tensor,
    ) -> Tensor:
        x = self.embed_tokens(tokens)
        for layer in self.layers:
            if isinstance(layer, CrossLayer):
                x = layer(x, image, rotary, tiles_mask, sees)
            else:
                x = layer(x, rotary, mask)
        return self.norm(x)


class Language(nn.Module):
    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        self.model = Decoder(c)
        self.lm_head = nn.Linear(c.hidden_size, c.vocab_size, bias=False)


class CriaVision(nn.Module):
    """State dict names are those of a Hugging Face `MllamaForConditionalGeneration` checkpoint."""

    def __init__(self, c: LlamaConfig) -> None:
        super().__init__()
        assert c.vision
        self.config = c
        self.vision_model = VisionEncoder(c.vision)
        self.multi_modal_projector = multi_modal_projector(c.vision, c.hidden_size)
        self.language_model = Language(c)
        self.register_buffer("frequencies", rope_frequencies(c), persistent=False)
        self._start()

    def _start(self) -> None:
        for name, parameter in self.named_parameters():
            if parameter.dim() >= 2:
                nn.init.normal_(parameter, std=0.02)
                if name.endswith(("o_proj.weight", "down_proj.weight", "fc2.weight")):
                    nn.init.normal_(parameter, std=0.006)
            if name.endswith("bias"):
                nn.init.zeros_(parameter)
        with torch.no_grad():
            vision = self.vision_model
            vision.patch_embedding.weight.normal_(std=0.04)
            vision.gated_positional_embedding.gate.fill_(0.5)
            vision.pre_tile_positional_embedding.gate.fill_(0.5)
            vision.post_tile_positional_embedding.gate.fill_(0.5)
            for layer in vision.global_transformer.layers:
                layer.gate_attn.fill_(1.0)
                layer.gate_ffn.fill_(1.0)
            vision.gated_positional_embedding.embedding.normal_(std=0.1)
            vision.gated_positional_embedding.tile_embedding.weight.normal_(std=0.1)
            vision.pre_tile_positional_embedding.embedding.weight.normal_(std=0.1)
            vision.post_tile_positional_embedding.embedding.weight.normal_(std=0.1)
            self.language_model.model.embed_tokens.weight.normal_(std=0.5)

    def see(self, pixels: Tensor, ratio: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """(encoder output [B, tiles, patches, D], what cross-attention sees [B, all, hidden])."""
        features = self.vision_model(pixels, ratio, tiles)
        return features, self.multi_modal_projector(features).flatten(1, 2)

    def read(
        self,
        tokens: Tensor,
        positions: Tensor,
        branches: Tensor,
        sees: Tensor,
        image: Tensor,
        tiles: Tensor,
    ) -> Tensor:
        """Features [B, T, hidden] after the last norm. A token attends to earlier ones of its own
        branch and of branch 0, the prefix."""
        assert self.config.vision
        angles = positions[:, None, :, None] * self.frequencies
        rotary = (angles.cos(), angles.sin())
        length = tokens.shape[1]
        mine, theirs = branches[:, :, None], branches[:, None, :]
        mask = ((mine == theirs) | (theirs == 0)) & torch.ones(
            length, length, dtype=torch.bool
        ).tril()
        per_tile = self.config.vision.num_patches
        used = torch.arange(image.shape[1]) < tiles[:, None] * per_tile
        return self.language_model.model(
            tokens,
            rotary,
            mask[:, None],
            image,
            used[:, None, None, :],
            sees[..., None].to(image.dtype),
        )
