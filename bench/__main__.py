"""Puna beside its peers, in one run, taking turns.

    python -m bench [--rounds 5] [--only 1B-int4 ...] [--no-peers]

Each engine is a process of its own that stays for its group of rows; round by round each does the
work once, so that the machine's drift meets all. Told are the medians, the extremes, and the median
of the rounds' ratios to the best peer (the one with the highest median). Everything is written to
`bench/results.json`, which `python -m bench.plot` draws. Run nothing beside it.

Terms. Weights are random, of the true shapes; Puna and llama.cpp read the same GGUF file. Contexts
are 512 tokens, each sequence's own. Decode counts whole steps, sampling (greedy) included; prefill
ends with the first token. llama.cpp is run with and without mmap, and its better counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench import checkpoints, peers

HERE = Path(__file__).parent
FILES = HERE / ".checkpoints"
RESULTS = HERE / "results.json"
THREADS = len(os.sched_getaffinity(0))
PUNA = "Puna"


@dataclass(frozen=True)
class Work:
    title: str
    asked: dict[str, Any]


@dataclass(frozen=True)
class Engine:
    """`terms`: what it reads, in words."""

    name: str
    terms: str
    command: list[str]


@dataclass
class Group:
    name: str
    engines: list[Engine]
    work: list[Work] = field(default_factory=list[Work])


def prefill(tokens: int = 512) -> Work:
    return Work(f"prefill {tokens}", {"work": "prefill", "tokens": tokens})


def decode(batch: int, tokens: int = 32, context: int = 512) -> Work:
    asked = {"work": "decode", "batch": batch, "context": context, "tokens": tokens}
    return Work(f"decode, batch {batch}", asked)


ALL = [prefill(), *(decode(batch) for batch in (1, 4, 8, 16))]


def groups(only: Sequence[str], *, with_peers: bool, load_modes: Sequence[str]) -> Iterator[Group]:
    """Those named in `only`, or all; what they read is made when it is their turn."""

    for name, shape, kind, work in (
        ("1B-int4", "1B", "Q4_0", ALL),
        ("1B-int8", "1B", "Q8_0", ALL),
        ("8B-int4", "8B", "Q4_0", [prefill(), decode(1)]),
    ):
        if only and name not in only:
            continue
        file = checkpoints.gguf_checkpoint(FILES, shape, kind)  # type: ignore[arg-type]
        size = f"{file.stat().st_size / 1e6:.0f} MB"
        engines = [_puna(f"{kind} file, {size}", file)]
        if with_peers:
            engines += [
                _llama_cpp(f"llama.cpp {kind}, {mode}", f"the same file, {mode}", file, mode)
                for mode in load_modes
            ]
        yield Group(name, engines, work)
    if only and not {"1B-bf16", "1B-others"} & set(only):
        return
    hf = checkpoints.hf_checkpoint(FILES, "1B")
    engines = [_puna("bfloat16, 2472 MB", hf, dtype="bfloat16")]
    if with_peers:
        engines.append(_script("transformers", "bfloat16", peers.PYTHON, hf, "bfloat16"))
        engines.append(_script("transformers", "float32", peers.PYTHON, hf, "float32"))
    if not only or "1B-bf16" in only:
        yield Group("1B-bf16", engines, [prefill(), decode(1), decode(4)])
    if with_peers and (not only or "1B-others" in only):
        int8 = _script("ctranslate2", "int8", peers.PYTHON, peers.ctranslate2_model(hf), "int8")
        int4 = _script("openvino", "int4", peers.OPENVINO, peers.openvino_model(hf))
        file = checkpoints.gguf_checkpoint(FILES, "1B", "Q4_0")
        yield Group("1B-others", [_puna("Q4_0 file", file), int4, int8], [prefill(), decode(1)])


def _puna(terms: str, model: Path, **options: str) -> Engine:
    command = [sys.executable, str(HERE / "contenders/run_puna.py"), str(model)]
    for name, value in options.items():
        command += ["--option", f"{name}={value}"]
    return Engine(PUNA, terms, command)


def _llama_cpp(name: str, terms: str, file: Path, mode: str) -> Engine:
    script = str(HERE / "contenders/run_llamacpp.py")
    folder = str(peers.LLAMA_CPP)
    return Engine(name, terms, [sys.executable, script, folder, str(file), mode, str(THREADS)])


def _script(name: str, terms: str, python: Path, *arguments: str | Path) -> Engine:
    script = HERE / "contenders" / f"run_{name}.py"
    command = [python, script, *arguments, str(THREADS)]
    return Engine(f"{name} {terms}", terms, [str(part) for part in command])


class Running:
    def __init__(self, engine: Engine, process: subprocess.Popen[str]) -> None:
        self.engine, self._process = engine, process

    def rate(self, asked: dict[str, Any]) -> float:
        assert self._process.stdin
        self._process.stdin.write(json.dumps(asked) + "\n")
        self._process.stdin.flush()
        return float(self.read()["rate"])

    def read(self) -> dict[str, Any]:
        assert self._process.stdout
        line = self._process.stdout.readline()
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
        process.kill()
        process.wait()


def measure(group: Group, rounds: int, warmup: int) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    with ExitStack() as stack:
        ready = [stack.enter_context(running(engine)) for engine in group.engines]
        for work in group.work:
            rates: dict[str, list[float]] = {one.engine.name: [] for one in ready}
            for number in range(-warmup, rounds):
                for one in ready:
                    rate = one.rate(work.asked)
                    if number >= 0:
                        rates[one.engine.name].append(rate)
            row = {"group": group.name, "work": work.title, "rates": rates}
            rows.append(row)
            print(line_of(row), flush=True)
    return rows


def best_peer(rates: dict[str, list[float]]) -> str | None:
    others = [name for name in rates if name != PUNA]
    return max(others, key=lambda name: statistics.median(rates[name]), default=None)


def ratios(rates: dict[str, list[float]]) -> list[float]:
    """Puna's rate over the best peer's, round by round."""
    best = best_peer(rates)
    return [ours / theirs for ours, theirs in zip(rates[PUNA], rates[best or PUNA], strict=True)]


def line_of(row: dict[str, Any]) -> str:
    """A line of a Markdown table."""
    rates: dict[str, list[float]] = row["rates"]
    best = best_peer(rates)
    cells = [f"{row['group']}: {row['work']}", _spread(rates[PUNA])]
    if best:
        cells += [f"{best} {_spread(rates[best])}", f"**{_spread(ratios(rates), 2)}**"]
    others = [f"{n} {statistics.median(r):.1f}" for n, r in rates.items() if n not in (PUNA, best)]
    return "| " + " | ".join([*cells, ", ".join(others)]) + " |"


def _spread(values: Sequence[float], digits: int = 1) -> str:
    low, middle, high = min(values), statistics.median(values), max(values)
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", nargs="+", metavar="GROUP", help="1B-int4, 1B-int8 ...")
    parser.add_argument("--work", nargs="+", metavar="TITLE", help='as in "decode, batch 8"')
    parser.add_argument("--warmup", type=int, default=1, help="rounds that do not count")
    parser.add_argument("--load-modes", nargs="+", default=["none", "mmap"], help="of llama.cpp")
    parser.add_argument("--no-peers", action="store_true")
    options = parser.parse_args()
    if not options.no_peers:
        peers.install()
    print("| work | Puna, tokens/s | best peer, tokens/s | ratio | others |\n|---|---|---|---|---|")
    rows: list[dict[str, Any]] = []
    only: list[str] = options.only or []
    for group in groups(only, with_peers=not options.no_peers, load_modes=options.load_modes):
        if options.work:
            group.work = [work for work in group.work if work.title in options.work]
        rows += measure(group, options.rounds, options.warmup)
    kept = json.loads(RESULTS.read_text())["rows"] if RESULTS.exists() else []
    measured = {(row["group"], row["work"]) for row in rows}
    rows += [row for row in kept if (row["group"], row["work"]) not in measured]
    machine = f"{THREADS} cores, {_processor()}"
    when = datetime.now(UTC).date().isoformat()
    RESULTS.write_text(json.dumps({"date": when, "machine": machine, "rows": rows}, indent=1))


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


if __name__ == "__main__":
    main()
