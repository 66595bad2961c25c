from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import date
from typing import Any

import pytest

from puna.tools.mathematics import child as child_module
from puna.tools.mathematics.child import GaveUp, Mathematicians

TODAY = date(2026, 11, 23)
SLOW = "factor 2^401-1"


@pytest.fixture
def people() -> Iterator[Mathematicians]:
    made = Mathematicians(seconds=20)
    yield made
    made.close()


def children() -> set[int]:
    found = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())], capture_output=True, text=True
    )
    lines = found.stdout.splitlines()
    return {int(line.split()[0]) for line in lines if "mathematics.worker" in line}


async def test_a_warm_child_is_used_again(people: Mathematicians) -> None:
    assert not children()
    assert (await people.ask("2+2", TODAY))["pods"][1]["subpods"][0]["plaintext"] == "4"
    first = children()
    begin = time.monotonic()
    assert "unknown" in await people.ask("no formula", TODAY)
    assert time.monotonic() - begin < 1
    assert children() == first
    assert len(first) == 1


async def test_what_takes_too_long_is_ended_and_the_next_question_answered() -> None:
    people = Mathematicians(seconds=1)
    try:
        await people.ask("2+2", TODAY)
        before = children()
        begin = time.monotonic()
        with pytest.raises(GaveUp, match="longer than 1 seconds"):
            await people.ask(SLOW, TODAY)
        assert time.monotonic() - begin < 5
        assert not children() & before
        people._seconds = 20
        assert "pods" in await people.ask("2+2", TODAY)
    finally:
        people.close()
    assert not children()


async def test_a_cancelled_question_ends_its_child(people: Mathematicians) -> None:
    await people.ask("2+2", TODAY)
    task = asyncio.create_task(people.ask(SLOW, TODAY))
    await asyncio.sleep(0.3)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    for _ in range(100):
        if not children():
            break
        await asyncio.sleep(0.05)
    assert not children()
    assert "pods" in await people.ask("2+2", TODAY)


async def test_several_questions_at_once_share_two_children(people: Mathematicians) -> None:
    found = await asyncio.gather(*(people.ask(f"{n}+1", TODAY) for n in range(5)))
    values = [one["pods"][1]["subpods"][0]["plaintext"] for one in found]
    assert values == ["1", "2", "3", "4", "5"]
    assert len(children()) <= 2


def shut_in(program: str) -> str:
    """What a hole in the grammar could do: the program runs where questions are answered."""
    prepared = (
        "import sys; sys.setrecursionlimit(3000)\n"
        "from puna.tools.mathematics import worker\n"
        "from puna.tools.mathematics.questions import answer_question\n"
        "import socket, subprocess, os\n"
        "worker._shut_in()\n"
    )
    run = [sys.executable, "-I", "-c", prepared + program]
    ended = subprocess.run(run, capture_output=True, text=True, env={}, cwd="/", timeout=120)
    return ended.stdout + ended.stderr


HOLES = [
    "open('/tmp/puna-hole', 'w')",
    "os.open('/tmp/puna-hole', os.O_CREAT)",
    "socket.socket()",
    "subprocess.run(['id'])",
    "os.fork()",
    "os.system('id')",
    "os.remove('/tmp/puna-none')",
    "os.kill(1, 0)",
    "__import__('ctypes').CDLL(None)",
]


def test_behind_the_grammar_stands_a_second_wall() -> None:
    trying = "for hole in HOLES:\n  try: eval(hole)\n  except PermissionError: print('refused')\n"
    assert shut_in(f"HOLES = {HOLES!r}\n{trying}").split() == ["refused"] * len(HOLES)


def test_memory_is_bounded() -> None:
    assert "MemoryError" in shut_in("x = bytearray(2**31)")


def test_time_is_bounded_even_if_nobody_is_left_to_end_it() -> None:
    begin = time.monotonic()
    shut_in("worker._limit_time(0)\nwhile True: pass")
    assert time.monotonic() - begin < 60


def test_the_child_inherits_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    real = subprocess.Popen
    monkeypatch.setenv("BRAVE_API_KEY", "secret")
    monkeypatch.setattr(
        child_module.subprocess,
        "Popen",
        lambda *args, **fields: made.append(fields) or real(*args, **fields),
    )
    one = child_module._Child()
    one.end()
    assert made[0]["env"] == {}
    assert made[0]["cwd"] == "/"
