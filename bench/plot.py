"""Draws `bench/results.json` as `bench/results.svg`: Puna over its best peer, work by work.

python -m bench.plot
"""

from __future__ import annotations

import json
import statistics

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot

from bench.__main__ import RESULTS, best_peer, ratios


def main() -> None:
    results = json.loads(RESULTS.read_text())
    rows = [row for row in results["rows"] if best_peer(row["rates"])][::-1]
    names = [f"{r['group']}: {r['work']}\nagainst {best_peer(r['rates'])}" for r in rows]
    spread = [sorted(ratios(row["rates"])) for row in rows]
    middles = [statistics.median(each) for each in spread]
    errors = (
        [middle - each[0] for middle, each in zip(middles, spread, strict=True)],
        [each[-1] - middle for middle, each in zip(middles, spread, strict=True)],
    )
    figure, axes = pyplot.subplots(figsize=(8, 0.5 * len(rows) + 1.2))
    colours = ["#4c8055" if middle >= 1 else "#b5655a" for middle in middles]
    axes.barh(names, middles, xerr=errors, color=colours, error_kw={"lw": 1})
    axes.axvline(1, color="black", lw=1)
    axes.set_xlabel("times as many tokens a second as the best peer (median, extremes)")
    axes.set_title(f"{results['date']}, {results['machine']}", fontsize=9)
    axes.tick_params(labelsize=7)
    figure.tight_layout()
    figure.savefig(RESULTS.with_suffix(".svg"))


if __name__ == "__main__":
    main()
