"""What other engines need to run here: installed once, into a folder that git ignores.

    python -m bench.peers        (about 20 minutes on two cores, and 6 GB)

llama.cpp is built from the source that llama-cpp-python's sdist carries, for this processor. The
others come as packages, each in an environment of its own where they disagree about versions.
`PUNA_BENCH_PEERS` names another folder.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

FOLDER = Path(os.environ.get("PUNA_BENCH_PEERS", Path(__file__).parent / ".peers"))
LLAMA_CPP = FOLDER / "llama.cpp" / "bin"
# The library of its kernels without AMX, which is faster where rows are few.
LLAMA_CPP_WITHOUT_AMX = FOLDER / "llama.cpp-without-amx" / "bin"
PYTHON = FOLDER / "venv" / "bin" / "python"  # transformers, CTranslate2, ONNX Runtime
PEAK = FOLDER / "peak"  # no engine, but as little committed
OPENVINO = FOLDER / "openvino" / "bin" / "python"
LOG = FOLDER / "log.txt"
TORCH = "torch==2.13.0"


def install() -> None:
    """All of them; of one that fails it is said, and the others are gone on with."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    for step in (_packages, _llama_cpp, _without_amx, _contender, _peak, _openvino):
        try:
            step()
        except (OSError, subprocess.CalledProcessError) as error:
            print(
                f"peers: {step.__name__[1:]} failed, and is left out, see {LOG}: {error}",
                flush=True,
            )


def without_amx() -> list[str]:
    """What to put before a command of llama.cpp's so that it goes without AMX; nothing if that
    changes nothing here."""
    there = (LLAMA_CPP_WITHOUT_AMX / "libggml-cpu.so").exists()
    return ["env", f"LD_LIBRARY_PATH={LLAMA_CPP_WITHOUT_AMX.resolve()}"] if there else []


def made(convert: Callable[[Path], Path], hf: Path) -> Path | None:
    """What `convert` makes of the checkpoint; None, which is said, if it fails."""
    try:
        return convert(hf)
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"peers: {convert.__name__} failed, and is left out, see {LOG}: {error}", flush=True)
        return None


def ctranslate2_model(hf: Path) -> Path:
    """int8 with one scale a row, as its converter does it."""
    path = hf.with_name(hf.name.replace("-hf", "-ct2-int8"))
    if not (path / "model.bin").exists():
        print(f"{path.name} is converted; about 3 minutes", flush=True)
        converter = str(PYTHON.with_name("ct2-transformers-converter"))
        _run(converter, "--model", hf, "--output_dir", path, "--quantization", "int8", "--force")
    return path


def openvino_model(hf: Path) -> Path:
    """int4 in groups of 32, symmetric, as Q4_0 is; the head stays in 8 bits, as it does it."""
    path = hf.with_name(hf.name.replace("-hf", "-openvino-int4"))
    if not (path / "openvino_model.bin").exists():
        print(f"{path.name} is converted; about 6 minutes", flush=True)
        _run(
            *(OPENVINO.with_name("optimum-cli"), "export", "openvino", "--model", hf),
            *("--task", "text-generation-with-past", "--weight-format", "int4", "--sym"),
            *("--group-size", "32", "--ratio", "1.0", path),
        )
    return path


def onnxruntime_model(hf: Path) -> Path:
    """int4 in groups of 32, symmetric, activations in int8; the head in 8 bits."""
    path = hf.with_name(hf.name.replace("-hf", "-onnx-int4"))
    if not (path / "genai_config.json").exists():
        print(f"{path.name} is converted; about 3 minutes", flush=True)
        _run(
            *(PYTHON, "-m", "onnxruntime_genai.models.builder", "-i", hf, "-o", path),
            *("-p", "int4", "-e", "cpu", "-c", path.with_suffix(".cache"), "--extra_options"),
            *("block_size=32", "accuracy_level=4", "algo_config=rtn", "prune_lm_head=true"),
            *("matmul_mixed_precision=last_matmul:int8", "hf_token=false"),
        )
    return path


def _packages() -> None:
    if not PYTHON.exists():
        print("peers: transformers, CTranslate2, ONNX Runtime; about 5 minutes", flush=True)
        wanted = "transformers>=5", "ctranslate2", "onnxruntime-genai", "onnx", "onnx-ir"
        _environment(PYTHON, TORCH, *wanted)


def _openvino() -> None:
    if not OPENVINO.exists():
        print("peers: OpenVINO; about 5 minutes", flush=True)
        wanted = "transformers>=4.51,<5.6", "openvino-genai", "nncf", "requests", "setuptools"
        _environment(OPENVINO, TORCH, *wanted)
        # its declared wants (torchvision, an old hub) are not needed for what is asked of it here
        _pip(OPENVINO, "--no-deps", "optimum", "optimum-intel")


def _llama_cpp() -> None:
    if (LLAMA_CPP / "llama-server").exists():
        return
    print("peers: llama.cpp is built; about 10 minutes", flush=True)
    _pip(PYTHON, "cmake", "ninja")
    _run(PYTHON, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", "llama-cpp-python",
         "-d", FOLDER, "llama-cpp-python")  # fmt: skip
    (archive,) = FOLDER.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(FOLDER / "source", filter="data")
    _build(LLAMA_CPP.parent, ["-DGGML_NATIVE=ON"], "llama-bench", "llama-server")


def _without_amx() -> None:
    if "amx_tile" not in Path("/proc/cpuinfo").read_text():
        return
    if (LLAMA_CPP_WITHOUT_AMX / "libggml-cpu.so").exists():
        return
    print("peers: llama.cpp's kernels once more, without AMX; about 3 minutes", flush=True)
    has = ("SSE42", "AVX", "AVX2", "BMI2", "FMA", "F16C", "AVX512", "AVX512_VBMI", "AVX512_VNNI",
           "AVX512_BF16")  # fmt: skip
    options = ["-DGGML_NATIVE=OFF", *(f"-DGGML_{each}=ON" for each in has)]
    _build(LLAMA_CPP_WITHOUT_AMX.parent, options, "ggml-cpu")


def _build(folder: Path, options: list[str], *targets: str) -> None:
    (source,) = (FOLDER / "source").glob("*/vendor/llama.cpp")
    cmake, ninja = PYTHON.with_name("cmake"), PYTHON.with_name("ninja")
    mended = _program("tile_config.h").resolve()
    _run(cmake, "-S", source, "-B", folder, "-G", "Ninja",
         f"-DCMAKE_MAKE_PROGRAM={ninja}", "-DCMAKE_BUILD_TYPE=Release",
         f"-DCMAKE_CXX_FLAGS=-include {mended}", *options,
         "-DLLAMA_CURL=OFF", "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF")  # fmt: skip
    _run(ninja, "-C", folder, *targets)


def _contender() -> None:
    program, built = _program("llamacpp.cpp"), LLAMA_CPP / "contender"
    if not _older(built, program):
        return
    home = next(
        line.partition("=")[2]
        for line in (LLAMA_CPP.parent / "CMakeCache.txt").read_text().splitlines()
        if line.startswith("CMAKE_HOME_DIRECTORY")
    )
    includes = [f"-I{home}/{folder}" for folder in ("include", "common", "ggml/include", "vendor")]
    libraries = ("-lllama-common", "-lllama", "-lggml", "-lggml-base")
    where = (f"-L{LLAMA_CPP}", f"-Wl,-rpath,{LLAMA_CPP.resolve()}")
    _run("g++", "-O2", "-std=c++17", "-o", built, program, *includes, *where, *libraries)


def _peak() -> None:
    program = _program("peak.cpp")
    if _older(PEAK, program):
        _run("g++", "-O2", "-std=c++17", "-march=native", "-pthread", "-o", PEAK, program)


def _program(name: str) -> Path:
    return Path(__file__).parent / "contenders" / name


def _older(built: Path, source: Path) -> bool:
    return not built.exists() or built.stat().st_mtime < source.stat().st_mtime


def _environment(python: Path, *packages: str) -> None:
    try:
        _run(sys.executable, "-m", "venv", python.parents[1])
        _pip(python, packages[0])
        _pip(python, *packages)
    except subprocess.CalledProcessError:
        shutil.rmtree(python.parents[1])  # or it would pass for a whole one
        raise


def _pip(python: Path, *arguments: str) -> None:
    _run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments)


def _run(*command: str | Path) -> None:
    """What it prints goes to a file. Raises OSError or CalledProcessError."""
    with LOG.open("a") as log:
        words = [str(part) for part in command]
        subprocess.run(words, check=True, stdout=log, stderr=subprocess.STDOUT)


if __name__ == "__main__":
    install()
