"""How long from `puna serve` to the first token, beside importing torch alone.

    python -m bench.start

A prepared file of Llama 3.2 1B's shape (random weights, int4, the real tokenizer) is made if it is
not there. Then, in turns: a Python that imports torch; `puna serve` on the file, asked for
one token as soon as it says that it answers. Medians of the rounds, with the extremes. The file is
in the page cache, as it is at every start but the first.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path

from bench.checkpoints import gguf_checkpoint
from bench.memory import prepared
from bench.rows import FILES, PUNA, Row, record

LIMIT = 3.0  # seconds
COMMAND = str(Path(sys.executable).with_name("puna"))


def import_torch() -> dict[str, float]:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", "import torch"], check=True)
    return {"import torch": time.perf_counter() - start}


def first_token(path: Path, *options: str) -> dict[str, float]:
    """Seconds from the start of the process until it answers, and until its first token is here."""
    start = time.perf_counter()
    server = subprocess.Popen(
        [COMMAND, "serve", str(path), "--port", "0", *options], stdout=subprocess.PIPE, text=True
    )
    assert server.stdout is not None
    try:
        url = next(line.split()[3] for line in server.stdout if line.startswith("Puna answers"))
        ready = time.perf_counter() - start
        asked = {
            "model": "",
            "messages": [{"role": "user", "content": "What is the weather in Stockholm?"}],
            "max_tokens": 1,
        }
        with urllib.request.urlopen(url + "/v1/models") as models:
            asked["model"] = json.load(models)["data"][0]["id"]
        request = urllib.request.Request(
            url + "/v1/chat/completions",
            json.dumps(asked).encode(),
            {"content-type": "application/json"},
        )
        with urllib.request.urlopen(request) as answer:
            usage = json.load(answer)["usage"]
        assert usage["completion_tokens"] == 1, usage
        return {"answers": ready, "first token": time.perf_counter() - start}
    finally:
        server.terminate()
        server.wait()
        server.stdout.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=_Plain)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    path = prepared(gguf_checkpoint(FILES, "1B", "Q4_0"))
    print(f"{path.name}: {path.stat().st_size / 1e6:,.0f} MB; load {os.getloadavg()[0]:.1f}")
    measure(path, options.rounds)


def measure(path: Path, rounds: int) -> None:
    taken: dict[str, list[float]] = {}
    runs: list[Callable[[], dict[str, float]]] = [import_torch, lambda: first_token(path)]
    for number in range(rounds + 1):
        for run in runs:
            for name, seconds in run().items():
                if number:  # the first round warms up
                    taken.setdefault(name, []).append(seconds)
    pairs = zip(taken["first token"], taken["import torch"], strict=True)
    beyond = [whole - torch for whole, torch in pairs]
    title = "first token of a prepared 1B, beyond importing torch"
    rates = {PUNA: beyond, "at most": [LIMIT] * rounds}
    record([Row("start", title, rates, "s", 1, less=True)])
    for name, seconds in taken.items():
        median = statistics.median(seconds)
        print(f"{name:<36} {median:6.2f} s   ({min(seconds):.2f} to {max(seconds):.2f})")


class _Plain(argparse.RawDescriptionHelpFormatter):
    pass


if __name__ == "__main__":
    main()
