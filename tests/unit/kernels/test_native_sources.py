"""The native kernels' C++, compiled apart from the package for each instruction set and driven on
random odd shapes by tests/native/kernels_test.cpp, which knows what they must give.

What this processor cannot run is emulated: AVX-512 by SIMDe, NEON by qemu. A program is built once
for each state of its sources.
"""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest

from puna.kernels import native

ROOT = Path(__file__).parents[3]
SOURCE = ROOT / "tests/native/kernels_test.cpp"
SOURCES = [*SOURCE.parent.iterdir(), *(ROOT / "src/puna/kernels/native").glob("*.[ch]*")]
FLAGS = ["-std=c++17", "-g1", "-fno-math-errno", "-fno-trapping-math", "-pthread"]
AVX2 = ["-mavx2", "-mfma", "-mf16c"]
MEMORY = [
    "-fsanitize=address,undefined,float-cast-overflow",
    "-fno-sanitize-recover=all",
]
SIMDE = ["-include", str(SOURCE.parent / "avx512_by_simde.h")]
AMX_BY_LOOPS = ["-include", str(SOURCE.parent / "amx_emulated.h")]
AMX = [
    *AVX2, "-mavx512f", "-mavx512bw", "-mavx512vl", "-mavx512vnni", "-mavx512bf16", "-mamx-tile",
    "-mamx-int8", "-mamx-bf16",
]  # fmt: skip
ARM = ["-O1", "-march=armv8.2-a+fp16+dotprod", "-static"]
HAS_AVX2 = native.processor_flags() >= {"avx2", "fma", "f16c"}
HAS_AMX = "amx" in native.instruction_sets()


@pytest.mark.parametrize(
    ("compiler", "flags", "runner", "rounds"),
    [
        pytest.param("g++", [*AVX2, *MEMORY], [], 10, id="avx2, memory"),
        pytest.param("g++", [*AVX2, "-fsanitize=thread"], [], 2, id="avx2, threads"),
        pytest.param("g++", MEMORY, [], 5, id="plain, memory"),
        pytest.param("g++", [*AVX2, *SIMDE, "-Wno-psabi"], [], 5, id="avx512 by SIMDe"),
        pytest.param(
            "g++", [*AVX2, *SIMDE, "-DWITH_BF16", "-Wno-psabi"], [], 3, id="avx512 bf16 by SIMDe"
        ),
        pytest.param(
            "g++",
            [*AVX2, *SIMDE, "-DWITH_BF16", *AMX_BY_LOOPS, "-Wno-psabi"],
            [],
            3,
            id="amx by loops",
        ),
        pytest.param("g++", [*AMX, *MEMORY], [], 5, id="amx, memory"),
        pytest.param("aarch64-linux-gnu-g++", ARM, ["qemu-aarch64"], 3, id="neon under qemu"),
    ],
)
def test_the_kernels_give_what_naive_loops_give_and_touch_nothing_else(
    compiler: str, flags: list[str], runner: list[str], rounds: int, request: pytest.FixtureRequest
) -> None:
    for program in (compiler, *runner):
        if shutil.which(program) is None:
            pytest.skip(f"there is no {program} here")
    if set(AVX2) <= set(flags) and not HAS_AVX2:
        pytest.skip("this processor has no AVX2")
    if set(AMX) <= set(flags) and not HAS_AMX:
        pytest.skip("this processor has no AMX")
    command = [compiler, *FLAGS, *flags, str(SOURCE)]
    program = built(command, request.config.cache.mkdir("native"))
    run = subprocess.run(
        [*runner, program, str(rounds)], capture_output=True, text=True, timeout=300
    )
    assert run.returncode == 0, run.stderr


def built(command: list[str], folder: Path) -> Path:
    """The program that `command` gives; skips where headers or sanitizers are not installed."""
    digest = hashlib.sha256(repr(command).encode())
    for source in sorted(SOURCES):
        digest.update(source.read_bytes())
    program = folder / digest.hexdigest()[:16]
    if not program.exists():
        fresh = program.with_suffix(".new")
        made = subprocess.run([*command, "-o", fresh], capture_output=True, text=True, timeout=600)
        if "cannot find -l" in made.stderr or "cannot find /usr" in made.stderr:
            pytest.skip("the sanitizers' libraries are not installed")
        if "simde/x86/avx512.h: No such file" in made.stderr:
            pytest.skip("SIMDe is not installed (Debian: libsimde-dev)")
        assert made.returncode == 0, made.stderr
        fresh.rename(program)
    return program
