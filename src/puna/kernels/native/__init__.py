"""The compiled kernels, if this processor has some: found, loaded and called through ctypes.

`library()` gives the one that fits this processor, or None, and `why_not()` says why. What the
functions mean is said by their torch twins next door; how weights and pages lie in memory, by
`formats.h` and `attention.h`. It knows no models.
"""

from __future__ import annotations

import ctypes
import functools
import os
import platform
from contextlib import suppress
from ctypes import c_float, c_int, c_long, c_void_p
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import torch
from torch import Tensor

_FOLDER = Path(__file__).parent
_SIGNATURES: dict[str, tuple[type, ...]] = {
    "puna_threads": (c_int,),
    "puna_linear": (
        *(c_int, *(c_void_p,) * 3, c_long, c_void_p, c_long, c_long),
        *(c_void_p, c_float, c_void_p, c_float, c_void_p),
    ),
    "puna_gated": (
        *(c_void_p, c_void_p, c_long, c_long, c_void_p, c_long, c_long),
        *(c_void_p, c_float, c_void_p),
    ),
    "puna_rows": (c_int, c_void_p, c_long, c_void_p, c_long, c_void_p),
    "puna_rms_norm": (c_void_p, c_void_p, c_float, c_long, c_long, c_void_p),
    "puna_swiglu": (c_void_p, c_void_p, c_long, c_long, c_void_p),
    "puna_rotate": (c_void_p, c_void_p, c_void_p, c_long, c_long, c_long, c_void_p),
    "puna_large_pages": (c_void_p, c_long),
    "puna_store": (c_int, *(c_void_p,) * 5, c_long, c_long, c_long),
    "puna_attention": (
        *(c_void_p, c_int, c_void_p, c_long, c_void_p, c_long),
        *(c_long, c_long, c_long, c_long, c_void_p),
    ),
    "puna_argmax": (c_void_p, c_long, c_long, c_void_p, c_void_p),
    "puna_layers": (
        *(c_void_p, c_long, c_int, c_long, c_float),
        *(c_void_p, c_long, c_void_p, c_void_p, c_void_p, c_void_p),
        *(c_long, c_long, c_void_p),
    ),
}

# Instruction set -> what /proc/cpuinfo calls what it needs. Best first.
_AVX512 = {"avx512f", "avx512bw", "avx512vl", "avx512_vnni", "fma", "f16c"}
_NEEDS = {
    "amx": _AVX512 | {"avx512_bf16", "amx_tile", "amx_int8", "amx_bf16"},
    "avx512bf16": _AVX512 | {"avx512_bf16"},
    "avx512": _AVX512,
    "avx2": {"avx2", "fma", "f16c"},
    "neon": {"asimddp", "asimdhp"},
}


@functools.cache
def processor_flags() -> frozenset[str]:
    """What this processor can do, in the kernel's words; empty where that is not to be had."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return frozenset(_NEEDS["neon"]) if platform.machine() == "arm64" else frozenset()
    flags = (line.partition(":")[2] for line in lines if line.startswith(("flags", "Features")))
    return frozenset(next(flags, "").split())


def instruction_sets() -> list[str]:
    """Those that this processor has and that were compiled, best first."""
    return [
        name
        for name, needs in _NEEDS.items()
        if needs <= processor_flags() and _file_of(name) is not None
    ]


def processors(cgroups: Path = Path("/sys/fs/cgroup")) -> int:
    """How many this process may use: by affinity, and by its container's quota of CPU time (rounded
    up; cgroup v2's `cpu.max`, else v1's `cpu.cfs_quota_us`)."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    with suppress(OSError, ValueError, IndexError, ZeroDivisionError):
        if (cgroups / "cpu.max").exists():
            quota, period = (cgroups / "cpu.max").read_text().split()[:2]
        else:
            quota = (cgroups / "cpu/cpu.cfs_quota_us").read_text()
            period = (cgroups / "cpu/cpu.cfs_period_us").read_text()
        if quota != "max" and int(quota) > 0:
            return max(1, min(allowed, -(-int(quota) // int(period))))
    return allowed


def library(name: str | None = None) -> ctypes.CDLL | None:
    """The kernels for `name`, or for the best instruction set there is. One thread a processor."""
    if name is None:
        return _best()
    opened = _open(name)
    return opened if isinstance(opened, ctypes.CDLL) else None


def why_not() -> str | None:
    """Why `library()` is None, in words for a person."""
    if library() is not None:
        return None
    usable = instruction_sets()
    if usable:
        return str(_open(usable[-1]))
    if any(_file_of(name) for name in _NEEDS):
        return "this processor has none of " + ", ".join(name for name in _NEEDS if _file_of(name))
    return "they were not compiled: install a C++ compiler (g++), then Puna again"


def for_tensors(*tensors: Tensor) -> ctypes.CDLL | None:
    """`library()`, where it can take these: fp32 on the CPU, and nobody asks for gradients."""
    if torch.is_grad_enabled() or any(t.dtype != torch.float32 or not t.is_cpu for t in tensors):
        return None
    return library()


@functools.cache
def chosen() -> str | None:
    """The instruction set of `library()`: the best that the system lets this process use."""
    found = (name for name in instruction_sets() if library(name) is not None)
    return next(found, None)


@functools.cache
def _best() -> ctypes.CDLL | None:
    """Kept, because every call of a kernel asks for it."""
    name = chosen()
    return library(name) if name else None


@functools.cache
def _open(name: str) -> ctypes.CDLL | str:
    """The kernels with their threads, or why they cannot be had."""
    file = _file_of(name)
    if file is None:
        return f"there are no kernels for {name}"
    try:
        loaded = ctypes.CDLL(str(file))
        if not loaded.puna_usable():
            return f"the system does not let programs use this processor's {name}"
        for function, types in _SIGNATURES.items():
            getattr(loaded, function).argtypes = types
            getattr(loaded, function).restype = None
    except (OSError, AttributeError) as error:
        return f"{file.name} does not belong to this Puna ({error}): install Puna again"

    def start_threads() -> None:
        loaded.puna_threads(processors())

    start_threads()
    os.register_at_fork(after_in_child=start_threads)  # threads do not come along
    return loaded


def _file_of(name: str) -> Path | None:
    for suffix in EXTENSION_SUFFIXES:
        file = _FOLDER / f"_{name}{suffix}"
        if file.exists():
            return file
    return None
