"""The random model, mostly of Llama 3.2 1B's shape, that several benches run: Q4_0 as llama.cpp
lays it out (head in Q6_K), loaded as `puna serve` loads it. The file is made if it is not there."""

from __future__ import annotations

import torch

from bench.checkpoints import gguf_checkpoint
from bench.rows import FILES
from puna.kernels import native
from puna.llama.load import load_llama
from puna.llama.model import Llama
from puna.llama.weights import Checkpoint, open_checkpoint
from puna.local.placement import place
from puna.settings import Settings


def checkpoint(shape: str = "1B") -> Checkpoint:
    return open_checkpoint(gguf_checkpoint(FILES, shape, "Q4_0"))


def loaded(threads: int, shape: str = "1B") -> tuple[Llama, Checkpoint]:
    use_threads(threads)
    source = checkpoint(shape)
    placement = place(source, Settings(max_context=8192))
    return load_llama(source, "cpu", placement.dtype, placement.packing), source


def use_threads(threads: int) -> None:
    torch.set_num_threads(threads)
    kernels = native.library()
    if kernels is not None:
        kernels.puna_threads(threads)


def terms(threads: int, shape: str = "1B") -> str:
    return (
        f"Llama's {shape} shape, random weights, Q4_0 with a Q6_K head, {threads} threads, native "
        f"{native.instruction_sets() or native.why_not()}"
    )
