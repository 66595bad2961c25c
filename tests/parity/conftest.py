"""Every parity test says how far off it was: the figures are shown after the run."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

Measure = Callable[[str, Tensor, Tensor, float], None]

_measured = pytest.StashKey[list[tuple[str, float, float]]]()


@pytest.fixture
def measure(request: pytest.FixtureRequest) -> Measure:
    """`measure(what, ours, theirs, tolerance)`: the largest difference, noted and bounded."""

    def note(what: str, ours: Tensor, theirs: Tensor, tolerance: float) -> None:
        assert ours.shape == theirs.shape
        difference = (ours.float() - theirs.float()).abs().max().item()
        request.config.stash.setdefault(_measured, []).append((what, difference, tolerance))
        assert difference <= tolerance, f"{what}: off by {difference:.2e}"

    return note


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    rows = config.stash.get(_measured, [])
    if rows:
        terminalreporter.section("largest differences from the references")
    for what, difference, tolerance in rows:
        terminalreporter.line(f"{what:<64} {difference:.1e}  (allowed {tolerance:.1e})")
