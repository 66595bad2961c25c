"""What a Llama is: the numbers that tell the seven variants apart.

`LlamaConfig` is read from `config.json` (Hugging Face), `params.json` (Meta) or a GGUF header by
`puna.llama.weights`; all else in Puna sees this form alone. It knows no files and no tensors.
Sources: the Llama 3 paper (arXiv 2407.21783), transformers' `LlamaConfig` and `MllamaConfig`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

PromptFamily: TypeAlias = Literal["3.1", "3.2", "vision"]


@dataclass(frozen=True, slots=True)
class RopeScaling:
    """Llama 3's stretching of rotary wavelengths (`rope_type: llama3`)."""

    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_position_embeddings: int = 8192


@dataclass(frozen=True, slots=True)
class VisionConfig:
    """The image encoder. Sizes in pixels (`image_size`, `patch_size`) or features (the rest)."""

    hidden_size: int = 1280
    num_attention_heads: int = 16
    intermediate_size: int = 5120
    num_hidden_layers: int = 32
    num_global_layers: int = 8
    patch_size: int = 14
    image_size: int = 560
    max_num_tiles: int = 4
    intermediate_layers_indices: tuple[int, ...] = (3, 7, 15, 23, 30)
    supported_aspect_ratios: tuple[tuple[int, int], ...] = (
        (1, 1), (1, 2), (1, 3), (1, 4), (2, 1), (2, 2), (3, 1), (4, 1),
    )  # fmt: skip
    norm_eps: float = 1e-5

    @property
    def num_patches(self) -> int:
        """Tokens a tile, the class token included (1601 at 560 px)."""
        return (self.image_size // self.patch_size) ** 2 + 1

    @property
    def vision_output_dim(self) -> int:
        """Width of the encoder's output: the final layer and the intermediate ones together."""
        return self.hidden_size * (1 + len(self.intermediate_layers_indices))


@dataclass(frozen=True, slots=True)
class LlamaConfig:
    """A text model, and with `vision` and `cross_attention_layers` a vision model.

    `num_hidden_layers` counts all layers, the cross-attention ones included (Hugging Face's way).
    `vocab_size` is the rows of the head; the embedding has `num_embeddings` rows (8 more in a
    vision model, whose image token is `vocab_size` itself). `rope_divisors` [head_dim / 2] (GGUF's
    `rope_freqs.weight`) divide the frequencies in place of `rope_scaling`.
    """

    hidden_size: int
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    intermediate_size: int
    head_dim: int
    vocab_size: int = 128256
    max_position_embeddings: int = 131072
    rope_theta: float = 500000.0
    rope_scaling: RopeScaling | None = None
    rope_divisors: tuple[float, ...] | None = None
    rms_norm_eps: float = 1e-5
    tie_word_embeddings: bool = False
    bos_token_id: int = 128000
    eos_token_ids: tuple[int, ...] = (128001, 128008, 128009)
    cross_attention_layers: tuple[int, ...] = ()
    vision: VisionConfig | None = None

    @property
    def num_embeddings(self) -> int:
        return self.vocab_size + (8 if self.vision else 0)

    @property
    def image_token_id(self) -> int | None:
        return self.vocab_size if self.vision else None

    @property
    def self_attention_layers(self) -> tuple[int, ...]:
        """The layers that keep paged keys and values."""
        return tuple(
            layer
            for layer in range(self.num_hidden_layers)
            if layer not in self.cross_attention_layers
        )

    @property
    def kv_elements_per_token(self) -> int:
        """Numbers that one token adds to the paged cache (times the size of its dtype = bytes)."""
        return 2 * len(self.self_attention_layers) * self.num_key_value_heads * self.head_dim

    @property
    def prompt_family(self) -> PromptFamily:
        """Which published prompt format this checkpoint was taught."""
        if self.vision:
            return "vision"
        return "3.2" if self.rope_scaling and self.rope_scaling.factor == 32 else "3.1"
