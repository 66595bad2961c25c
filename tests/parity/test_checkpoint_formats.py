"""Every layout on disk against whoever else reads or writes it, from file to logits.

Hugging Face: files that transformers wrote. Meta: state dicts of Meta's own modules. GGUF: files
that transformers reads, with the gguf package's dequantisation. All tiny, random and in fp32.
"""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from llama_models.llama3.chat_format import create_vision_mask
from torch import Tensor
from transformers import LlamaConfig as TheirConfig
from transformers import LlamaForCausalLM, MllamaConfig, MllamaForConditionalGeneration
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint

from puna.llama.config import LlamaConfig
from puna.llama.load import load_llama
from puna.llama.model import Llama
from puna.llama.weights import open_checkpoint
from tests.checkpoints import (
    BOS,
    TINY_META_VISION,
    TINY_TEXT,
    TINY_TIED,
    TINY_VISION,
    TINY_WIDE,
    consistent_tiles,
    hf_config,
    meta_params,
    random_weights,
    write_gguf,
    write_hf,
    write_json,
    write_meta,
)
from tests.parity.conftest import Measure
from tests.parity.meta_reference import args as meta_args
from tests.parity.meta_reference import text as meta_text
from tests.parity.meta_reference import vision as meta_vision
from tests.tiny_models import logits_of, new_cache, random_image, step

TOLERANCE = 2e-3
IDS = [BOS, *torch.randint(512, (60,), generator=torch.Generator().manual_seed(3)).tolist()]
TEXT = {"untied, factor 8": TINY_TEXT, "tied, factor 32": TINY_TIED}
text_models = pytest.mark.parametrize("config", TEXT.values(), ids=TEXT.keys())


def opened(path: Path, config: LlamaConfig) -> Llama:
    checkpoint = open_checkpoint(path)
    assert checkpoint.config == config
    return load_llama(checkpoint)


def greedy(model: Llama, count: int = 40) -> list[int]:
    cache, pages, ids, done = new_cache(model), torch.randperm(64), IDS[:12], 0
    while len(ids) < 12 + count:
        (logits,) = step(model, cache, [(ids[done:], done, pages, ())])
        done = len(ids)
        ids.append(int(logits[-1].argmax()))
    return ids


def transformers_model(config: LlamaConfig) -> LlamaForCausalLM:
    """transformers' model with our random weights, put in under its own names."""
    theirs = LlamaForCausalLM(TheirConfig.from_dict(hf_config(config))).eval()
    weights = random_weights(config, seed=5)
    if config.tie_word_embeddings:
        weights["model.embed_tokens.weight"] *= 0.1  # else each token predicts itself
        weights["lm_head.weight"] = weights["model.embed_tokens.weight"]
    theirs.load_state_dict(weights, strict=True)
    return theirs


def their_logits(theirs: LlamaForCausalLM) -> Tensor:
    with torch.inference_mode():
        return theirs(torch.tensor([IDS])).logits[0]


def their_greedy(theirs: LlamaForCausalLM, count: int = 40) -> list[int]:
    theirs.generation_config.eos_token_id = None
    prompt = torch.tensor([IDS[:12]])
    return theirs.generate(prompt, max_new_tokens=count, do_sample=False)[0].tolist()


# --------------------------------------------------------------------------- Hugging Face


@text_models
@pytest.mark.parametrize("shard_size", ["5GB", "100KB"], ids=["one file", "many shards"])
def test_what_transformers_saves_gives_its_logits_and_continuations(
    tmp_path: Path, config: LlamaConfig, shard_size: str, measure: Measure
) -> None:
    theirs = transformers_model(config)
    theirs.save_pretrained(tmp_path, max_shard_size=shard_size)
    model = opened(tmp_path, config)
    name = f"HF {shard_size}, {'tied' if config.tie_word_embeddings else 'untied'}"
    assert len(list(tmp_path.glob("*.safetensors"))) == 1 or shard_size == "100KB"
    measure(name, logits_of(model, IDS), their_logits(theirs), TOLERANCE)
    assert greedy(model) == their_greedy(theirs)


def test_a_vision_model_that_transformers_saves_is_read_tensor_for_tensor(tmp_path: Path) -> None:
    config = hf_config(TINY_VISION)
    theirs = MllamaForConditionalGeneration(MllamaConfig.from_dict(config))
    theirs.save_pretrained(tmp_path, max_shard_size="300KB")
    model = opened(tmp_path, TINY_VISION)
    expected = {
        name.replace("model.language_model.", "model.")
        .replace("model.vision_model.", "vision_model.")
        .replace("model.multi_modal_projector.", "multi_modal_projector."): tensor
        for name, tensor in theirs.state_dict().items()
    }
    ours = model.state_dict()
    assert ours.keys() == expected.keys()
    assert all(torch.equal(ours[name], expected[name]) for name in ours)


def test_a_vision_config_of_defaults_alone_is_read_as_transformers_reads_it(
    tmp_path: Path,
) -> None:
    """What `save_pretrained` leaves out has the value that transformers would fill in."""
    theirs = MllamaConfig()
    theirs.save_pretrained(tmp_path)
    saved = json.loads((tmp_path / "config.json").read_text())
    saved["vision_config"] = {"model_type": "mllama_vision_model"}
    saved["architectures"] = ["MllamaForConditionalGeneration"]
    from puna.llama.weights.hf_config import read_config

    write_json(tmp_path / "config.json", saved)
    vision = read_config(tmp_path).vision
    assert vision is not None
    assert vision.image_size == theirs.vision_config.image_size == 448
    assert vision.hidden_size == theirs.vision_config.hidden_size
    assert vision.num_attention_heads == theirs.vision_config.attention_heads
    assert list(vision.intermediate_layers_indices) == (
        theirs.vision_config.intermediate_layers_indices
    )
    assert [list(pair) for pair in vision.supported_aspect_ratios] == (
        theirs.vision_config.supported_aspect_ratios
    )


# ------------------------------------------------------------------------------------ Meta


def metas_text_model(config: LlamaConfig) -> Any:
    params = meta_params(config)
    model = meta_text.Transformer(meta_args.ModelArgs(**params, max_seq_len=128, max_batch_size=1))
    generator = torch.Generator().manual_seed(4)
    for name, parameter in model.requires_grad_(False).eval().named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if parameter.dim() == 1:
            parameter.copy_(1 + 0.1 * noise)
        else:
            parameter.copy_(noise if "embed" in name else noise / parameter.shape[-1] ** 0.5)
    return model


def save_as_meta(directory: Path, config: LlamaConfig, state: dict[str, Tensor]) -> Path:
    directory.mkdir(exist_ok=True)
    torch.save(state, directory / "consolidated.00.pth")
    write_json(directory / "params.json", meta_params(config))
    return directory


def test_metas_own_state_dict_gives_metas_logits(tmp_path: Path, measure: Measure) -> None:
    config = replace(TINY_TEXT, head_dim=16)
    reference = metas_text_model(config)
    model = opened(save_as_meta(tmp_path, config, reference.state_dict()), config)
    with torch.inference_mode():
        theirs = reference(torch.tensor([IDS]), 0)[0]
    measure("Meta, untied", logits_of(model, IDS), theirs, TOLERANCE)


@text_models
@pytest.mark.parametrize("shards", [1, 2, 4])
def test_metas_shards_give_the_logits_of_the_whole(
    tmp_path: Path, config: LlamaConfig, shards: int, measure: Measure
) -> None:
    """Meta's code knows no factor but 8, so the judge of both models is transformers."""
    config = replace(config, num_attention_heads=8, head_dim=8, num_key_value_heads=4)
    theirs = transformers_model(config)
    weights = {n: t for n, t in theirs.state_dict().items() if not n.startswith("lm_head")}
    if not config.tie_word_embeddings:
        weights["lm_head.weight"] = theirs.lm_head.weight.detach()
    model = opened(write_meta(tmp_path, config, weights, shards=shards), config)
    name = f"Meta in {shards}, {'tied' if config.tie_word_embeddings else 'untied'}"
    measure(name, logits_of(model, IDS), their_logits(theirs), TOLERANCE)
    assert greedy(model) == their_greedy(theirs)


@pytest.fixture(scope="module")
def metas_vision_model() -> Any:
    """Meta's vision model; only the encoder's width and patch grid are smaller than published."""
    eyes = TINY_META_VISION.vision
    assert eyes is not None
    encoder = partial(meta_vision.VisionEncoder, width=eyes.hidden_size)
    params = meta_params(TINY_META_VISION)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(meta_vision, "VisionEncoder", encoder)
        model = meta_vision.CrossAttentionTransformer(
            meta_args.ModelArgs(**params, max_seq_len=64, max_batch_size=1)
        )
    model.vision_model.vision_projection = torch.nn.Linear(
        eyes.vision_output_dim, TINY_META_VISION.hidden_size
    )
    # 8 rows, of which Meta's embedding of one machine has as many.
    generator = torch.Generator().manual_seed(6)
    for name, parameter in model.requires_grad_(False).eval().named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if "gate" in name.rsplit(".", 1)[-1]:
            parameter.copy_(0.5 + 0.1 * noise if parameter.numel() == 1 else noise)
        elif parameter.dim() == 1:
            parameter.add_(0.1 * noise)
        else:
            parameter.copy_(noise if "embed" in name else noise / parameter.shape[-1] ** 0.5)
    model.setup_cache(1, torch.device("cpu"), torch.float32)
    model.image_transform = lambda image: (
        image.pixels[: image.num_tiles],
        eyes.supported_aspect_ratios[image.aspect_ratio_id - 1],
    )
    return model


@pytest.mark.parametrize("places", [(1,), (1, 9)], ids=["one image", "two images"])
def test_metas_own_vision_state_dict_gives_metas_logits(
    tmp_path: Path, metas_vision_model: Any, places: tuple[int, ...], measure: Measure
) -> None:
    config = TINY_META_VISION
    state = {
        name: tensor
        for name, tensor in metas_vision_model.state_dict().items()
        if not name.endswith("_cache")
    }
    model = opened(save_as_meta(tmp_path, config, state), config)
    image = config.image_token_id
    assert image is not None
    ids = [image if place in places else token for place, token in enumerate(IDS[:24])]
    images = [random_image(config, ratio, seed) for seed, ratio in enumerate((2, 6)[: len(places)])]
    with torch.inference_mode():
        caches, mask, rows = metas_vision_model.compute_vision_tokens_masks(
            [images], [create_vision_mask(ids, image)], len(ids), torch.device("cpu")
        )
        theirs = metas_vision_model(
            torch.arange(len(ids)), torch.tensor([ids]), mask, rows, caches, False
        )[0]
    name = f"Meta vision, {len(places)} images"
    measure(name, logits_of(model, ids, images), theirs, TOLERANCE)


@pytest.mark.parametrize("layout", ["v4", "v5", "shards"])
def test_a_vision_model_gives_the_same_logits_from_every_layout(
    tmp_path: Path, layout: str
) -> None:
    config = TINY_META_VISION
    weights = consistent_tiles(config, random_weights(config, seed=8))
    first = opened(write_meta(tmp_path / "meta", config, weights), config)
    if layout == "shards":
        second = opened(write_meta(tmp_path / "many", config, weights, shards=2), config)
    else:
        second = opened(write_hf(tmp_path / "hf", config, weights, naming=layout), config)  # type: ignore[arg-type]
    ids = [config.vocab_size, *IDS[:20]]
    images = [random_image(config, 5)]
    assert torch.equal(logits_of(first, ids, images), logits_of(second, ids, images))


# ------------------------------------------------------------------------------------ GGUF


@pytest.mark.parametrize("quant", ["F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_K", "Q6_K"])
@pytest.mark.parametrize("tied", [False, True], ids=["untied", "tied"])
def test_a_gguf_file_gives_the_logits_that_transformers_reads_from_it(
    tmp_path: Path, quant: Any, tied: bool, measure: Measure
) -> None:
    scaling = TINY_TIED.rope_scaling if tied else TINY_TEXT.rope_scaling
    config = replace(TINY_WIDE, tie_word_embeddings=tied, rope_scaling=scaling)
    weights = random_weights(config, seed=9)
    if tied:
        weights["model.embed_tokens.weight"] *= 0.1
    write_gguf(tmp_path / "tiny.gguf", config, weights, quant=quant)
    theirs = LlamaForCausalLM(TheirConfig.from_dict(hf_config(config))).eval()
    tensors = load_gguf_checkpoint(
        str(tmp_path / "tiny.gguf"), return_tensors=True, model_to_load=theirs
    )["tensors"]
    tensors = {name: torch.as_tensor(value).float() for name, value in tensors.items()}
    if tied:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"]
    theirs.load_state_dict(tensors, strict=True)
    model = opened(tmp_path / "tiny.gguf", config)
    name = f"GGUF {quant}, {'tied' if tied else 'untied'}"
    measure(name, logits_of(model, IDS), their_logits(theirs), TOLERANCE)
    assert greedy(model) == their_greedy(theirs)
