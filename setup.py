"""The native kernels: one source, compiled once for each instruction set that it may meet.

`puna.kernels.native` picks at run time. Each is optional: without a C++ compiler Puna installs all
the same, computes with torch, and says so at start.
"""

import platform
from pathlib import Path

from setuptools import Extension, setup

# Python itself is compiled with -fwrapv, which would cost the kernels a quarter of their speed.
FLAGS = [
    "-std=c++17", "-O3", "-fno-wrapv", "-fno-math-errno", "-fno-trapping-math",
    "-fvisibility=hidden",
]  # fmt: skip
AVX512 = [
    "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mavx2", "-mfma", "-mf16c",
]  # fmt: skip
TARGETS = {
    "x86_64": {
        "avx2": ["-mavx2", "-mfma", "-mf16c"],
        "avx512": AVX512,
        "avx512bf16": [*AVX512, "-mavx512bf16"],
        "amx": [*AVX512, "-mavx512bf16", "-mamx-tile", "-mamx-int8", "-mamx-bf16"],
    },
    "aarch64": {"neon": ["-march=armv8.2-a+fp16+dotprod"]},
    "arm64": {"neon": []},
}  # fmt: skip

FOLDER = "src/puna/kernels/native"

setup(
    ext_modules=[
        Extension(
            f"puna.kernels.native._{name}",
            [f"{FOLDER}/kernels.cpp"],
            depends=[str(header) for header in sorted(Path(FOLDER).glob("*.h"))],
            extra_compile_args=[*FLAGS, *flags],
            extra_link_args=["-pthread"],
            language="c++",
            optional=True,
        )
        for name, flags in TARGETS.get(platform.machine(), {}).items()
    ]
)
