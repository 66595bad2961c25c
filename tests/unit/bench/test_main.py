"""Parts that run one after the other, whatever becomes of each."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from bench import __main__ as bench
from bench.__main__ import Part, measure, run


@pytest.fixture
def parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of modules that can be parts; each writes a file of its name when it has run."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (tmp_path / "good.py").write_text("import sys; open(sys.argv[1], 'w').close()")
    (tmp_path / "bad.py").write_text("raise SystemExit(3)")
    (tmp_path / "slow.py").write_text(
        "import subprocess, sys, time\n"
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "open(sys.argv[1], 'w').write(str(child.pid))\n"
        "time.sleep(60)"
    )
    return tmp_path


def test_a_part_that_fails_does_not_stop_the_next(
    parts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written = parts / "written"
    monkeypatch.setattr(
        bench, "PARTS", {"a": Part(1, ["bad"]), "b": Part(1, ["good", str(written)])}
    )
    assert measure(["a", "b"], None, limited=True) == ["a ended with status 3"]
    assert written.exists()


def test_a_part_that_takes_too_long_is_ended_with_all_that_it_started(parts: Path) -> None:
    told = parts / "child"
    started = time.monotonic()
    assert run(["slow", str(told)], 2) == "given up after 2 s"
    assert time.monotonic() - started < 30
    child = Path(f"/proc/{told.read_text()}/stat")
    deadline = time.monotonic() + 10
    while child.exists() and child.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < deadline, f"{child} lives on in {os.getpid()}'s time"
        time.sleep(0.05)


def test_rounds_are_handed_on_to_every_part(parts: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (parts / "tells.py").write_text("import sys; raise SystemExit(int(sys.argv[2]))")
    monkeypatch.setattr(bench, "PARTS", {"a": Part(1, ["tells"])})
    assert measure(["a"], 7, limited=False) == ["a ended with status 7"]
