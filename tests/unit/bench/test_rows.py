"""What the table says of what was measured."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import rows
from bench.rows import PUNA, Row, into_readme, merged, tables


def row(
    group: str = "1B-int4",
    work: str = "prefill 512",
    target: float | None = 3,
    less: bool = False,
    **rates: list[float],
) -> Row:
    return Row(group, work, rates, target=target, less=less, when="2026-11-24 05:00")


def test_the_best_peer_is_the_one_with_the_best_median_and_not_with_the_best_round() -> None:
    both = {"quick": [2.0, 9.0, 2.0], "steady": [3.0, 3.0, 3.0]}
    assert row(**{PUNA: [6.0, 6.0, 6.0]}, **both).best_peer() == "steady"
    seconds = row(less=True, **{PUNA: [1.0, 1.0, 1.0]}, **both)
    assert seconds.best_peer() == "quick"
    assert seconds.ratios() == [2, 9, 2]


def test_ratios_are_taken_round_by_round_so_that_drift_of_the_machine_does_not_count() -> None:
    drifting = row(**{PUNA: [10.0, 20.0, 40.0]}, peer=[5.0, 10.0, 20.0])
    assert drifting.ratios() == [2, 2, 2]
    with pytest.raises(ValueError, match="shorter"):
        row(**{PUNA: [1.0, 2.0]}, peer=[1.0]).ratios()


@pytest.mark.parametrize(("target", "verdict"), [(2.0, "met"), (2.1, "**missed**"), (None, "")])
def test_a_target_is_met_when_the_median_of_the_ratios_reaches_it(
    target: float | None, verdict: str
) -> None:
    one = row(target=target, **{PUNA: [2.0, 2.0, 9.0]}, peer=[1.0, 1.0, 9.0])
    assert one.line().split(" | ")[-1].removesuffix(" |") == verdict


def test_what_is_measured_again_takes_the_place_of_the_old_row_and_no_other() -> None:
    old = [row(work=work, **{PUNA: [1.0]}) for work in ("prefill 512", "decode", "batch 4")]
    old.append(row(group="1B-int8", **{PUNA: [1.0]}))
    again = row(work="decode", **{PUNA: [2.0]})
    assert merged(old, [again]) == [old[0], again, *old[2:]]


def test_groups_stand_in_the_tables_order_whichever_was_measured_first() -> None:
    late, early = row(group="start", **{PUNA: [1.0]}), row(**{PUNA: [1.0]})
    assert merged([late], [early]) == [early, late]


def test_rows_without_a_target_and_further_peers_stand_in_a_second_table() -> None:
    text = tables(
        [
            row(**{PUNA: [6.0]}, good=[3.0], worse=[2.0]),
            row(work="extra", target=None, **{PUNA: [1.0]}, other=[4.0]),
            row(work="alone", **{PUNA: [9.0]}, one=[1.0]),
        ],
        "two cores",
    )
    first, second = text.split("More peers")
    assert first.startswith("Measured 2026-11-24 05:00 UTC on two cores:\n\n| work |")
    assert "good: 3.00" in first
    assert "worse" not in first
    assert "extra" not in first
    assert "worse: 2.00, ratio 3.00 (3.00 to 3.00)" in second
    assert "other: 4.00, ratio 0.25" in second
    assert "alone" not in second


def test_all_lines_of_a_table_have_as_many_cells_as_its_head() -> None:
    text = tables(
        [
            row(**{PUNA: [6.0, 5.0]}, good=[3.0, 3.0], worse=[2.0, 2.0]),
            row(work="extra", target=None, **{PUNA: [1.0]}),
        ],
        "two cores",
    )
    for table in text.split("\n\n"):
        if table.startswith("|"):
            assert len({line.count("|") for line in table.splitlines()}) == 1, table


def test_recorded_rows_are_read_back_as_they_were(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rows, "RESULTS", tmp_path / "results.json")
    assert rows.recorded() == []
    rows.record([row(**{PUNA: [1.5, 2.5]}, peer=[1.0, 2.0])])
    rows.record([row(work="decode", less=True, target=None, **{PUNA: [3.0]})])
    first, second = rows.recorded()
    assert (first.work, first.rates) == ("prefill 512", {PUNA: [1.5, 2.5], "peer": [1.0, 2.0]})
    assert (second.work, second.less, second.target) == ("decode", True, None)
    assert " cores, " in rows.machine()


def test_the_table_is_written_between_the_marks_of_a_readme_and_nowhere_else(
    tmp_path: Path,
) -> None:
    readme = tmp_path / "README.md"
    readme.write_text("before\n{}\nold\n{}\nafter\n".format(*rows.MARKS))
    into_readme("new", readme)
    into_readme("newer", readme)
    assert readme.read_text() == "before\n{}\nnewer\n{}\nafter\n".format(*rows.MARKS)
    readme.write_text("no marks")
    with pytest.raises(SystemExit, match="no place"):
        into_readme("new", readme)
    assert readme.read_text() == "no marks"


def test_without_anyone_beside_it_a_target_is_neither_met_nor_missed() -> None:
    assert row(**{PUNA: [2.0]}).line().endswith("| 3 |  |")
