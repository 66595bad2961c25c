"""Where a checkpoint goes and in what form: device, dtype, packing, memory; before it is loaded.

It knows the settings and this machine. It loads nothing and answers nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from puna.engine.memory import SHARE, MemoryPlan, free_memory, gigabytes, plan_memory
from puna.errors import ModelTooLarge, StartupError
from puna.kernels import native
from puna.llama.cache import KVCache
from puna.llama.packing import Packing, packed_bytes
from puna.llama.weights import Checkpoint
from puna.settings import Settings

# Below this many bytes in float32 a model is quick in any dtype, and best exact.
SMALL = 2**30


@dataclass(frozen=True, slots=True)
class Form:
    """How weights are computed with: `dtype`, or packed; and their cache's dtype."""

    dtype: torch.dtype
    cache_dtype: torch.dtype
    packing: Packing | None


@dataclass(frozen=True, slots=True)
class Placement:
    """`dtype` of what is computed, `cache_dtype` of keys and values; `packing` of the weights, None
    for `dtype` as it is. `weights`: what they are kept in, in words."""

    device: str
    dtype: torch.dtype
    cache_dtype: torch.dtype
    packing: Packing | None
    weights: str
    memory: MemoryPlan
    draft: Form | None = None


def place(checkpoint: Checkpoint, settings: Settings, draft: Checkpoint | None = None) -> Placement:
    """As `settings` say, or for the best; beside it a model that drafts, whose pages have the same
    numbers. Raises `ModelTooLarge` and `StartupError`."""
    device = _device(settings)
    free = free_memory(device)
    dtype = _dtype(checkpoint, settings, device, free)
    packing = _packing(checkpoint, settings, device, dtype)
    image_dtype = torch.bfloat16 if packing else dtype
    cache_dtype = _cache_dtype(settings, device, image_dtype)

    drafting, draft_weights, draft_token = _beside(draft, settings, device, free)

    def plan(weight_bytes: int) -> MemoryPlan:
        return plan_memory(
            checkpoint.config,
            weight_bytes=weight_bytes + draft_weights,
            beside_token_bytes=draft_token,
            itemsize=image_dtype.itemsize,
            token_bytes=KVCache.bytes_per_page(checkpoint.config, 1, cache_dtype),
            free_bytes=free,
            page_size=settings.page_size,
            max_sequences=settings.max_sequences,
            kv_memory=settings.kv_memory,
            max_context=settings.max_context,
            share=SHARE[device],
        )

    weight_bytes = _weight_bytes(checkpoint, dtype, packing)
    try:
        memory = plan(weight_bytes)
    except ModelTooLarge as error:
        smaller = packed_bytes(checkpoint.config, "int4")
        if device != "cpu" or smaller >= weight_bytes or not _fits(plan, smaller):
            raise
        raise ModelTooLarge(
            f"{error}; this model would with --quantize int4 ({gigabytes(smaller)} of weights)"
        ) from None
    words = _words(checkpoint, dtype, packing)
    return Placement(device, dtype, cache_dtype, packing, words, memory, drafting)


def _beside(
    draft: Checkpoint | None, settings: Settings, device: str, free: int
) -> tuple[Form | None, int, int]:
    """How a drafting model is computed, what its weights take, and what a token of its cache."""
    if draft is None:
        return None, 0, 0
    dtype = _dtype(draft, settings, device, free)
    packing = _packing(draft, settings, device, dtype)
    form = Form(
        dtype, _cache_dtype(settings, device, torch.bfloat16 if packing else dtype), packing
    )
    token = KVCache.bytes_per_page(draft.config, 1, form.cache_dtype)
    return form, _weight_bytes(draft, dtype, packing), token


def _device(settings: Settings) -> str:
    available = torch.cuda.is_available()
    if settings.device == "cuda" and not available:
        raise StartupError("device is cuda, and this machine has none that torch can use: use cpu")
    if settings.device == "auto":
        return "cuda" if available else "cpu"
    return settings.device


def _dtype(checkpoint: Checkpoint, settings: Settings, device: str, free: int) -> torch.dtype:
    """As asked for. Left to us: on a GPU as stored; on a CPU float32 for small models, and where
    the processor is slow in bfloat16 and there is room, else bfloat16."""
    if settings.dtype != "auto":
        return {
            "float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16,
        }[settings.dtype]  # fmt: skip
    if device != "cpu":
        return checkpoint.stored_dtype
    exact = checkpoint.weight_bytes(torch.float32)
    wide = torch.backends.cpu.get_cpu_capability().startswith("AVX512")
    quick = wide or native.library() is not None
    if exact <= SMALL or (exact <= free / 2 and not quick):
        return torch.float32
    return torch.bfloat16


def _cache_dtype(settings: Settings, device: str, usual: torch.dtype) -> torch.dtype:
    """Of keys and values of tokens; those of images are always `usual`."""
    if settings.kv_dtype == "auto":
        return usual
    if settings.kv_dtype != "int8":
        return {"float32": torch.float32, "bfloat16": torch.bfloat16}[settings.kv_dtype]
    if device != "cpu":
        raise StartupError(
            f"kv_dtype is int8, which works on the CPU alone so far, and the device is {device}: "
            "use --device cpu, or --kv auto"
        )
    if settings.page_size % 2:
        raise StartupError(
            f"kv_dtype is int8, where tokens lie in pairs, and page_size is {settings.page_size}: "
            "use an even one"
        )
    return torch.int8


def _packing(
    checkpoint: Checkpoint, settings: Settings, device: str, dtype: torch.dtype
) -> Packing | None:
    """How the weights are packed: as asked for; left to us, on a CPU with native kernels, as the
    files have them, or bfloat16 ones."""
    if settings.quantize in ("int8", "int4"):
        if device != "cpu":
            raise StartupError(
                f"quantize is {settings.quantize}, which works on the CPU alone so far, and the "
                f"device is {device}: use --device cpu, or --quantize none"
            )
        return settings.quantize
    if device != "cpu" or native.library() is None:
        return None
    if settings.quantize == "auto" and settings.dtype == "auto" and checkpoint.quantized:
        return "stored"
    return "bf16" if dtype == torch.bfloat16 else None


def _fits(plan: Callable[[int], MemoryPlan], weight_bytes: int) -> bool:
    try:
        plan(weight_bytes)
    except ModelTooLarge:
        return False
    return True


def _weight_bytes(checkpoint: Checkpoint, dtype: torch.dtype, packing: Packing | None) -> int:
    if packing is None:
        return checkpoint.weight_bytes(dtype)
    return packed_bytes(checkpoint.config, packing, checkpoint.stored_format)


def _words(checkpoint: Checkpoint, dtype: torch.dtype, packing: Packing | None) -> str:
    if packing == "stored" and checkpoint.quantized:
        return checkpoint.quantized
    return packing if packing in ("int8", "int4") else str(dtype).removeprefix("torch.")
