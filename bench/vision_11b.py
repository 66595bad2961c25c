"""One four-tile image through the encoder of Llama 3.2 11B Vision: random weights, the true shapes.

    python -m bench.vision_11b [--rounds 2] [--whole] [--no-peer]

A layer of the encoder costs what each of the others costs, so one local layer of ours (weights in
8 bits, as every packed model keeps the encoder) and one of transformers in bfloat16 take turns, on
the same 6432 tokens; `x 40` is what 32 local and 8 gated layers come to. `--whole` runs all 40
once, with patches, projector and keys and values of one cross-attention layer of 8, then a prompt
of 32 tokens through 5 of the decoder's 40 layers, one of them cross-attention (int4, a vocabulary
of 1024 instead of 128256). Nothing is extrapolated but `x 40`.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from bench.decode_1b import random_model
from puna import kernels
from puna.kernels import Packed, native, pack
from puna.llama import linear
from puna.llama.batch import Batch, ImageView, Span
from puna.llama.cache import KVCache
from puna.llama.catalog import LLAMA_3_2_11B_VISION
from puna.llama.config import VisionConfig
from puna.llama.images import PreparedImage
from puna.llama.vision import VisionLayer

TILES, TOKENS = 4, 1608  # with padding to a multiple of 8
DECODER_LAYERS = 5


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


def one_layer(rounds: int, peer: bool) -> None:
    config = VisionConfig()
    x = torch.randn(1, TILES * TOKENS, config.hidden_size)
    real = (torch.arange(TILES * TOKENS) % TOKENS < config.num_patches)[None]
    ours = our_layer(config)
    q = torch.randn(1, TILES * TOKENS, config.num_attention_heads, 80)
    work: dict[str, Callable[[], object]] = {
        "ours": lambda: ours(x, real),
        "of it attention": lambda: kernels.padded_attention(q, q, q, real, torch.int8),
        "attention in fp32": lambda: kernels.padded_attention(q, q, q, real, torch.float32),
    }
    if peer:
        theirs = their_layer(config)
        blocked = ~(real[:, :, None] | real[:, None, :]).unsqueeze(1)
        mask = blocked.bfloat16() * torch.finfo(torch.bfloat16).min
        wide = x.bfloat16()

        def run_theirs() -> Any:
            return theirs(wide, attention_mask=mask)

        work["transformers"] = run_theirs
    taken: dict[str, list[float]] = {name: [] for name in work}
    for number in range(rounds + 1):
        for name, each in work.items():
            if number or name != "transformers":  # the first round warms up
                took = seconds(each)
                if number:
                    taken[name].append(took)
    for name, times in taken.items():
        median = statistics.median(times)
        print(
            f"one layer, {name:<18} {median:7.2f} s ({min(times):.2f} to {max(times):.2f}), "
            f"x 40: {40 * median:6.0f} s",
            flush=True,
        )
    if peer:
        ratio = [b / a for a, b in zip(taken["ours"], taken["transformers"], strict=True)]
        low, high = min(ratio), max(ratio)
        print(f"transformers / ours: {statistics.median(ratio):.1f} ({low:.1f} to {high:.1f})")


def whole() -> None:
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
    pixels = torch.randn(vision.max_num_tiles, 3, vision.image_size, vision.image_size)
    image = PreparedImage(pixels, vision.supported_aspect_ratios.index((2, 2)) + 1, 4, b"")
    pieces: list[float] = []
    steps = model.encoding(image)
    encoded: Any = ()
    start = time.perf_counter()
    while not encoded:
        before = time.perf_counter()
        encoded = next(steps)
        pieces.append(time.perf_counter() - before)
    print(f"whole encode: {time.perf_counter() - start:.1f} s; longest piece {max(pieces):.2f} s")
    rows = 32
    view = ImageView(encoded, 1, 10**9)
    cache = KVCache(config, 4, 16, torch.bfloat16)
    span = Span(0, rows, 0, torch.arange(4), (view,))
    ids = torch.randint(1024, (rows,))
    batch = Batch(ids, torch.arange(rows), (span,), torch.tensor([rows - 1]))
    one = Span(0, 1, rows, torch.arange(4), (view,))
    after = Batch(ids[:1], torch.tensor([rows]), (one,), torch.tensor([0]))

    def run(which: Batch) -> Tensor:
        return model(which, cache)

    run(batch)
    print(f"prompt of {rows} tokens, {DECODER_LAYERS} layers: {seconds(lambda: run(batch)):.2f} s")
    times = [seconds(lambda: run(after)) for _ in range(10)]
    print(f"a token, {DECODER_LAYERS} layers: {statistics.median(times) * 1e3:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description="Llama 3.2 11B Vision shape, random weights")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--whole", action="store_true", help="all 40 layers, and some decoder")
    parser.add_argument("--no-peer", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(native.processors())
    print(f"{native.processors()} threads, native {native.instruction_sets() or native.why_not()}")
    with torch.inference_mode():
        if options.whole:
            whole()
        else:
            one_layer(options.rounds, not options.no_peer)


if __name__ == "__main__":
    main()
