"""What steps take, learnt by watching, and what follows for prompts: on machines of every kind."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import pytest
from torch import Tensor

from puna.engine.engine import Engine
from puna.engine.pace import FLOOR, QUICK, Pace
from tests.unit.engine.test_engine import greedy, text
from tests.unit.engine.toy import Listener, run, toy_engine

Seconds = Callable[[int, int], float]
"""Of a step of so many rows of answers, and of prompts."""

MACHINES: dict[str, Seconds] = {
    "every row is dear": lambda rows, prompts: 0.03 + 0.006 * (rows + prompts),
    "prompts are cheap, once there are many": lambda rows, prompts: (
        0.02 + 0.004 * rows + (0.02 + 0.0004 * prompts if prompts else 0)
    ),
    "a large model": lambda rows, prompts: 0.2 + 0.03 * rows + 0.04 * prompts,
    "a graphics processor": lambda rows, prompts: 0.005 + 1e-5 * (rows + prompts),
}
each_machine = pytest.mark.parametrize("seconds", MACHINES.values(), ids=MACHINES)


class Watch:
    """Time that passes only when a step runs: as long as `seconds` says. `steps` keeps what each
    took, with its rows of answers and of prompts."""

    def __init__(self, seconds: Seconds) -> None:
        self.now, self.seconds = 0.0, seconds
        self.steps: list[tuple[float, int, int]] = []

    def __call__(self) -> float:
        return self.now

    def engine(self, **limits: Any) -> Engine:
        engine, model = toy_engine(
            num_pages=4000, max_batch_tokens=512, max_sequences=16, clock=self, **limits
        )
        forward = model.forward

        def timed(batch: Any, cache: Any) -> Tensor:
            prompts = len(batch.token_ids) - batch.exact
            taken = self.seconds(batch.exact, prompts)
            self.now += taken
            self.steps.append((taken, batch.exact, prompts))
            return forward(batch, cache)

        model.forward = timed  # pyright: ignore[reportAttributeAccessIssue]
        return engine

    def allowed(self, rows: int) -> float:
        """What a step may take; or what it takes with the fewest rows that prompts get."""
        return max(2 * self.seconds(rows, 0), QUICK, self.seconds(rows, FLOOR))


@each_machine
@pytest.mark.parametrize("talkers", [1, 4, 15])
def test_beside_answers_prompts_make_a_step_twice_as_long_or_as_long_as_nobody_minds(
    seconds: Seconds, talkers: int
) -> None:
    watch = Watch(seconds)
    engine = watch.engine()
    for i in range(talkers):
        engine.submit(text(20, start=i), greedy(100), Listener())
    for _ in range(5):
        engine.step()
    engine.submit(text(7000, start=50), greedy(1), Listener())
    for _ in range(12):
        engine.step()
    settled = [step for step in watch.steps[10:] if step[2]]
    assert all(taken < 1.15 * watch.allowed(rows) for taken, rows, _ in watch.steps[5:] if rows)
    assert all(
        taken > 0.85 * watch.allowed(rows) or rows + prompts == 512
        for taken, rows, prompts in settled
    )


@each_machine
def test_a_burst_on_a_machine_that_nobody_knows_yet_keeps_no_answer_waiting(
    seconds: Seconds,
) -> None:
    watch = Watch(seconds)
    engine = watch.engine()
    for i in range(16):
        engine.submit(text(150, start=i), greedy(20), Listener())
    run(engine, checked=False)
    assert all(taken < 1.5 * watch.allowed(rows) for taken, rows, _ in watch.steps if rows)


def test_prompts_get_on_even_where_a_row_takes_longer_than_all_answers() -> None:
    watch = Watch(lambda rows, prompts: 0.1 + 1.0 * prompts)
    engine = watch.engine()
    engine.submit(text(4), greedy(100), Listener())
    for _ in range(3):
        engine.step()
    late = Listener()
    engine.submit(text(10 * FLOOR, start=9), greedy(1), late)
    for _ in range(10):
        assert not late.ended
        engine.step()
    assert late.ended


def test_a_disturbed_step_is_made_up_for_within_a_few() -> None:
    disturbed = [0.0]
    watch = Watch(lambda rows, prompts: 0.03 + 0.006 * (rows + prompts) + disturbed[0])
    engine = watch.engine()
    engine.submit(text(4), greedy(400), Listener())
    for _ in range(3):
        engine.step()
    engine.submit(text(3000, start=9), greedy(1), Listener())
    for _ in range(5):
        engine.step()
    disturbed[0] = 3.0
    engine.step()
    disturbed[0] = 0.0
    for _ in range(6):
        engine.step()
    assert all(0.9 * QUICK < taken < 1.15 * QUICK for taken, _, _ in watch.steps[-6:])


def test_pace_is_what_was_measured_a_line_between_and_flat_beyond() -> None:
    pace = Pace()
    assert pace.seconds(3) == 0
    pace.took(1, 2.0)
    pace.took(5, 4.0)
    assert [pace.seconds(rows) for rows in (1, 2, 3, 5, 50)] == [2.0, 2.5, 3.0, 4.0, 4.0]


def test_a_step_dearer_than_its_rows_one_by_one_is_not_believed() -> None:
    pace = Pace()
    pace.took(1, 0.044)
    pace.took(17, 0.996)
    assert pace.seconds(17) == pace.seconds(2) == 0.044
    pace.took(17, 0.158)
    assert pace.seconds(17) == 0.158


def test_one_disturbed_measurement_does_not_count() -> None:
    pace = Pace()
    for seconds in (2.0, 9.0, 2.1):
        pace.took(1, seconds)
    assert pace.seconds(1) == 2.0
    for _ in range(3):
        pace.took(1, 3.0)
    assert pace.seconds(1) == 3.0


def test_what_is_old_is_measured_again_and_at_last_forgotten() -> None:
    pace = Pace()
    pace.took(4, 1.0)
    assert pace.is_fresh(4)
    for _ in range(200):
        pace.took(9, 2.0)
    assert not pace.is_fresh(4)
    assert pace.seconds(4) == 1.0
    for _ in range(900):
        pace.took(9, 2.0)
    assert pace.seconds(4) == 2.0


def test_what_was_learnt_of_prompts_never_makes_a_step_shorter_than_nothing() -> None:
    pace = Pace()
    pace.took(1, 0.1)
    pace.took(1, 0.5, prompt_rows=10)  # so ten of them take 0.4 s
    pace.took(1, 0.05, prompt_rows=10)  # or so it seemed
    assert 0 < pace.seconds(1) <= 0.05


@pytest.mark.parametrize("seed", range(20))
def test_whatever_is_measured_seconds_are_more_than_none(seed: int) -> None:
    draw, pace = random.Random(seed), Pace()
    pace.took(1, 0.1)
    for _ in range(300):
        rows, prompts = draw.randint(0, 20), draw.choice((0, 1, 7, 500))
        pace.took(rows or 1, draw.lognormvariate(-3, 2), prompts)
        assert all(pace.seconds(n, prompts) > 0 for n in (1, rows + 1, 40))
        assert pace.prompt_rows(rows) >= FLOOR
