"""Prefill and decode by Puna's engine and by others, taking turns.

    python -m bench.engines [--only 1B-int4 ...] [--rounds 5] [--work "decode, batch 8"]

Each engine is a process of its own that stays for its group of rows; round by round each does the
work once, so that the machine's drift meets all. One that cannot be made, started or asked is left
out, which is said.

Terms. Weights are random, of the true shapes; Puna and llama.cpp read the same GGUF file. Contexts
are 512 tokens, each sequence with memory of its own for them. Puna is its whole engine: scheduling
and greedy sampling are counted, speculation is off. llama.cpp is asked as its own bench programs
ask it: no sampling. In int4 it runs without and with mmap at prefill and batch 1, and its better
counts; elsewhere only without, for it packs these weights anew either way and no difference was
seen. On a processor with AMX it runs once more with kernels that leave AMX out, which are faster
where rows are few. Beside decode at batch 1 stands a bound: how often the same threads can read as
many bytes as the weights have. Beside prefill in int4 others: what of it the arithmetic takes at
the peak that this processor reaches in registers (`contenders/peak.cpp`), in vectors and, with AMX,
in tiles.

Not all are asked for all. OpenVINO GenAI is behind the others at batch 1, and computing the prompts
of a batch takes it and ONNX Runtime minutes: so the one stays out of batches, the other of those
above 4. CTranslate2 at batch 8 had a third of llama.cpp's speed: it stays out of batches. 8B is
asked of llama.cpp alone, of which there is no copy for the others.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench import checkpoints, peers
from bench.rows import FILES, HEADER, HERE, PUNA, THREADS, Row, record
from puna.llama.shapes import tensor_shapes

BOUND = "reading the weights"
PEAK, TILES = "multiplying in registers", "multiplying in tiles"
WITHOUT_AMX = "without AMX"
BOUNDS = {
    BOUND: ("the bound", 0.9),
    PEAK: ("the peak of integers in vectors", 0.8),
    TILES: ("the peak of integers in tiles", None),
}  # what each is called in the table, and the target
PREFILL = 0  # among batches
MANY = 4, 8, 16
FEW = PREFILL, 1


@dataclass(frozen=True)
class Engine:
    """`batches` that it is asked for; `terms`: what it reads, in words."""

    name: str
    terms: str
    command: list[str]
    batches: Sequence[int] = (*FEW, *MANY)


@dataclass(frozen=True)
class Work:
    title: str
    batch: int
    asked: dict[str, Any]
    target: float | None
    warmup: dict[str, Any] | None = None  # what the rounds that do not count do, if not the same


def prefill(target: float | None = None, tokens: int = 512) -> Work:
    asked = {"work": "prefill", "tokens": tokens}
    return Work(f"prefill {tokens}", PREFILL, asked, target, {**asked, "tokens": 64})


def decode(batch: int, target: float | None = None, tokens: int = 16, context: int = 512) -> Work:
    asked = {"work": "decode", "batch": batch, "context": context, "tokens": tokens}
    return Work(f"decode, batch {batch}", batch, asked, target)


# of the 1B shape; with many sequences fewer steps, as those are longer
WORKS = [prefill(3), decode(1, 1.15), decode(4, 2.5), decode(8, 3, 8), decode(16, 3, 8)]


def int4(modes: Sequence[str]) -> tuple[list[Engine], list[Work]]:
    file = checkpoints.gguf_checkpoint(FILES, "1B", "Q4_0")
    hf = checkpoints.hf_checkpoint(FILES, "1B")
    peak = [str(peers.PYTHON), str(HERE / "contenders/run_peak.py"), str(peers.PEAK)]
    peak += [str(MULTIPLICATIONS), str(THREADS)]
    engines = [*_on_gguf("Q4_0", file, modes), Engine(PEAK, "", peak, (PREFILL,))]
    if peers.without_amx():
        engines += [Engine(TILES, "", [*peak, "tiles"], (PREFILL,))]
    if onnx := peers.made(peers.onnxruntime_model, hf):
        terms = f"groups of 32, head int8, {size(onnx)}"
        batches = (*FEW, 4)
        engines += [_script("onnxruntime", "int4", peers.PYTHON, terms, onnx, batches=batches)]
    if openvino := peers.made(peers.openvino_model, hf):
        terms = f"groups of 32, head int8, KV int8, {size(openvino)}"
        engines += [_script("openvino", "int4", peers.OPENVINO, terms, openvino, batches=FEW)]
    return engines, WORKS


def int8(modes: Sequence[str]) -> tuple[list[Engine], list[Work]]:
    file = checkpoints.gguf_checkpoint(FILES, "1B", "Q8_0")
    engines = _on_gguf("Q8_0", file, modes[:1])
    if other := peers.made(peers.ctranslate2_model, checkpoints.hf_checkpoint(FILES, "1B")):
        terms = f"a scale a row, {size(other)}"
        engines += [_script("ctranslate2", "int8", peers.PYTHON, terms, other, "int8", batches=FEW)]
    return engines, WORKS


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
    return engines, [prefill(tokens=128), decode(1, tokens=8, context=128)]


MULTIPLICATIONS = sum(
    math.prod(shape)
    for name, shape in tensor_shapes(checkpoints.LLAMA_3_2_1B).items()
    if ".layers." in name
)  # of a token: the head is for the last alone, and attention does not count
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
        llama_cpp(kind, file, mode, sequences, context, (*FEW, *(MANY if not at else ())))
        for at, mode in enumerate(modes)
    ]
    if peers.without_amx():
        engines += [llama_cpp(kind, file, WITHOUT_AMX, sequences, context)]
    script = str(HERE / "contenders/run_bound.py")
    command = [str(peers.PYTHON), script, str(file.stat().st_size), str(THREADS)]
    return [*engines, Engine(BOUND, "", command, (1,))]


def llama_cpp(
    kind: str,
    file: Path,
    mode: str,
    sequences: int,
    context: int,
    batches: Sequence[int] = (*FEW, *MANY),
) -> Engine:
    """`sequences` of `context` tokens are what its cache holds; `mode` is how it loads, or
    WITHOUT_AMX."""
    script, program = HERE / "contenders/run_llamacpp.py", peers.LLAMA_CPP / "contender"
    before, load = (peers.without_amx(), "none") if mode == WITHOUT_AMX else ([], mode)
    arguments = (script, program, file, load, THREADS, sequences, context)
    command = [*before, sys.executable, *map(str, arguments)]
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
    batches: Sequence[int] = (*FEW, *MANY),
) -> Engine:
    script = HERE / "contenders" / f"run_{name}.py"
    command = [str(part) for part in (python, script, *arguments, THREADS)]
    return Engine(f"{name} {kind}", terms, command, batches)


class Ended(SystemExit):
    """An engine's process is not there any more, or could not be started. Not caught, it ends the
    bench with these words."""


class Running:
    def __init__(self, engine: Engine, process: subprocess.Popen[str]) -> None:
        self.engine, self.process = engine, process

    def rate(self, asked: dict[str, Any]) -> float:
        assert self.process.stdin
        try:
            self.process.stdin.write(json.dumps(asked) + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Ended(" ".join(self.engine.command)) from None
        return float(self.read()["rate"])

    def read(self) -> dict[str, Any]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise Ended(" ".join(self.engine.command))
        return json.loads(line)


@contextmanager
def running(engine: Engine) -> Iterator[Running]:
    """Raises `Ended` if it does not start."""
    try:
        process = subprocess.Popen(
            engine.command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
    except OSError as error:
        raise Ended(f"{engine.command[0]}: {error.strerror}") from None
    try:
        one = Running(engine, process)
        one.read()
        yield one
    finally:
        assert process.stdin
        assert process.stdout
        with suppress(BrokenPipeError):
            process.stdin.close()  # which ends it, and what it started
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()


def measure(
    group: str, engines: Sequence[Engine], works: Sequence[Work], rounds: int, warmup: int
) -> None:
    """Raises `Ended` if it is Puna that ended."""
    with ExitStack() as stack:
        ready: list[Running] = []
        for engine in engines:
            try:
                ready.append(stack.enter_context(running(engine)))
            except Ended as error:
                _leave_out(engine, error)
        for work in works:
            asked = [one for one in ready if work.batch in one.engine.batches]
            rates: dict[str, list[float]] = {one.engine.name: [] for one in asked}
            for number in range(-warmup, rounds):
                for one in [one for one in asked if one in ready]:
                    try:
                        rate = one.rate(work.warmup or work.asked if number < 0 else work.asked)
                    except Ended as error:
                        _leave_out(one.engine, error)
                        ready.remove(one)
                    else:
                        if number >= 0:
                            rates[one.engine.name].append(rate)
            whole = {name: each for name, each in rates.items() if len(each) == rounds}
            bounds = {name: whole.pop(name) for name in BOUNDS if name in whole}
            rows = [Row(group, work.title, whole, target=work.target)]
            for name, each in bounds.items():
                both = {PUNA: whole[PUNA], name: each}
                title, target = BOUNDS[name]
                rows.append(Row(group, f"{work.title}, of {title}", both, target=target))
            record(rows)


def _leave_out(engine: Engine, error: Ended) -> None:
    if engine.name == PUNA:
        raise error
    print(f"{engine.name} ended and is left out: {error}", file=sys.stderr, flush=True)


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
