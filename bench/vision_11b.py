"""One four-tile image through Llama 3.2 11B Vision, beside transformers in bfloat16.

    python -m bench.vision_11b [--rounds 5] [--no-peer]

The shapes are true, but not all layers are run, for the whole in bfloat16 does not fit beside ours.
A layer of the encoder (32 local and 8 gated ones cost the same) is run once of 40 times, on 6432
tokens; of the decoder 5 layers, one of them with cross-attention, which is an eighth of its 40. The
rows of the table that say so are what was measured, and "encode + first token" is 40 of the one
and 8 of the other, and the projection of the image, which is that of a tile four times, without the
head, patches and embeddings. Decode stands beside a bound: how fast the same threads read as many
bytes as the weights of those 5 layers have.
Ours: the encoder's weights in 8 bits, as every packed model keeps them, the decoder's in int4.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from bench.decode_1b import random_model
from bench.rows import PUNA, Row, record
from puna.kernels import Packed, native, pack
from puna.llama import linear
from puna.llama.batch import Batch, ImageView, Span
from puna.llama.cache import KVCache
from puna.llama.catalog import LLAMA_3_2_11B_VISION
from puna.llama.config import LlamaConfig, VisionConfig
from puna.llama.model import CrossAttentionLayer
from puna.llama.packing import format_of, tensor_bytes
from puna.llama.shapes import tensor_shapes
from puna.llama.vision import VisionLayer

TILES, TOKENS = 4, 1608  # with padding to a multiple of 8
DECODER_LAYERS = 5
ROWS = 32  # of the prompt
GROUP, PEER, BOUND = "11B Vision", "transformers bfloat16", "reading the weights"


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def our_layer(config: VisionConfig) -> VisionLayer:
    layer = VisionLayer(config).eval().requires_grad_(False)
    for module in layer.modules():
        if isinstance(module, nn.Linear):
            linear.pack(module, pack(module.weight, "int8"))
    return layer


def their_layer(config: VisionConfig) -> nn.Module:
    from transformers.models.mllama.configuration_mllama import MllamaVisionConfig
    from transformers.models.mllama.modeling_mllama import MllamaVisionEncoderLayer

    theirs = MllamaVisionConfig()
    theirs._attn_implementation = "sdpa"
    assert (theirs.hidden_size, theirs.intermediate_size) == (
        config.hidden_size,
        config.intermediate_size,
    )
    return MllamaVisionEncoderLayer(theirs).eval().requires_grad_(False).bfloat16()


Work = dict[str, Callable[[], object]]


def layers(peer: bool) -> Work:
    """One layer of the encoder."""
    config = VisionConfig()
    x = torch.randn(1, TILES * TOKENS, config.hidden_size)
    real = (torch.arange(TILES * TOKENS) % TOKENS < config.num_patches)[None]
    ours = our_layer(config)
    work: Work = {PUNA: lambda: ours(x, real)}
    if peer:
        theirs = their_layer(config)
        blocked = ~(real[:, :, None] | real[:, None, :]).unsqueeze(1)
        mask = blocked.bfloat16() * torch.finfo(torch.bfloat16).min
        wide = x.bfloat16()
        work[PEER] = lambda: theirs(wide, attention_mask=mask)
    return work


def bytes_of_a_step(config: LlamaConfig) -> int:
    """Of the layers' weights, less those that made the image's keys and values."""
    return sum(
        tensor_bytes(shape, format_of(name, config, "int4"))
        for name, shape in tensor_shapes(config).items()
        if ".layers." in name
        and "vision" not in name
        and not name.endswith(("cross_attn.k_proj.weight", "cross_attn.v_proj.weight"))
    )


def decoders(peer: bool) -> tuple[Work, Work, Work]:
    """The projection of one of the image's tiles; a prompt, with the image's keys and values of one
    cross-attention layer; a token after it: all through 5 layers."""
    config = replace(
        LLAMA_3_2_11B_VISION,
        num_hidden_layers=DECODER_LAYERS,
        cross_attention_layers=(3,),
        vocab_size=1024,
    )
    model = random_model(config, torch.float32, "int4")
    assert isinstance(model.model.layers[0].mlp.up_proj.weight, Packed)
    vision = config.vision
    assert vision is not None
    width = model.multi_modal_projector.in_features
    seen = torch.randn(TILES * vision.num_patches, width)
    tile = seen[: vision.num_patches]
    features = model.multi_modal_projector(seen)
    cache = KVCache(config, 4, 16, torch.bfloat16)
    ids = torch.randint(1024, (ROWS,))
    (crossing,) = (each for each in model.model.layers if isinstance(each, CrossAttentionLayer))

    def batch(start: int, count: int) -> Batch:
        view = ImageView((crossing.cross_attn.source(features),), 1, 10**9) if not start else kept
        span = Span(0, count, start, torch.arange(4), (view,))
        rows, exact = torch.tensor([count - 1]), count if start else 0
        return Batch(ids[:count], torch.arange(start, start + count), (span,), rows, exact)

    kept = ImageView((crossing.cross_attn.source(features),), 1, 10**9)
    project: Work = {PUNA: lambda: model.multi_modal_projector(tile)}
    prompt: Work = {PUNA: lambda: model(batch(0, ROWS), cache)}
    read = torch.ones(bytes_of_a_step(config) // 4)
    token: Work = {PUNA: lambda: model(batch(ROWS, 1), cache), BOUND: read.sum}
    if peer:
        from transformers import DynamicCache
        from transformers.models.mllama.configuration_mllama import MllamaTextConfig
        from transformers.models.mllama.modeling_mllama import MllamaTextModel

        theirs_config = MllamaTextConfig(
            num_hidden_layers=DECODER_LAYERS, cross_attention_layers=[3], vocab_size=1024,
            bos_token_id=1, eos_token_id=2, pad_token_id=0,
        )  # fmt: skip
        theirs_config._attn_implementation = "sdpa"
        before = torch.get_default_dtype()
        torch.set_default_dtype(torch.bfloat16)
        theirs = MllamaTextModel(theirs_config).eval().requires_grad_(False)
        projector = nn.Linear(width, config.hidden_size)
        torch.set_default_dtype(before)
        wide, states = tile.bfloat16(), features.bfloat16()[None]
        caches = [DynamicCache(config=theirs_config)]

        def begin() -> Any:
            caches[0] = DynamicCache(config=theirs_config)
            return theirs(ids[None], cross_attention_states=states, past_key_values=caches[0])

        def go_on() -> Any:
            return theirs(ids[None, :1], past_key_values=caches[0])

        project[PEER] = lambda: projector(wide)
        prompt[PEER], token[PEER] = begin, go_on
    return project, prompt, token


def take_turns(work: Work, rounds: int, repeats: int = 1) -> dict[str, list[float]]:
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, each in work.items():
            if number:
                taken[name] += [seconds(each) for _ in range(repeats)]
            else:
                each()  # warms up
    return taken


def main() -> None:
    parser = argparse.ArgumentParser(description="Llama 3.2 11B Vision shape, random weights")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(native.processors())
    print(f"{native.processors()} threads, native {native.instruction_sets() or native.why_not()}")
    with torch.inference_mode():
        layer = take_turns(layers(not options.no_peer), options.rounds)
        record([Row(GROUP, "a layer of the encoder of 40", layer, "s", less=True)])
        project, prompt, token = decoders(not options.no_peer)
        projected = take_turns(project, options.rounds)
        first = take_turns(prompt, options.rounds)
        after = take_turns(token, options.rounds, 5)
    whole = {
        name: [
            40 * a + TILES * b + 8 * c
            for a, b, c in zip(layer[name], projected[name], first[name], strict=True)
        ]
        for name in layer
    }
    milliseconds = {name: [1e3 * each for each in times] for name, times in after.items()}
    bound = {name: milliseconds[name] for name in (PUNA, BOUND)}
    beside = {name: each for name, each in milliseconds.items() if name != BOUND}
    record(
        [
            Row(GROUP, "the projection of one tile", projected, "s", less=True),
            Row(GROUP, f"prompt of {ROWS} and cross keys, 5 layers of 40", first, "s", less=True),
            Row(GROUP, "a token, 5 layers of 40", beside, "ms", less=True),
            Row(GROUP, "encode + first token, extrapolated", whole, "s", 4, less=True),
            Row(GROUP, "decode, 5 layers of 40, of the bound", bound, "ms", 0.9, less=True),
        ]
    )


if __name__ == "__main__":
    main()
