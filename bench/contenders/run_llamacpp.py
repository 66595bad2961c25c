"""llama.cpp through its own bench programs, each call a process of theirs; loading is not timed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from lines import answer


class LlamaCpp:
    def __init__(self, folder: str, model: str, load_mode: str, threads: str) -> None:
        self.folder, self.model = Path(folder), model
        self.common = ["-m", model, "-t", threads, "-lm", load_mode]

    def prefill(self, tokens: int) -> float:
        return self._bench("-p", str(tokens), "-n", "0")

    def decode(self, batch: int, context: int, tokens: int) -> float:
        if batch == 1:
            return self._bench("-p", "0", "-n", str(tokens), "-d", str(context))
        rows = self._run(
            "llama-batched-bench",
            *("-c", str(batch * (context + tokens)), "-b", "2048", "-ub", "512", "-pps"),
            *("-npp", str(context), "-ntg", str(tokens), "-npl", str(batch)),
            *("--output-format", "jsonl"),
        )
        return rows[-1]["speed_tg"]

    def _bench(self, *what: str) -> float:
        return self._run("llama-bench", *what, "-r", "1", "-o", "jsonl")[-1]["avg_ts"]

    def _run(self, program: str, *arguments: str) -> list[dict[str, float]]:
        done = subprocess.run(
            [str(self.folder / program), *self.common, *arguments],
            capture_output=True,
            text=True,
            check=True,
        )
        return [json.loads(line) for line in done.stdout.splitlines() if line.startswith("{")]


if __name__ == "__main__":
    answer(LlamaCpp(*sys.argv[1:]))
