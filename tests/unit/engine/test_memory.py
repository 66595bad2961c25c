"""Memory is divided before anything is loaded, and what cannot fit is refused with numbers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from puna.engine.memory import MemoryPlan, free_memory, plan_memory
from puna.errors import ModelTooLarge
from puna.llama.config import LlamaConfig, VisionConfig

GB = 10**9
LLAMA_1B = LlamaConfig(
    hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
    intermediate_size=8192, head_dim=64,
)  # fmt: skip
LLAMA_11B_VISION = LlamaConfig(
    hidden_size=4096, num_hidden_layers=40, num_attention_heads=32, num_key_value_heads=8,
    intermediate_size=14336, head_dim=128, cross_attention_layers=tuple(range(3, 40, 5)),
    vision=VisionConfig(),
)  # fmt: skip


def plan(config: LlamaConfig = LLAMA_1B, **fields: Any) -> MemoryPlan:
    known: dict[str, Any] = {
        "weight_bytes": 2_500_000_000,
        "itemsize": 2,
        "free_bytes": 16 * GB,
        "page_size": 16,
        "max_sequences": 64,
    }
    return plan_memory(config, **(known | fields))


def test_half_of_what_is_free_beside_the_weights_becomes_kv_memory() -> None:
    divided = plan()
    assert divided.kv_bytes == pytest.approx(0.5 * (16 * GB - 2_500_000_000), rel=0.001)
    assert divided.context == 131072
    assert divided.kv_tokens == divided.kv_bytes // 32768  # llama.md: bytes a token


def test_a_small_model_takes_no_more_than_it_can_well_use() -> None:
    small = replace(LLAMA_1B, max_position_embeddings=1024)
    assert plan(small).kv_tokens == (1 + 64) * 1024
    assert plan(max_sequences=4).kv_tokens == 131072 + 4 * 4096


def test_the_context_shrinks_to_what_fits_instead_of_failing() -> None:
    divided = plan(free_bytes=3 * GB)
    assert 512 <= divided.context == divided.kv_tokens < 131072


def test_a_vision_model_sets_memory_for_images_aside_one_at_least() -> None:
    divided = plan(LLAMA_11B_VISION, weight_bytes=21 * GB, free_bytes=23 * GB)
    assert 4 * divided.bytes_per_tile == pytest.approx(210e6, rel=0.01)  # as llama.md has it
    assert divided.image_bytes >= 4 * divided.bytes_per_tile
    assert divided.image_bytes <= divided.kv_bytes
    assert divided.kv_bytes == pytest.approx(1 * GB, rel=0.01)


@pytest.mark.parametrize(
    ("wishes", "words"),
    [
        ({"free_bytes": 2 * GB}, r"take 2\.5 GB.* 2\.0 GB .*not even the smallest"),
        (
            {"weight_bytes": 30 * GB, "free_bytes": 8 * GB},
            r"take 30\.0 GB.* 8\.0 GB .*: Llama-3\.2-3B-Instruct in bfloat16 would fit",
        ),
        ({"kv_memory": 14 * GB}, r"14\.0 GB .*16\.0 GB .* at most 13\.5 GB would fit"),
        (
            {"max_context": 131072, "free_bytes": 5 * GB},
            r"131072 tokens takes 4\.3 GB .* context of 38144 tokens would fit",
        ),
        (
            {"max_context": 8192, "kv_memory": 100_000_000},
            r"8192 tokens takes 0\.3 GB .*0\.1 GB .* context of 3040 tokens would fit",
        ),
        ({"free_bytes": 2_500_000_001}, r"context of 512 tokens.*not even"),
    ],
)
def test_what_cannot_fit_is_refused_with_both_numbers_and_what_would(
    wishes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelTooLarge, match=words) as caught:
        plan(**wishes)
    assert "\n" not in str(caught.value)


@settings(max_examples=40, deadline=None)
@given(
    free=st.integers(0, 200 * GB),
    kv_memory=st.none() | st.integers(1, 50 * GB),
    max_context=st.none() | st.integers(16, 200_000),
    config=st.sampled_from([LLAMA_1B, LLAMA_11B_VISION]),
)
def test_a_plan_never_takes_more_than_there_is_and_honours_every_wish(
    free: int, kv_memory: int | None, max_context: int | None, config: LlamaConfig
) -> None:
    try:
        divided = plan(config, free_bytes=free, kv_memory=kv_memory, max_context=max_context)
    except ModelTooLarge:
        return
    assert divided.weight_bytes + divided.kv_bytes <= free
    assert divided.kv_bytes <= (kv_memory or free)
    assert 1 <= divided.context <= divided.kv_tokens
    if max_context:
        assert divided.context == min(max_context, 131072)


def test_this_machine_has_some_memory_free() -> None:
    assert 10**7 < free_memory("cpu") < 10**15
