"""How memory is divided before anything is loaded: weights, pages of keys and values, images.

`plan_memory` is arithmetic on a config and a number of free bytes; `free_memory` asks the machine
for that number. It knows no checkpoint files and loads nothing.
"""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from puna.errors import ModelTooLarge
from puna.llama.catalog import footprint, would_fit
from puna.llama.config import LlamaConfig

# Of what is free beside the weights; the rest is for activations and for other programs.
SHARE = {"cpu": 0.5, "cuda": 0.9}
SHORTEST_CONTEXT = 512  # tokens; with less than that a chat model is of no use
USUAL_LENGTH = 4096  # tokens; what most conversations stay below
IMAGE_SHARE = 0.25  # of the KV memory of a vision model, for cross-attention keys and values
ENOUGH_IMAGES = 16  # more are not set aside on our own account


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """`context` tokens for one sequence; `num_pages` of `page_bytes` each; `image_bytes` for
    encoded images, `bytes_per_tile` each."""

    context: int
    num_pages: int
    page_size: int
    page_bytes: int
    image_bytes: int
    bytes_per_tile: int
    weight_bytes: int

    @property
    def kv_bytes(self) -> int:
        return self.num_pages * self.page_bytes + self.image_bytes

    @property
    def kv_tokens(self) -> int:
        """Tokens of all sequences together that the pages hold."""
        return self.num_pages * self.page_size


def plan_memory(
    config: LlamaConfig,
    *,
    weight_bytes: int,
    itemsize: int,
    token_bytes: int | None = None,
    free_bytes: int,
    page_size: int,
    max_sequences: int,
    kv_memory: int | None = None,
    max_context: int | None = None,
    beside_token_bytes: int = 0,
    share: float = SHARE["cpu"],
) -> MemoryPlan:
    """Divides `free_bytes`. `itemsize`: bytes of a cached number; `token_bytes`: of all that one
    token adds to the cache, where that is not so many numbers of that size (the cache is int8);
    `beside_token_bytes`: what a token takes in another model's cache with the same pages.

    `kv_memory` (bytes) and `max_context` (tokens) are the user's wishes: honoured or refused.
    Without them the KV memory is `share` of what is free beside the weights, but no more than one
    full context and `max_sequences` conversations of usual length take; and the context is as long
    as the model's, or as fits.

    Raises `ModelTooLarge`, saying what is needed, what there is and what would fit.
    """
    left = free_bytes - weight_bytes
    if left < 0:
        raise ModelTooLarge(
            f"the weights take {gigabytes(weight_bytes)}, but only {gigabytes(free_bytes)} of "
            f"memory are free: {_what_fits(free_bytes, share)}"
        )
    if kv_memory is not None and kv_memory > left:
        raise ModelTooLarge(
            f"a KV memory of {gigabytes(kv_memory)} beside weights of {gigabytes(weight_bytes)} is "
            f"more than the {gigabytes(free_bytes)} of memory that are free: at most "
            f"{gigabytes(left)} would fit"
        )
    longest = min(max_context or config.max_position_embeddings, config.max_position_embeddings)
    shortest = longest if max_context else min(longest, SHORTEST_CONTEXT)
    sizes = footprint(config, kv_element_size=itemsize)
    page_bytes = ((token_bytes or sizes.token) + beside_token_bytes) * page_size
    image = sizes.image
    tile = image // config.vision.max_num_tiles if config.vision else 0

    budget = kv_memory
    if budget is None:
        useful = longest + max_sequences * min(longest, USUAL_LENGTH)
        useful_bytes = _pages(useful, page_size) * page_bytes + ENOUGH_IMAGES * image
        budget = min(int(left * share), useful_bytes)
    images = min(max(image, int(budget * IMAGE_SHARE)), ENOUGH_IMAGES * image)
    num_pages = max(0, budget - images) // page_bytes
    context = min(longest, num_pages * page_size)
    if context < shortest:
        needed = _pages(shortest, page_size) * page_bytes + image
        raise ModelTooLarge(
            f"a context of {shortest} tokens takes {gigabytes(needed)} of KV memory beside weights "
            f"of {gigabytes(weight_bytes)}, but only {gigabytes(budget)} of the "
            f"{gigabytes(free_bytes)} that are free can be had for it: "
            + (
                f"a context of {context} tokens would fit"
                if context
                else _what_fits(free_bytes, share)
            )
        )
    return MemoryPlan(context, num_pages, page_size, page_bytes, images, tile, weight_bytes)


def gigabytes(count: int) -> str:
    """Bytes for people: 10^9 are one GB."""
    return f"{count / 1e9:.1f} GB" if count >= 1e8 else f"{count / 1e6:.1f} MB"


def free_memory(device: str) -> int:
    """Bytes that this process could still take on `device` ("cpu" or "cuda"), about."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(device)[0]
    return min(_machine_memory(), _group_memory())


def _machine_memory() -> int:
    try:
        for line in Path("/proc/meminfo").read_text().splitlines():
            name, value, *_ = line.split()
            if name == "MemAvailable:":
                return int(value) * 1024
    except OSError:
        pass
    # no Linux: what is built in, for want of what is free
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")


def _group_memory() -> int:
    """What the control group that a container runs in still allows."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text().strip()
        if limit == "max":
            return sys.maxsize
        used = int((group / "memory.current").read_text())
        # the group is charged for cached files, too, which make way
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        return max(0, int(limit) - used + int(stat.get("inactive_file", 0)))
    except (OSError, ValueError):
        return sys.maxsize


def _what_fits(free_bytes: int, share: float) -> str:
    for model in would_fit(free_bytes, tokens=SHORTEST_CONTEXT):
        if model.config is not None:
            needs = footprint(model.config)
            beside = SHORTEST_CONTEXT * needs.token + needs.image
            if needs.weights + beside / share <= free_bytes:
                return f"{model.name} in bfloat16 would fit"
    return "not even the smallest Llama would fit"


def _pages(tokens: int, page_size: int) -> int:
    return -(-tokens // page_size)
