"""A row of the table: one work, what each engine did in each round, and what is aimed at.

Rows are kept in `bench/results.json`, where a new one replaces that of the same group and work; so
the table can be measured in pieces. `python -m bench --table` prints it, `bench.plot` draws it.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from puna.kernels import native

HERE = Path(__file__).parent
FILES = HERE / ".checkpoints"
RESULTS = HERE / "results.json"
THREADS = len(os.sched_getaffinity(0))
PUNA = "Puna"
HEADER = (
    "| work | target | Puna | best peer | times as good, round by round | others |\n"
    "|---|---|---|---|---|---|"
)


@dataclass(frozen=True)
class Row:
    """`rates`: of each engine, one figure a round, all of `unit`; `target`: times as good as the
    best of the others; `less`: that less is better, as with seconds."""

    group: str
    work: str
    rates: dict[str, list[float]]
    unit: str = "tokens/s"
    target: float | None = None
    less: bool = False
    when: str = ""

    def best_peer(self) -> str | None:
        """The one with the best median."""
        others = [name for name in self.rates if name != PUNA]
        best = min if self.less else max
        return best(others, key=lambda name: statistics.median(self.rates[name]), default=None)

    def ratios(self) -> list[float]:
        """How many times as good Puna is as the best peer, round by round."""
        peer = self.best_peer() or PUNA
        pairs = zip(self.rates[PUNA], self.rates[peer], strict=True)
        return [b / a if self.less else a / b for a, b in pairs]

    def line(self) -> str:
        """Of a Markdown table."""
        best = self.best_peer()
        met = self.target is not None and statistics.median(self.ratios()) >= self.target
        cells = [
            f"{self.group}: {self.work}",
            f"{self.target:g}×" if self.target is not None else "",
            f"{spread(self.rates[PUNA])} {self.unit}",
            f"{best}: {spread(self.rates[best])}" if best else "",
            f"{'**' if met else ''}{spread(self.ratios(), 2)}{'**' if met else ''}" if best else "",
            ", ".join(
                f"{name}: {statistics.median(each):.3g}"
                for name, each in self.rates.items()
                if name not in (PUNA, best)
            ),
        ]
        return "| " + " | ".join(cells) + " |"


def spread(values: Sequence[float], digits: int | None = None) -> str:
    """The median, and the extremes."""
    low, middle, high = min(values), statistics.median(values), max(values)
    if digits is None:
        digits = 0 if middle >= 300 else 1 if middle >= 10 else 2
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def record(rows: Sequence[Row]) -> None:
    """Prints the rows, and keeps them."""
    for row in rows:
        print(row.line(), flush=True)
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    new = [Row(**{**asdict(row), "when": when}) for row in rows]
    measured = {(row.group, row.work) for row in new}
    new += [row for row in recorded() if (row.group, row.work) not in measured]
    body = {
        "date": when.split()[0],
        "machine": f"{THREADS} cores, {_processor()}, {native.instruction_sets()}",
        "rows": [asdict(row) for row in sorted(new, key=lambda row: row.group)],
    }
    RESULTS.write_text(json.dumps(body, indent=1) + "\n")


def recorded() -> list[Row]:
    if not RESULTS.exists():
        return []
    return [Row(**row) for row in json.loads(RESULTS.read_text())["rows"]]


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
