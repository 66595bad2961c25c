"""Not an engine: the tokens a second at which a prompt's products would be computed if all that
counted were the arithmetic at its peak (`peak.cpp`, beside this file).

python bench/contenders/run_peak.py PROGRAM MULTIPLICATIONS_A_TOKEN THREADS [tiles]
"""

from __future__ import annotations

import subprocess
import sys

from lines import answer


class Peak:
    def __init__(self, program: str, multiplications: str, *arguments: str) -> None:
        self.command, self.multiplications = [program, *arguments], float(multiplications)

    def prefill(self, tokens: int) -> float:
        said = subprocess.run(self.command, check=True, capture_output=True, text=True).stdout
        return float(said) / self.multiplications


if __name__ == "__main__":
    answer(Peak(*sys.argv[1:]))
