"""The paged memory of keys and values. It knows no sequences: whoever calls says which pages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from puna.kernels import PagedSpan, bytes_per_token, new_pages
from puna.llama.config import LlamaConfig


class KVCache:
    """`num_pages` pages of `page_size` tokens, for each self-attention layer.

    `layers[i]` holds the i-th self-attention layer's keys and values, in `dtype`, as
    `kernels.new_pages` lays them out; int8 is half of bfloat16. Cross-attention layers keep nothing
    here (see `ImageView`).
    """

    def __init__(
        self,
        config: LlamaConfig,
        num_pages: int,
        page_size: int,
        dtype: torch.dtype,
        device: torch.device | str = "cpu",
    ) -> None:
        heads, head_dim = config.num_key_value_heads, config.head_dim
        self.num_pages = num_pages
        self.page_size = page_size
        # One tensor a layer, not one for all: a write then touches one layer's history in autograd.
        self.layers = tuple(
            new_pages(num_pages, heads, head_dim, page_size, dtype, device)
            for _ in config.self_attention_layers
        )

    @staticmethod
    def bytes_per_page(config: LlamaConfig, page_size: int, dtype: torch.dtype) -> int:
        layer = bytes_per_token(config.num_key_value_heads, config.head_dim, dtype)
        return len(config.self_attention_layers) * layer * page_size

    def slots(self, positions: Tensor, spans: Sequence[PagedSpan]) -> Tensor:
        """Where each row's key and value go: [rows] int64, counted in tokens over all pages."""
        pages = positions // self.page_size
        owned = [span.pages[pages[span.start : span.start + span.length]] for span in spans]
        return torch.cat(owned) * self.page_size + positions % self.page_size
