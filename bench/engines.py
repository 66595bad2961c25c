"""Prefill and decode by Puna's engine and by others, taking turns.

    python -m bench.engines [--only 1B-int4 ...] [--rounds 5] [--work "decode, batch 8"]

Each engine is a process of its own that stays for its group of rows; round by round each does the
work once, so that the machine's drift meets all.

Terms. Weights are random, of the true shapes; Puna and llama.cpp read the same GGUF file. Contexts
are 512 tokens, each sequence with memory of its own for them. Puna is its whole engine: scheduling
and greedy sampling are counted, speculation is off. llama.cpp is asked as its own bench programs
ask it: no sampling. It runs without and with mmap (batches only without, no difference was seen),
and its better counts. Beside decode at batch 1 stands a bound: how often the same threads can
read as many bytes as the weights have.

OpenVINO GenAI is asked for batches up to 4 only: it is behind the others there already, and
computing 16 prompts costs it minutes.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import checkpoints, peers
from bench.rows import FILES, HEADER, HERE, PUNA, THREADS, Row, record

BOUND = "reading the weights"
PREFILL = 0  # among batches
MANY = 4, 8, 16


@dataclass(frozen=True)
class Engine:
    """`batches` that it is asked for; `terms`: what it reads, in words."""

    name: str
    terms: str
    command: list[str]
    batches: Sequence[int] = (PREFILL, 1, *MANY)


@dataclass(frozen=True)
class Work:
    title: str
    batch: int
    asked: dict[str, Any]
    target: float | None


def prefill(target: float | None = None, tokens: int = 512) -> Work:
    return Work(f"prefill {tokens}", PREFILL, {"work": "prefill", "tokens": tokens}, target)


def decode(batch: int, target: float | None = None, tokens: int = 16, context: int = 512) -> Work:
    asked = {"work": "decode", "batch": batch, "context": context, "tokens": tokens}
    return Work(f"decode, batch {batch}", batch, asked, target)


def int4(modes: Sequence[str]) -> tuple[list[Engine], list[Work]]:
    file = checkpoints.gguf_checkpoint(FILES, "1B", "Q4_0")
    hf = checkpoints.hf_checkpoint(FILES, "1B")
    openvino, onnx = peers.openvino_model(hf), peers.onnxruntime_model(hf)
    engines = [
        *_on_gguf("Q4_0", file, modes),
        _script(
            "onnxruntime", "int4", peers.PYTHON, f"groups of 32, head int8, {size(onnx)}", onnx
        ),
        _script(
            *("openvino", "int4", peers.OPENVINO),
            f"groups of 32, head int8, KV int8, {size(openvino)}",
            openvino,
            batches=(PREFILL, 1, 4),
        ),
    ]
    return engines, [prefill(3), decode(1, 1.15), decode(4, 2.5), decode(8, 3), decode(16, 3)]


def int8(modes: Sequence[str]) -> tuple[list[Engine], list[Work]]:
    file = checkpoints.gguf_checkpoint(FILES, "1B", "Q8_0")
    other = peers.ctranslate2_model(checkpoints.hf_checkpoint(FILES, "1B"))
    terms = f"a scale a row, {size(other)}"
    engines = [
        *_on_gguf("Q8_0", file, modes),
        _script("ctranslate2", "int8", peers.PYTHON, terms, other, "int8"),
    ]
    return engines, [prefill(3), decode(1, 1.15), decode(4, 2.5), decode(8, 3), decode(16, 3)]


def large(modes: Sequence[str]) -> tuple[list[Engine], list[Work]]:
    file = checkpoints.gguf_checkpoint(FILES, "8B", "Q4_0")
    return _on_gguf("Q4_0", file, modes[:1], sequences=1), [prefill(2.5), decode(1, 1.1, tokens=8)]


def bf16(modes: Sequence[str]) -> tuple[list[Engine], list[Work]]:
    """transformers computes few tokens a second in bfloat16 here, so it is asked for few."""
    hf = checkpoints.hf_checkpoint(FILES, "1B")
    engines = [
        puna(f"bfloat16, {size(hf)}", hf, dtype="bfloat16"),
        _script("transformers", "bfloat16", peers.PYTHON, size(hf), hf, "bfloat16"),
        _script("transformers", "float32", peers.PYTHON, "4.9 GB", hf, "float32"),
    ]
    return engines, [prefill(tokens=128), decode(1, tokens=4, context=64)]


GROUPS = {"1B-int4": int4, "1B-int8": int8, "8B-int4": large, "1B-bf16": bf16}


def size(path: Path) -> str:
    """Of the weights."""
    files = [*path.rglob("*")] if path.is_dir() else [path]
    weights = [f for f in files if "token" not in f.name]
    return f"{sum(file.stat().st_size for file in weights) / 1e6:.0f} MB"


def _on_gguf(
    kind: str, file: Path, modes: Sequence[str], sequences: int = 16, context: int = 768
) -> list[Engine]:
    engines = [puna(f"{kind} file, {size(file)}", file)]
    engines += [
        llama_cpp(kind, file, mode, sequences, context, (PREFILL, 1, *(MANY if not at else ())))
        for at, mode in enumerate(modes)
    ]
    script = str(HERE / "contenders/run_bound.py")
    command = [str(peers.PYTHON), script, str(file.stat().st_size), str(THREADS)]
    return [*engines, Engine(BOUND, "", command, (1,))]


def llama_cpp(
    kind: str,
    file: Path,
    mode: str,
    sequences: int,
    context: int,
    batches: Sequence[int] = (PREFILL, 1, *MANY),
) -> Engine:
    """`sequences` of `context` tokens are what its cache holds."""
    script, program = HERE / "contenders/run_llamacpp.py", peers.LLAMA_CPP / "contender"
    arguments = (script, program, file, mode, THREADS, sequences, context)
    command = [sys.executable, *map(str, arguments)]
    return Engine(f"llama.cpp {kind}, {mode}", "the same file", command, batches)


def puna(terms: str, model: Path, **options: str) -> Engine:
    command = [sys.executable, str(HERE / "contenders/run_puna.py"), str(model)]
    for name, value in options.items():
        command += ["--option", f"{name}={value}"]
    return Engine(PUNA, terms, command)


def _script(
    name: str,
    kind: str,
    python: Path,
    terms: str,
    *arguments: str | Path,
    batches: Sequence[int] = (PREFILL, 1, *MANY),
) -> Engine:
    script = HERE / "contenders" / f"run_{name}.py"
    command = [str(part) for part in (python, script, *arguments, THREADS)]
    return Engine(f"{name} {kind}", terms, command, batches)


class Running:
    def __init__(self, engine: Engine, process: subprocess.Popen[str]) -> None:
        self.engine, self.process = engine, process

    def rate(self, asked: dict[str, Any]) -> float:
        assert self.process.stdin
        self.process.stdin.write(json.dumps(asked) + "\n")
        self.process.stdin.flush()
        return float(self.read()["rate"])

    def read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit(f"{self.engine.name} ended: {' '.join(self.engine.command)}")
        return json.loads(line)


@contextmanager
def running(engine: Engine) -> Iterator[Running]:
    process = subprocess.Popen(
        engine.command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        one = Running(engine, process)
        one.read()
        yield one
    finally:
        assert process.stdin
        process.stdin.close()  # which ends it, and what it started
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def measure(
    group: str, engines: Sequence[Engine], works: Sequence[Work], rounds: int, warmup: int
) -> None:
    with ExitStack() as stack:
        ready = [stack.enter_context(running(engine)) for engine in engines]
        for work in works:
            asked = [one for one in ready if work.batch in one.engine.batches]
            rates: dict[str, list[float]] = {one.engine.name: [] for one in asked}
            for number in range(-warmup, rounds):
                for one in asked:
                    rate = one.rate(work.asked)
                    if number >= 0:
                        rates[one.engine.name].append(rate)
            bound = rates.pop(BOUND, None)
            rows = [Row(group, work.title, rates, target=work.target)]
            if bound:
                both = {PUNA: rates[PUNA], BOUND: bound}
                rows.append(Row(group, f"{work.title}, of the bound", both, target=0.9))
            record(rows)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.engines")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", choices=GROUPS, default=list(GROUPS))
    parser.add_argument("--work", nargs="+", metavar="TITLE", help='as in "decode, batch 8"')
    parser.add_argument("--engines", nargs="+", metavar="NAME", help="a part of their names")
    parser.add_argument("--warmup", type=int, default=1, help="rounds that do not count")
    parser.add_argument("--load-modes", nargs="+", default=["none", "mmap"], help="of llama.cpp")
    options = parser.parse_args()
    peers.install()
    print(HEADER)
    for group in options.only:
        engines, works = GROUPS[group](options.load_modes)
        if options.engines:
            engines = [
                e for e in engines if any(part in e.name for part in (PUNA, *options.engines))
            ]
        for engine in engines:
            print(f"{group}, {engine.name}: {engine.terms}", file=sys.stderr)
        works = [work for work in works if not options.work or work.title in options.work]
        measure(group, engines, works, options.rounds, options.warmup)


if __name__ == "__main__":
    main()
