"""The published Llamas by name: what each one is, where it is had, and what memory it takes.

The seven variants of Llama 3.1 and 3.2, each as base and instruct model, and every other name
under which Meta's models were served on the retired endpoint. It knows no disk, no network and no
torch. Names match in any case, with or without `meta/` (or `meta-llama/`) and `Meta-` before them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace

from puna.llama.config import LlamaConfig, RopeScaling, VisionConfig
from puna.llama.shapes import count_parameters

_LLAMA_3_8B = LlamaConfig(
    hidden_size=4096,
    num_hidden_layers=32,
    num_attention_heads=32,
    num_key_value_heads=8,
    intermediate_size=14336,
    head_dim=128,
    max_position_embeddings=8192,
    eos_token_ids=(128001, 128009),
)
_LLAMA_3_70B = replace(
    _LLAMA_3_8B,
    hidden_size=8192,
    num_hidden_layers=80,
    num_attention_heads=64,
    intermediate_size=28672,
)


def _stretched(config: LlamaConfig, factor: float = 8.0) -> LlamaConfig:
    return replace(
        config,
        max_position_embeddings=131072,
        rope_scaling=RopeScaling(factor),
        eos_token_ids=(128001, 128008, 128009),
    )


LLAMA_3_1_8B = _stretched(_LLAMA_3_8B)
LLAMA_3_1_70B = _stretched(_LLAMA_3_70B)
LLAMA_3_1_405B = replace(
    LLAMA_3_1_70B,
    hidden_size=16384,
    num_hidden_layers=126,
    num_attention_heads=128,
    intermediate_size=53248,
)
LLAMA_3_2_1B = replace(
    _stretched(_LLAMA_3_8B, 32.0),
    hidden_size=2048,
    num_hidden_layers=16,
    intermediate_size=8192,
    head_dim=64,
    tie_word_embeddings=True,
)
LLAMA_3_2_3B = replace(
    LLAMA_3_2_1B, hidden_size=3072, num_hidden_layers=28, num_attention_heads=24, head_dim=128
)
LLAMA_3_2_11B_VISION = replace(
    LLAMA_3_1_8B,
    num_hidden_layers=40,
    cross_attention_layers=tuple(range(3, 40, 5)),
    vision=VisionConfig(),
)
LLAMA_3_2_90B_VISION = replace(
    LLAMA_3_1_70B,
    num_hidden_layers=100,
    cross_attention_layers=tuple(range(3, 100, 5)),
    vision=VisionConfig(),
)


@dataclass(frozen=True, slots=True)
class CatalogModel:
    """`name` as the endpoint had it, `repository` on the hub. `config` is None for models of
    another architecture, which Puna does not run. `served`: the retired endpoint had it."""

    name: str
    repository: str
    config: LlamaConfig | None
    served: bool = False

    @property
    def vision(self) -> bool:
        """Whether it takes images."""
        return self.config is None or self.config.vision is not None

    @property
    def parameters(self) -> int | None:
        return count_parameters(self.config) if self.config else None


@dataclass(frozen=True, slots=True)
class Footprint:
    """Memory that a model takes, in bytes: once, for each token and for each image in context."""

    weights: int
    token: int
    image: int = 0

    def total(self, tokens: int, images: int = 0) -> int:
        return self.weights + tokens * self.token + images * self.image

    def tokens_in(self, memory: int) -> int:
        """Tokens that fit beside the weights; 0 when not even those do."""
        return max(0, memory - self.weights) // self.token


PAGE = 16
"""Tokens in a page of an image: `kernels.pages.PAGE`, said again since that one brings torch."""


def footprint(config: LlamaConfig, *, element_size: int = 2, kv_element_size: int = 2) -> Footprint:
    """`element_size`: bytes a weight (2 in bfloat16); `kv_element_size`: bytes a cached number.

    An image is counted with all its tiles, each in whole pages; smaller ones take less.
    """
    image = 0
    if vision := config.vision:
        heads = config.num_key_value_heads * config.head_dim
        tokens = vision.max_num_tiles * -(-vision.num_patches // PAGE) * PAGE
        image = 2 * len(config.cross_attention_layers) * heads * tokens * kv_element_size
    return Footprint(
        weights=count_parameters(config) * element_size,
        token=config.kv_elements_per_token * kv_element_size,
        image=image,
    )


def _family(
    prefix: str, hub_prefix: str, sizes: Iterable[tuple[str, LlamaConfig, bool]]
) -> Iterable[CatalogModel]:
    """Base and instruct model of each size; only instruct models were ever served."""
    for size, config, served in sizes:
        yield CatalogModel(
            f"{prefix}-{size}-Instruct", f"meta-llama/{hub_prefix}-{size}-Instruct", config, served
        )
        base = replace(config, eos_token_ids=(128001,))
        yield CatalogModel(f"{prefix}-{size}", f"meta-llama/{hub_prefix}-{size}", base)


CATALOG: tuple[CatalogModel, ...] = (
    *_family(
        "Llama-3.2",
        "Llama-3.2",
        [
            ("1B", LLAMA_3_2_1B, False),
            ("3B", LLAMA_3_2_3B, False),
            ("11B-Vision", LLAMA_3_2_11B_VISION, True),
            ("90B-Vision", LLAMA_3_2_90B_VISION, True),
        ],
    ),
    *_family(
        "Meta-Llama-3.1",
        "Llama-3.1",
        [
            ("8B", LLAMA_3_1_8B, True),
            ("70B", LLAMA_3_1_70B, True),
            ("405B", LLAMA_3_1_405B, True),
        ],
    ),
    CatalogModel(
        "Llama-3.3-70B-Instruct", "meta-llama/Llama-3.3-70B-Instruct", LLAMA_3_1_70B, served=True
    ),
    *_family(
        "Meta-Llama-3",
        "Meta-Llama-3",
        [("8B", _LLAMA_3_8B, True), ("70B", _LLAMA_3_70B, True)],
    ),
    CatalogModel(
        "Llama-4-Scout-17B-16E-Instruct",
        "meta-llama/Llama-4-Scout-17B-16E-Instruct",
        None,
        served=True,
    ),
    CatalogModel(
        "Llama-4-Maverick-17B-128E-Instruct-FP8",
        "meta-llama/Llama-4-Maverick-17B-128E-Instruct-FP8",
        None,
        served=True,
    ),
)


def key(name: str) -> str:
    """What is left of a name when it is compared with another."""
    bare = name.strip().lower()
    for publisher in ("meta/", "meta-llama/"):
        bare = bare.removeprefix(publisher)
    return bare.removeprefix("meta-")


_BY_KEY = {key(model.name): model for model in CATALOG}


def find(name: str) -> CatalogModel | None:
    """The model that is meant by a name of the endpoint, of the hub or of Meta; None for others."""
    return _BY_KEY.get(key(name))


def would_fit(
    memory: int, *, tokens: int = 8192, element_size: int = 2, kv_element_size: int = 2
) -> list[CatalogModel]:
    """Instruct models whose weights and a context of `tokens` fit `memory` bytes, largest first."""

    def size(model: CatalogModel) -> int:
        if model.config is None:
            return memory + 1
        needs = footprint(model.config, element_size=element_size, kv_element_size=kv_element_size)
        return needs.total(min(tokens, model.config.max_position_embeddings), int(model.vision))

    instruct = [model for model in CATALOG if "Instruct" in model.name and size(model) <= memory]
    return sorted(instruct, key=size, reverse=True)
