"""The whole table: Puna beside its peers, in one run, taking turns.

    python -m bench                  all of it: an hour on two cores, or more on slow ones
    python -m bench --only 1B-int4 server-load ... [--rounds 5]
    python -m bench --table          what has been measured so far
    python -m bench --readme         the same, between the marks of README.md, and the plot

A whole run first installs the peers and makes the checkpoints that are missing (45 minutes and 20
GB of disk, once), and begins with an empty table. Each part is a bench of its own (`python -m
bench.server_load --help`), which says its terms in its first lines and writes its rows to
`bench/results.json`. One that fails, or takes more than twice its time, is given up and the others
go on; which is said at the end. Told are the medians with the extremes, and the median of the
rounds' ratios to the best peer (the one with the best median). Run nothing beside it.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import dataclass

from bench import checkpoints, memory, peers, plot, rows


@dataclass(frozen=True)
class Part:
    """`minutes`: what it takes with its own number of rounds on two cores of Zen 3."""

    minutes: float
    command: list[str]


PARTS = {
    "1B-int4": Part(9, ["bench.engines", "--only", "1B-int4"]),
    "1B-int8": Part(8, ["bench.engines", "--only", "1B-int8"]),
    "8B-int4": Part(10, ["bench.engines", "--only", "8B-int4"]),
    "1B-bf16": Part(4, ["bench.engines", "--only", "1B-bf16"]),
    "repeats": Part(9, ["bench.repeats"]),
    "draft": Part(4, ["bench.draft"]),
    "vision": Part(6, ["bench.vision_11b"]),
    "second-turn": Part(4, ["bench.second_turn"]),
    "server-load": Part(9, ["bench.server_load"]),
    "server-overhead": Part(2, ["bench.server_overhead"]),
    "memory": Part(6, ["bench.memory"]),
    "long-context": Part(2, ["bench.long_context"]),
    "start": Part(1, ["bench.start"]),
}


def prepare() -> None:
    """What all parts need, so that no part has to make it; what is there is left as it is."""
    peers.install()
    hf = checkpoints.hf_checkpoint(rows.FILES, "1B")
    memory.prepared(checkpoints.gguf_checkpoint(rows.FILES, "1B", "Q4_0"))
    checkpoints.gguf_checkpoint(rows.FILES, "1B", "Q8_0")
    checkpoints.gguf_checkpoint(rows.FILES, "8B", "Q4_0")
    for convert in (peers.onnxruntime_model, peers.ctranslate2_model, peers.openvino_model):
        peers.made(convert, hf)


def run(command: list[str], limit: float | None) -> str:
    """What went wrong, in words; nothing if all went well. It, and all that it has started, are
    ended after `limit` seconds."""
    process = subprocess.Popen([sys.executable, "-m", *command], start_new_session=True)
    try:
        code = process.wait(limit)
        return f"ended with status {code}" if code else ""
    except subprocess.TimeoutExpired:
        return f"given up after {limit or 0:.0f} s"
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def measure(parts: list[str], rounds: int | None, limited: bool) -> list[str]:
    """Runs the parts one after the other; what went wrong, a line each."""
    failed: list[str] = []
    for name in parts:
        part = PARTS[name]
        more = [] if rounds is None else ["--rounds", str(rounds)]
        limit = 60 * (2 * part.minutes + 1) * max(1, (rounds or 0) / 5) if limited else None
        print(f"\n{name}: about {part.minutes} minutes", flush=True)
        started = time.monotonic()
        wrong = run([*part.command, *more], limit)
        print(f"{name}: {(time.monotonic() - started) / 60:.1f} minutes {wrong}", flush=True)
        if wrong:
            failed.append(f"{name} {wrong}")
    return failed


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="these parts, without limits")
    parser.add_argument("--rounds", type=int, help="of each part, instead of its own number")
    parser.add_argument("--prepare", action="store_true", help="install and make, measure nothing")
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    parser.add_argument("--readme", action="store_true", help="write it into README.md, and plot")
    options = parser.parse_args()
    failed: list[str] = []
    if options.prepare:
        prepare()
        return
    if not options.table and not options.readme:
        if not options.only:
            prepare()
            rows.RESULTS.unlink(missing_ok=True)
        failed = measure(options.only or list(PARTS), options.rounds, limited=not options.only)
    measured = rows.recorded()
    if not measured:
        raise SystemExit("nothing has been measured: run python -m bench")
    table = rows.tables(measured, rows.machine())
    print(f"\n{table}")
    if options.readme:
        rows.into_readme(table)
    if not options.table:
        plot.main()
    if failed:
        raise SystemExit("\n".join(["failed:", *failed]))


if __name__ == "__main__":
    main()
