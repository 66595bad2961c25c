"""Models whose weights are packed: what is packed how, what that costs, and what stays exact."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest
import torch

from puna.kernels import Format, Packed, native, unpack
from puna.llama.catalog import CATALOG, LLAMA_3_2_11B_VISION
from puna.llama.config import LlamaConfig
from puna.llama.load import load_llama
from puna.llama.model import Llama
from puna.llama.packing import format_of, packed_bytes
from puna.llama.shapes import count_parameters, tensor_shapes
from puna.llama.weights import open_checkpoint
from tests.checkpoints import TINY_TEXT, TINY_TIED, TINY_VISION, write_gguf, write_hf
from tests.tiny_models import logits_of, random_image, tiny_llama

FORMATS: tuple[Format, ...] = get_args(Format)
FAMILIES = {"text": TINY_TEXT, "tied": TINY_TIED, "vision": TINY_VISION}


def packed_of(model: Llama) -> dict[str, Packed]:
    """What is packed in a model, by the canonical name of its tensor."""
    weights = {f"{name}.weight": getattr(m, "weight", None) for name, m in model.named_modules()}
    return {name: weight for name, weight in weights.items() if isinstance(weight, Packed)}


def saved(path: Path, config: LlamaConfig) -> Llama:
    model = tiny_llama(config)
    write_hf(path, config, model.state_dict())
    return model


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_packed_model_takes_the_bytes_that_were_said_before_loading(
    tmp_path: Path, config: LlamaConfig, form: Format
) -> None:
    saved(tmp_path, config)
    model = load_llama(open_checkpoint(tmp_path), packing=form)
    packed = packed_of(model)
    assert packed.keys() == {n for n in tensor_shapes(config) if format_of(n, config, form)}
    taken = sum(weight.nbytes for weight in packed.values())
    taken += sum(tensor.nbytes for tensor in model.state_dict().values())
    assert taken == packed_bytes(config, form)


def test_the_parts_that_few_bits_hurt_keep_six_or_eight() -> None:
    for name, weight in [
        ("lm_head.weight", "int6"),
        ("model.layers.3.cross_attn.q_proj.weight", "int8"),
        ("model.layers.4.self_attn.q_proj.weight", "int4"),
        ("model.layers.4.mlp.down_proj.weight", "int4"),
        ("vision_model.transformer.layers.0.mlp.fc1.weight", "int8"),
        ("model.embed_tokens.weight", "int4"),
        ("model.norm.weight", None),
        ("vision_model.gated_positional_embedding.embedding", None),
    ]:
        assert format_of(name, LLAMA_3_2_11B_VISION, "int4") == weight, name
    tied = next(each.config for each in CATALOG if each.config and each.config.tie_word_embeddings)
    assert format_of("model.embed_tokens.weight", tied, "int4") == "int6"  # it is the head as well


@pytest.mark.parametrize(("form", "least", "most"), [("int4", 4.5, 6), ("int8", 8.5, 8.7)])
def test_the_herd_packed_takes_about_the_bits_that_the_format_has(
    form: Format, least: float, most: float
) -> None:
    configs = {model.config for model in CATALOG if model.config}
    assert len(configs) >= 7
    for config in configs:
        bits = 8 * packed_bytes(config, form) / count_parameters(config)
        assert least <= bits <= most, (config, bits)


# The largest difference of logits whose own spread is about 1, on random weights of unit gain:
# random weights suffer more from rounding than trained ones.
@pytest.mark.parametrize(("form", "allowed"), [("bf16", 0.1), ("int8", 0.25), ("int4", 3.0)])
@pytest.mark.parametrize("config", FAMILIES.values(), ids=FAMILIES.keys())
def test_a_packed_model_says_about_what_the_exact_one_says(
    tmp_path: Path, config: LlamaConfig, form: Format, allowed: float
) -> None:
    exact = saved(tmp_path, config)
    packed = load_llama(open_checkpoint(tmp_path), packing=form)
    ids = [int(token) for token in torch.randint(config.vocab_size, (37,))]
    images = []
    if config.image_token_id:
        ids[5], images = config.image_token_id, [random_image(config, 5)]
    expected, got = logits_of(exact, ids, images), logits_of(packed, ids, images)
    assert (got - expected).abs().max() <= allowed
    assert torch.nn.functional.cosine_similarity(got, expected).min() > 1 - allowed / 10


@pytest.mark.parametrize(("quant", "form"), [("Q8_0", "int8"), ("Q4_0", "int4")])
def test_gguf_integers_are_packed_without_loss(tmp_path: Path, quant: str, form: Format) -> None:
    weights = tiny_llama(TINY_TEXT).state_dict()
    file = write_gguf(tmp_path / "tiny.gguf", TINY_TEXT, weights, quant=quant)  # type: ignore[arg-type]
    checkpoint = open_checkpoint(file)
    packed = packed_of(load_llama(checkpoint, packing=form))
    same = [name for name, weight in packed.items() if weight.format == form]
    assert len(same) >= 7 * TINY_TEXT.num_hidden_layers
    for name in same:
        assert torch.equal(unpack(packed[name]), checkpoint.read(name, torch.float32)), name


@pytest.mark.skipif(native.library() is None, reason="needs the native kernels")
@pytest.mark.parametrize("form", FORMATS)
def test_without_native_kernels_a_packed_model_says_the_same(
    tmp_path: Path, form: Format, monkeypatch: pytest.MonkeyPatch
) -> None:
    saved(tmp_path, TINY_TIED)
    model = load_llama(open_checkpoint(tmp_path), packing=form)
    ids = [int(token) for token in torch.randint(TINY_TIED.vocab_size, (20,))]
    quick = logits_of(model, ids)
    for module in ("puna.kernels.native", "puna.kernels.packed"):
        monkeypatch.setattr(f"{module}.library", lambda: None)
    # an activation on the border between two integers may fall on either side of it; where the
    # processor multiplies bf16 itself, activations that meet bf16 are rounded too; and with AMX
    # columns that share a scale in bulk are more
    rounds = native.chosen() in ("amx", "avx512bf16")
    allowed = 0.15 if form != "bf16" or rounds else 0.01
    if form != "bf16" and native.chosen() == "amx":
        allowed = 0.4
    assert (logits_of(model, ids) - quick).abs().max() <= allowed
