"""Peak memory of one sequence that fills a context of 8192 tokens: 1B shape, int4 weights.

    python -m bench.memory [--tokens 8000]

Not a timing; each process is measured once, alone. Both sides keep one sequence of 8192 tokens.
Puna computes 8000 of them, llama.cpp 1024, for it zeroes all of its cache at the start; what it
may need more for the others is not counted against it.
Told is the peak of resident memory (VmHWM), which counts mapped pages of files that were touched,
and at the end what of it is the process's own and what is such pages, which the system can drop.
llama.cpp keeps keys and values in 16 bits, as it does by itself; so does Puna unless `KV int8`.
llama.cpp packs Q4_0 anew in memory of its own whatever the load mode; Puna reads the same GGUF
file, or a file prepared by `puna quantize`, which it maps.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from bench import peers
from bench.checkpoints import gguf_checkpoint
from bench.engines import WITHOUT_AMX, Engine, Running, llama_cpp, puna, running
from bench.rows import FILES, PUNA, Row, record
from puna.llama.prepare import prepare
from puna.llama.weights import open_checkpoint

CONTEXT = 8192


def prepared(file: Path) -> Path:
    path = FILES / "random-1B-int4.puna"
    if not path.exists():
        prepare(open_checkpoint(file), path, "int4")
    return path


def peak(engine: Engine, tokens: int) -> float:
    """In MB."""
    with running(engine) as one:
        one.rate({"work": "prefill", "tokens": tokens})
        one.rate({"work": "decode", "batch": 1, "context": 16, "tokens": 4})
        told = status(one)
        print(
            f"{engine.name}: peak {told['VmHWM']:.0f} MB; at the end {told['RssAnon']:.0f} own, "
            f"{told['RssFile']:.0f} mapped from files",
            flush=True,
        )
        return told["VmHWM"]


def status(one: Running) -> dict[str, float]:
    """Of the process, or of the program that it started for this."""
    number = one.process.pid
    children = Path(f"/proc/{number}/task/{number}/children").read_text().split()
    if children and "llama.cpp" in one.engine.name:
        number = int(children[0])
    lines = Path(f"/proc/{number}/status").read_text().splitlines()
    return {
        name: int(value.split()[0]) / 1e3
        for name, _, value in (line.partition(":") for line in lines)
        if name in ("VmHWM", "RssAnon", "RssFile")
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="peak memory at a context of 8192")
    parser.add_argument("--tokens", type=int, default=8000, help="of the prompt")
    parser.add_argument("--rounds", type=int, help="ignored: it is measured once")
    options = parser.parse_args()
    peers.install()
    file = gguf_checkpoint(FILES, "1B", "Q4_0")
    kept = {"max_context": str(CONTEXT), "kv_memory": str(CONTEXT * 32768)}
    theirs = {
        f"llama.cpp, {mode}": [
            peak(llama_cpp("Q4_0", file, mode, sequences=1, context=CONTEXT), 1024)
        ]
        for mode in ("none", "mmap", *([WITHOUT_AMX] if peers.without_amx() else []))
    }
    rows: list[Row] = []
    for what, path, more in (
        ("the GGUF file", file, {}),
        ("prepared", prepared(file), {}),
        (
            "prepared, KV int8",
            prepared(file),
            {"kv_dtype": "int8", "kv_memory": str(CONTEXT * 18432)},
        ),
    ):
        ours = peak(puna(what, path, **{**kept, **more}), options.tokens)
        rates = {PUNA: [ours], **theirs}
        title = f"peak of 1B int4 at {CONTEXT} tokens, {what}"
        rows.append(Row("memory", title, rates, "MB", 1, less=True))
    record(rows)


if __name__ == "__main__":
    main()
