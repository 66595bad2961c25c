"""Draws `bench/results.json` as `bench/results.svg`: Puna over its best peer, work by work.

python -m bench.plot
"""

from __future__ import annotations

import json
import statistics

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.rows import RESULTS, recorded


def main() -> None:
    results = json.loads(RESULTS.read_text())
    rows = [row for row in recorded() if row.best_peer()][::-1]
    names = [f"{row.group}: {row.work}\nagainst {row.best_peer()}" for row in rows]
    spread = [sorted(row.ratios()) for row in rows]
    middles = [statistics.median(each) for each in spread]
    errors = (
        [middle - each[0] for middle, each in zip(middles, spread, strict=True)],
        [each[-1] - middle for middle, each in zip(middles, spread, strict=True)],
    )
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.2))
    colours = [
        "#999999" if row.target is None else "#4c8055" if middle >= row.target else "#b5655a"
        for middle, row in zip(middles, rows, strict=True)
    ]
    axes.barh(names, middles, xerr=errors, color=colours, error_kw={"lw": 1})
    for at, row in enumerate(rows):
        if row.target is not None:
            axes.plot([row.target] * 2, [at - 0.4, at + 0.4], color="black", lw=1.5)
    axes.axvline(1, color="black", lw=0.5)
    axes.set_xscale("log")
    axes.margins(y=0.01)
    axes.set_xlabel(
        "times as good as the best peer (median, extremes)\nblack: the target; grey: none",
        fontsize=8,
    )
    axes.set_title(f"{results['date']}, {results['machine']}", fontsize=8, loc="right")
    axes.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".svg"))


if __name__ == "__main__":
    main()
