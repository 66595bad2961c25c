"""llama.cpp, through the small program beside this file (`llamacpp.cpp`, which says its terms)."""

from __future__ import annotations

import json
import subprocess
import sys

from lines import answer


class LlamaCpp:
    """`sequences`, `context`: what its cache must hold."""

    def __init__(
        self, program: str, model: str, load_mode: str, threads: str, sequences: str, context: str
    ) -> None:
        self.process = subprocess.Popen(
            [program, model, load_mode, threads, sequences, context],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self._read()

    def prefill(self, tokens: int) -> float:
        return self._ask("prefill", tokens)

    def decode(self, batch: int, context: int, tokens: int) -> float:
        return self._ask("decode", batch, context, tokens)

    def text(self, file: str, speculation: str) -> float:
        return self._ask("text", file, speculation)

    def _ask(self, *words: str | int) -> float:
        assert self.process.stdin
        print(*words, file=self.process.stdin, flush=True)
        return self._read()["rate"]

    def _read(self) -> dict[str, float]:
        assert self.process.stdout
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("llama.cpp ended")
        return json.loads(line)


if __name__ == "__main__":
    answer(LlamaCpp(*sys.argv[1:]))
