"""Engines as processes that take turns, of which one may fail."""

from __future__ import annotations

import sys

import pytest

from bench import engines
from bench.engines import BOUND, Ended, Engine, Work, measure
from bench.rows import PUNA, Row

ANSWERS = """
import sys
print('{"ready": true}', flush=True)
for count, line in enumerate(sys.stdin):
    if count == int(sys.argv[2]): sys.exit(1)
    print('{"rate": %s}' % sys.argv[1], flush=True)
"""


def engine(name: str, rate: float, ends_after: int = 99) -> Engine:
    return Engine(name, "", [sys.executable, "-c", ANSWERS, str(rate), str(ends_after)])


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[Row]:
    rows: list[Row] = []
    monkeypatch.setattr(engines, "record", rows.extend)
    return rows


WORKS = [Work("first", 1, {"work": "decode"}, 2), Work("second", 1, {"work": "decode"}, 2)]


def test_each_engine_tells_one_rate_a_round_and_rounds_that_warm_up_do_not_count(
    told: list[Row],
) -> None:
    measure("1B-int4", [engine(PUNA, 6), engine("peer", 3)], WORKS[:1], rounds=3, warmup=2)
    assert [row.rates for row in told] == [{PUNA: [6.0] * 3, "peer": [3.0] * 3}]


def test_an_engine_that_ends_or_does_not_start_is_left_out_and_the_others_go_on(
    told: list[Row], capsys: pytest.CaptureFixture[str]
) -> None:
    absent = Engine("absent", "", ["/nowhere/to/be/found"])
    asked = [engine(PUNA, 6), engine("ends", 5, ends_after=4), absent, engine("peer", 3)]
    measure("1B-int4", asked, WORKS, rounds=3, warmup=0)
    assert [set(row.rates) for row in told] == [{PUNA, "ends", "peer"}, {PUNA, "peer"}]
    said = capsys.readouterr().err
    assert "absent ended and is left out" in said
    assert "ends ended and is left out" in said


def test_without_puna_there_is_nothing_to_measure(told: list[Row]) -> None:
    with pytest.raises(Ended):
        measure("1B-int4", [engine(PUNA, 6, ends_after=1), engine("peer", 3)], WORKS, 3, 0)
    assert told == []


def test_a_bound_is_no_peer_but_has_a_row_of_its_own(told: list[Row]) -> None:
    measure("1B-int4", [engine(PUNA, 6), engine("peer", 3), engine(BOUND, 8)], WORKS[:1], 2, 0)
    assert [row.best_peer() for row in told] == ["peer", BOUND]
    assert told[1].ratios() == [0.75, 0.75]
    assert not told[1].met()
