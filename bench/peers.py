"""What other engines need to run here: installed once, into a folder that git ignores.

    python -m bench.peers        (about 20 minutes on two cores, and 6 GB)

llama.cpp is built from the source that llama-cpp-python's sdist carries, for this processor. The
others come as packages, each in an environment of its own where they disagree about versions.
`PUNA_BENCH_PEERS` names another folder.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from pathlib import Path

FOLDER = Path(os.environ.get("PUNA_BENCH_PEERS", Path(__file__).parent / ".peers"))
LLAMA_CPP = FOLDER / "llama.cpp" / "bin"
PYTHON = FOLDER / "venv" / "bin" / "python"  # transformers, CTranslate2, ONNX Runtime
OPENVINO = FOLDER / "openvino" / "bin" / "python"
TORCH = "torch==2.13.0"


def install() -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not PYTHON.exists():
        _environment(PYTHON, TORCH, "transformers>=5", "ctranslate2", "onnxruntime-genai")
    if not (LLAMA_CPP / "llama-server").exists():
        _llama_cpp()
    program = Path(__file__).parent / "contenders" / "llamacpp.cpp"
    built = LLAMA_CPP / "contender"
    if not built.exists() or built.stat().st_mtime < program.stat().st_mtime:
        _contender(program, built)
    if not OPENVINO.exists():
        _environment(
            OPENVINO, TORCH, "transformers>=4.51,<5.6", "openvino-genai", "nncf", "requests"
        )
        # its declared wants (torchvision, an old hub) are not needed for what is asked of it here
        _pip(OPENVINO, "--no-deps", "optimum", "optimum-intel")


def ctranslate2_model(hf: Path) -> Path:
    path = hf.with_name(hf.name.replace("-hf", "-ct2-int8"))
    if not (path / "model.bin").exists():
        converter = str(PYTHON.with_name("ct2-transformers-converter"))
        _run(converter, "--model", hf, "--output_dir", path, "--quantization", "int8", "--force")
    return path


def openvino_model(hf: Path) -> Path:
    """int4 in groups of 32, symmetric, as Q4_0 is; the head stays in 8 bits, as it does it."""
    path = hf.with_name(hf.name.replace("-hf", "-openvino-int4"))
    if not (path / "openvino_model.bin").exists():
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
        _run(
            *(PYTHON, "-m", "onnxruntime_genai.models.builder", "-i", hf, "-o", path),
            *("-p", "int4", "-e", "cpu", "-c", path.with_suffix(".cache"), "--extra_options"),
            *("block_size=32", "accuracy_level=4", "algo_config=rtn", "prune_lm_head=true"),
            *("matmul_mixed_precision=last_matmul:int8", "hf_token=false"),
        )
    return path


def _contender(program: Path, built: Path) -> None:
    home = next(
        line.partition("=")[2]
        for line in (LLAMA_CPP.parent / "CMakeCache.txt").read_text().splitlines()
        if line.startswith("CMAKE_HOME_DIRECTORY")
    )
    includes = [f"-I{home}/{folder}" for folder in ("include", "common", "ggml/include", "vendor")]
    libraries = ("-lllama-common", "-lllama", "-lggml", "-lggml-base")
    where = (f"-L{LLAMA_CPP}", f"-Wl,-rpath,{LLAMA_CPP.resolve()}")
    _run("g++", "-O2", "-std=c++17", "-o", built, program, *includes, *where, *libraries)


def _llama_cpp() -> None:
    _pip(PYTHON, "cmake", "ninja")
    _run(PYTHON, "-m", "pip", "download", "-q", "--no-deps", "--no-binary", ":all:",
         "--no-build-isolation", "-d", FOLDER, "llama-cpp-python")  # fmt: skip
    (archive,) = FOLDER.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(FOLDER / "source", filter="data")
    (source,) = (FOLDER / "source").glob("*/vendor/llama.cpp")
    build = LLAMA_CPP.parent
    cmake, ninja = PYTHON.with_name("cmake"), PYTHON.with_name("ninja")
    _run(cmake, "-S", source, "-B", build, "-G", "Ninja", f"-DCMAKE_MAKE_PROGRAM={ninja}",
         "-DCMAKE_BUILD_TYPE=Release", "-DGGML_NATIVE=ON", "-DLLAMA_CURL=OFF",
         "-DLLAMA_BUILD_TESTS=OFF", "-DLLAMA_BUILD_EXAMPLES=OFF")  # fmt: skip
    _run(ninja, "-C", build, "llama-bench", "llama-server")


def _environment(python: Path, *packages: str) -> None:
    _run(sys.executable, "-m", "venv", python.parents[1])
    _pip(python, packages[0])
    _pip(python, *packages)


def _pip(python: Path, *arguments: str) -> None:
    _run(python, "-m", "pip", "install", "-q", "--disable-pip-version-check", *arguments)


def _run(*command: str | Path) -> None:
    subprocess.run([str(part) for part in command], check=True)


if __name__ == "__main__":
    install()
