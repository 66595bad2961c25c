"""Small Llamas with random weights in which every part matters, and a way to run them by hand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from puna.llama.batch import Batch, ImageView, Span, image_ranges
from puna.llama.cache import KVCache
from puna.llama.config import LlamaConfig, RopeScaling, VisionConfig
from puna.llama.images import PreparedImage
from puna.llama.model import Llama

PAGE_SIZE = 16

UNTIED = LlamaConfig(
    hidden_size=64,
    num_hidden_layers=3,
    num_attention_heads=8,
    num_key_value_heads=2,
    intermediate_size=160,
    head_dim=16,
    vocab_size=300,
    rope_scaling=RopeScaling(factor=8),
)
TIED = replace(
    UNTIED,
    hidden_size=96,
    num_attention_heads=6,
    head_dim=20,
    rope_scaling=RopeScaling(factor=32),
    tie_word_embeddings=True,
)
VISION = replace(
    UNTIED,
    num_hidden_layers=6,
    num_attention_heads=4,
    cross_attention_layers=(1, 4),
    vision=VisionConfig(
        hidden_size=32,
        num_attention_heads=4,
        intermediate_size=128,
        num_hidden_layers=4,
        num_global_layers=2,
        image_size=56,
        intermediate_layers_indices=(1, 2),
    ),
)


def tiny_llama(config: LlamaConfig, seed: int = 0) -> Llama:
    """fp32, weights of unit gain, norms near one, gates open."""
    generator = torch.Generator().manual_seed(seed)
    model = Llama(config).eval().requires_grad_(False)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if name.endswith("gate"):
            parameter.copy_(0.6 + 0.2 * noise)
        elif "norm" in name and name.endswith("weight"):
            parameter.copy_(1 + 0.2 * noise)
        elif "embed_tokens" in name and config.tie_word_embeddings:
            parameter.copy_(0.1 * noise)  # larger, and each token would predict itself
        elif "embed" in name or parameter.dim() < 2:
            parameter.copy_(0.5 * noise)
        else:
            parameter.copy_(noise / parameter[0].numel() ** 0.5)
    return model


def random_image(config: LlamaConfig, ratio_id: int, seed: int = 0) -> PreparedImage:
    """Random pixels in as many tiles as the aspect ratio has; digest made of the arguments."""
    vision = config.vision
    assert vision is not None
    height, width = vision.supported_aspect_ratios[ratio_id - 1]
    pixels = torch.zeros(vision.max_num_tiles, 3, vision.image_size, vision.image_size)
    generator = torch.Generator().manual_seed(seed)
    shape = pixels[: height * width].shape
    pixels[: height * width] = torch.randn(shape, generator=generator)
    return PreparedImage(pixels, ratio_id, height * width, bytes([ratio_id, seed % 256]))


def views(
    model: Llama, token_ids: Sequence[int], images: Sequence[PreparedImage]
) -> tuple[ImageView, ...]:
    """The images, in order, as the tokens of one sequence see them."""
    if not images:
        return ()
    token = model.config.image_token_id
    assert token is not None
    ranges = image_ranges([place for place, each in enumerate(token_ids) if each == token])
    return tuple(
        ImageView(model.encode_image(image), first, end)
        for image, (first, end) in zip(images, ranges, strict=True)
    )


def new_cache(model: Llama, num_pages: int = 64) -> KVCache:
    weight = next(model.parameters())
    return KVCache(model.config, num_pages, PAGE_SIZE, weight.dtype, weight.device)


def step(
    model: Llama,
    cache: KVCache,
    parts: Sequence[tuple[Sequence[int], int, Tensor, tuple[ImageView, ...]]],
    exact: int = 0,
) -> list[Tensor]:
    """One forward pass over (token ids, context, pages, images) of several sequences; gives the
    logits of every row, a tensor a sequence. The first `exact` rows are."""
    spans: list[Span] = []
    start = 0
    for ids, context, pages, images in parts:
        spans.append(Span(start, len(ids), context, pages, images))
        start += len(ids)
    batch = Batch(
        torch.tensor([token for ids, *_ in parts for token in ids]),
        torch.cat([torch.arange(s.context, s.context + s.length) for s in spans]),
        tuple(spans),
        torch.arange(start),
        exact,
    )
    with torch.inference_mode():
        logits = model(batch, cache)
    return list(logits.split([span.length for span in spans]))


def logits_of(
    model: Llama, token_ids: Sequence[int], images: Sequence[PreparedImage] = ()
) -> Tensor:
    """Every row's logits [tokens, vocab_size], in one pass with a cache of its own."""
    pages = torch.arange(-(-len(token_ids) // PAGE_SIZE))
    cache = new_cache(model, len(pages))
    return step(model, cache, [(token_ids, 0, pages, views(model, token_ids, images))])[0]
