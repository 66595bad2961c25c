"""The text decoder against transformers' LlamaForCausalLM, on tiny random checkpoints."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM
from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

from puna.llama.config import LlamaConfig, RopeScaling
from puna.llama.model import Llama
from puna.llama.rope import rope_frequencies
from tests.parity.conftest import Measure
from tests.tiny_models import TIED, UNTIED, logits_of, new_cache, step, tiny_llama

TOLERANCE = {torch.float32: 2e-3, torch.float16: 0.08, torch.bfloat16: 0.5}

FAMILIES = {
    "untied, factor 8": UNTIED,
    "tied, factor 32": TIED,
    "as 405B: 16 query heads a key head": replace(
        UNTIED, num_attention_heads=16, num_key_value_heads=1, head_dim=24
    ),
    "no scaling": replace(UNTIED, rope_scaling=None),
}

family = pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())


def their_config(config: LlamaConfig) -> TheirConfig:
    rope: dict[str, float | str] = {"rope_theta": config.rope_theta, "rope_type": "default"}
    if config.rope_scaling:
        rope |= {
            "rope_type": "llama3",
            "factor": config.rope_scaling.factor,
            "low_freq_factor": config.rope_scaling.low_freq_factor,
            "high_freq_factor": config.rope_scaling.high_freq_factor,
            "original_max_position_embeddings": (
                config.rope_scaling.original_max_position_embeddings
            ),
        }
    return TheirConfig(
        hidden_size=config.hidden_size,
        num_hidden_layers=config.num_hidden_layers,
        num_attention_heads=config.num_attention_heads,
        num_key_value_heads=config.num_key_value_heads,
        intermediate_size=config.intermediate_size,
        head_dim=config.head_dim,
        vocab_size=config.vocab_size,
        max_position_embeddings=config.max_position_embeddings,
        rms_norm_eps=config.rms_norm_eps,
        tie_word_embeddings=config.tie_word_embeddings,
        rope_parameters=rope,
        bos_token_id=1,
        eos_token_id=None,
        pad_token_id=0,
    )


def theirs_with(model: Llama) -> LlamaForCausalLM:
    theirs = LlamaForCausalLM(their_config(model.config)).eval()
    weights = dict(model.state_dict())
    if model.config.tie_word_embeddings:
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    theirs.load_state_dict(weights, strict=True)
    return theirs.to(next(model.parameters()).dtype)


def tokens(count: int) -> list[int]:
    return torch.randint(300, (count,), generator=torch.Generator().manual_seed(count)).tolist()


def their_logits(theirs: LlamaForCausalLM, ids: list[int]) -> Tensor:
    with torch.inference_mode():
        return theirs(torch.tensor([ids])).logits[0]


@family
def test_fp32_logits_equal_transformers(
    config: LlamaConfig, measure: Measure, request: pytest.FixtureRequest
) -> None:
    model = tiny_llama(config)
    ids = tokens(200)
    measure(
        request.node.callspec.id, logits_of(model, ids), their_logits(theirs_with(model), ids), 2e-3
    )


def test_logits_equal_transformers_beyond_the_original_context(measure: Measure) -> None:
    """With 64 positions for the original context, stretched wavelengths matter at once."""
    config = replace(UNTIED, rope_scaling=RopeScaling(8, original_max_position_embeddings=64))
    model = tiny_llama(config)
    ids = tokens(1500)
    measure("1500 tokens", logits_of(model, ids), their_logits(theirs_with(model), ids), 2e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
@family
def test_half_precision_logits_are_near_transformers_in_fp32_on_the_same_weights(
    config: LlamaConfig, dtype: torch.dtype, measure: Measure, request: pytest.FixtureRequest
) -> None:
    half = tiny_llama(config).to(dtype)
    exact = Llama(config)
    exact.load_state_dict(half.state_dict())
    ids = tokens(200)
    expected = their_logits(theirs_with(exact), ids)
    measure(request.node.callspec.id, logits_of(half, ids), expected, TOLERANCE[dtype])


@family
def test_greedy_continuations_equal_transformers(config: LlamaConfig) -> None:
    model = tiny_llama(config)
    prompt = tokens(25)
    theirs = theirs_with(model).generate(torch.tensor([prompt]), max_new_tokens=60, do_sample=False)
    cache, pages, ids, done = new_cache(model), torch.randperm(64), list(prompt), 0
    while len(ids) < 85:
        (logits,) = step(model, cache, [(ids[done:], done, pages, ())])
        done = len(ids)
        ids.append(int(logits[-1].argmax()))
    assert ids == theirs[0].tolist()
    assert len(set(ids[25:])) > 10


@pytest.mark.parametrize("factor", [8.0, 32.0])
@pytest.mark.parametrize("head_dim", [64, 128])
def test_rotary_frequencies_equal_transformers(
    factor: float, head_dim: int, measure: Measure
) -> None:
    config = replace(UNTIED, head_dim=head_dim, rope_scaling=RopeScaling(factor))
    theirs = LlamaRotaryEmbedding(their_config(config)).inv_freq
    ours = rope_frequencies(config)
    measure(f"frequencies, {head_dim} wide, factor {factor:.0f}", ours / theirs, ours / ours, 1e-6)
