"""The whole table: Puna beside its peers, in one run, taking turns.

    python -m bench [--only 1B-int4 server-load ...] [--rounds 5]
    python -m bench --table          what has been measured so far

Each part is a bench of its own (`python -m bench.server_load --help`), which says its terms in its
first lines and writes its rows to `bench/results.json`; parts may be run one by one. Told are the
medians with the extremes, and the median of the rounds' ratios to the best peer (the one with the
best median). `python -m bench.plot` draws the ratios. Run nothing beside it.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

from bench import engines, rows

PARTS = {
    **{group: ["bench.engines", "--only", group] for group in engines.GROUPS},
    "repeats": ["bench.repeats"],
    "second-turn": ["bench.second_turn"],
    "server-load": ["bench.server_load"],
    "server-overhead": ["bench.server_overhead"],
    "vision": ["bench.vision_11b"],
    "memory": ["bench.memory"],
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--rounds", type=int, help="of each part, instead of its own number")
    parser.add_argument("--table", action="store_true", help="print what has been measured")
    options = parser.parse_args()
    failed: list[str] = []
    if not options.table:
        for part in options.only:
            rounds = [] if options.rounds is None else ["--rounds", str(options.rounds)]
            print(f"\n{part}", flush=True)
            if subprocess.run([sys.executable, "-m", *PARTS[part], *rounds]).returncode:
                failed.append(part)
    print("\n" + rows.HEADER)
    for row in rows.recorded():
        print(row.line())
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
