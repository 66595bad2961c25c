"""A row of the table: one work, what each engine did in each round, and what is aimed at.

Rows are kept in `bench/results.json`, where a new one takes the place of that of the same group and
work; so the table can be measured in pieces. `tables` writes what the README shows. It does not
know what is measured, nor how.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from puna.kernels import native

HERE = Path(__file__).parent
FILES = Path(os.environ.get("PUNA_BENCH_CHECKPOINTS", HERE / ".checkpoints"))
RESULTS = HERE / "results.json"
README = HERE.parent / "README.md"
MARKS = "<!-- python -m bench -->", "<!-- end of bench -->"
THREADS = len(os.sched_getaffinity(0))
PUNA = "Puna"
GROUPS = (  # in the table's order
    "1B-int4", "1B-int8", "1B-bf16", "8B-int4", "draft", "repeats", "11B Vision", "second turn",
    "server load", "server over engine", "memory", "long context", "start",
)  # fmt: skip


@dataclass(frozen=True)
class Row:
    """`rates`: of each engine, one figure a round, all of `unit`; `target`: times as good as the
    best of the others; `less`: that less is better, as with seconds. A bound, or a limit that is a
    number, stands among the others as if it were an engine."""

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

    def ratios(self, peer: str | None = None) -> list[float]:
        """How many times as good Puna is as `peer`, or the best of them, round by round."""
        peer = peer or self.best_peer() or PUNA
        pairs = zip(self.rates[PUNA], self.rates[peer], strict=True)
        return [b / a if self.less else a / b for a, b in pairs]

    def met(self) -> bool:
        """Whether the median of the ratios reaches the target; True where there is none."""
        return self.target is None or statistics.median(self.ratios()) >= self.target

    def line(self) -> str:
        """Of the first table."""
        best = self.best_peer()
        return _cells(
            f"{self.group}: {self.work}",
            f"{spread(self.rates[PUNA])} {self.unit}",
            f"{best}: {spread(self.rates[best])}" if best else "",
            f"{spread(self.ratios(), 2)}, {len(self.ratios())}" if best else "",
            f"{self.target:.3g}" if self.target is not None else "",
            "" if self.target is None or not best else "met" if self.met() else "**missed**",
        )

    def more(self) -> str:
        """Of the second table: all others, the best first."""
        others = [name for name in self.rates if name != PUNA]
        others.sort(key=lambda name: statistics.median(self.ratios(name)))
        return _cells(
            f"{self.group}: {self.work}",
            f"{spread(self.rates[PUNA])} {self.unit}",
            ", ".join(
                f"{name}: {_median(self.rates[name])}, ratio {spread(self.ratios(name), 2)}"
                for name in others
            ),
        )


HEADER = (
    "| work | Puna | best peer, or bound | ratio, pairs | target | |\n|---|---|---|---|---|---|"
)
_MORE_HEADER = "| work | Puna | others, and how many times as good Puna is |\n|---|---|---|"


def _cells(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def spread(values: Sequence[float], digits: int | None = None) -> str:
    """The median, and the extremes."""
    if digits is None:
        digits = _digits(values)
    middle = _median(values, digits)
    return f"{middle} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def _median(values: Sequence[float], digits: int | None = None) -> str:
    return f"{statistics.median(values):.{_digits(values) if digits is None else digits}f}"


def _digits(values: Sequence[float]) -> int:
    """Behind the point, so that three or so tell something."""
    middle = statistics.median(values)
    return 0 if middle >= 300 else 1 if middle >= 10 else 2


def tables(rows: Sequence[Row], machine: str) -> str:
    """What the README shows: when and where; what has a target; and the rest in a second table,
    where those of the first that have several peers stand once more, with all of them."""
    rows = merged((), rows)
    when = sorted(row.when for row in rows)
    span = when[0] if when[0] == when[-1] else f"from {when[0]} to {when[-1]}"
    aimed = [row for row in rows if row.target is not None]
    rest = [row for row in rows if row.target is None or len(row.rates) > 2]
    lines = [f"Measured {span} UTC on {machine}:", "", HEADER, *(row.line() for row in aimed)]
    if rest:
        lines += ["", "More peers, and what has no target:", "", _MORE_HEADER]
        lines += [row.more() for row in rest]
    return "\n".join(lines)


def merged(old: Sequence[Row], new: Sequence[Row]) -> list[Row]:
    """Of the same group and work the new one, in the old one's place; in the groups' order."""
    rows = {(row.group, row.work): row for row in (*old, *new)}
    return sorted(rows.values(), key=lambda row: GROUPS.index(row.group))


def record(rows: Sequence[Row]) -> None:
    """Prints the rows, and keeps them."""
    when = datetime.now(UTC).strftime("%Y-%m-%d %H:%M")
    new = [replace(row, when=when) for row in rows]
    for row in new:
        print(row.line(), flush=True)
    body = {
        "date": when.split()[0],
        "machine": f"{THREADS} cores, {_processor()}, {', '.join(native.instruction_sets())}",
        "rows": [asdict(row) for row in merged(recorded(), new)],
    }
    unfinished = RESULTS.with_suffix(".part")  # who interrupts loses nothing
    unfinished.write_text(json.dumps(body, indent=1) + "\n")
    unfinished.replace(RESULTS)


def recorded() -> list[Row]:
    return [Row(**row) for row in _kept().get("rows", [])]


def machine() -> str:
    """On which the rows were measured."""
    return _kept().get("machine", "")


def into_readme(text: str, readme: Path = README) -> None:
    """Between the two marks. Raises SystemExit if they are not there."""
    content = readme.read_text()
    before, opened, rest = content.partition(MARKS[0])
    _, closed, after = rest.partition(MARKS[1])
    if not opened or not closed:
        raise SystemExit(f"{readme.name} has no place for the table: write {' and '.join(MARKS)}")
    readme.write_text(f"{before}{MARKS[0]}\n{text}\n{MARKS[1]}{after}")


def _kept() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
