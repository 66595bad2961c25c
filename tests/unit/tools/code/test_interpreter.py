"""Code that means no harm: state, values, errors, files and plots, in words that models know."""

import asyncio
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from puna.errors import StartupError, ToolFailed
from puna.settings import Settings
from puna.tools.code import code_interpreter
from puna.tools.code.child import Child
from puna.tools.code.interpreter import Interpreter
from puna.tools.code.ladder import choose, why_not
from puna.tools.code.rungs import LADDER, Limits, Rung
from puna.tools.tool import Session, Tool

LIMITS = Limits(seconds=20)
HELD = [rung for rung in LADDER if why_not(rung) is None]
WALLS = [rung for rung in HELD if rung.name != "monty"]

pytestmark = pytest.mark.skipif(not HELD, reason="no wall for code_interpreter holds here")


@pytest.fixture(params=WALLS, ids=lambda rung: rung.name, scope="module")
def rung(request: pytest.FixtureRequest) -> Rung:
    return request.param


@pytest.fixture
async def python(rung: Rung) -> AsyncIterator[Interpreter]:
    made = Interpreter(rung, LIMITS, True)
    yield made
    await made.close()


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("1 + 1", "completed\n[stdout]2[/stdout]"),
        ("x = 1", "completed"),
        ("None", "completed"),
        ("", "completed"),
        ("# nothing", "completed"),
        ("print('a')\n'b'", "completed\n[stdout]a\n'b'[/stdout]"),
        ("'日本', 'é', '\U0001f999'", "completed\n[stdout]('日本', 'é', '\U0001f999')[/stdout]"),
        ("print('\\ud800')", "completed\n[stdout]\\ud800[/stdout]"),
        ("import sys; print('x', file=sys.stderr)", "completed\n[stderr]x[/stderr]"),
        ("import os; _ = os.write(1, b'raw')", "completed\n[stdout]raw[/stdout]"),
        ("exit()", "completed"),
        ("import sys; sys.exit(3)", "failed"),
        ("print('[/stdout]')", "completed\n[stdout][/stdout][/stdout]"),
        ("import json, re, math, datetime, random, statistics, csv, decimal", "completed"),
    ],
)
async def test_a_call_says_what_the_prompt_would(python: Interpreter, code: str, said: str) -> None:
    assert (await python.run(code)).text == said


async def test_names_imports_and_files_are_kept_from_call_to_call(python: Interpreter) -> None:
    await python.run("import math\ndef area(r): return math.pi * r * r\nx = 2")
    await python.run("open('kept.txt', 'w').write('kept')\nimport os; os.mkdir('d'); os.chdir('d')")
    output = await python.run("round(area(x)), open('../kept.txt').read()")
    assert output.text.startswith("completed\n[stdout](13, 'kept')[/stdout]")


async def test_an_error_shows_its_line_and_keeps_the_state(python: Interpreter) -> None:
    await python.run("x = 0")
    output = await python.run("def f():\n    return 1 / x\nf()")
    assert output.text.startswith(
        'failed\n[stderr]Traceback (most recent call last):\n  File "<call'
    )
    assert "    return 1 / x\n" in output.text
    assert output.text.endswith("ZeroDivisionError: division by zero[/stderr]")
    assert "guest" not in output.text
    assert "0" in (await python.run("x")).text


@pytest.mark.parametrize(
    ("code", "error"),
    [
        ("x =", "SyntaxError"),
        ("def f(:", "SyntaxError"),
        ("  x", "IndentationError"),
        ("\0", "null bytes"),
        ("import nothing_of_the_kind", "ModuleNotFoundError"),
        ("input()", "EOFError"),
        ("(" * 5000, "SyntaxError"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise BaseException('base')", "base"),
        ("def f(): f()\nf()", "RecursionError"),
        ("'x' * 10**12", "MemoryError"),
    ],
)
async def test_what_fails_is_told_and_the_next_call_works(
    python: Interpreter, code: str, error: str
) -> None:
    output = await python.run(code)
    assert output.text.startswith("failed")
    assert error in output.text
    assert (await python.run("2 + 2")).text == "completed\n[stdout]4[/stdout]"


async def test_long_output_is_cut_with_a_note(python: Interpreter) -> None:
    text = (await python.run("print('first'); print('x' * 10**6); print('last')")).text
    assert len(text) < 11_000
    assert "[stdout]first\nxxx" in text
    assert "bytes left out ...]" in text
    assert text.endswith("xxx\nlast[/stdout]")
    assert "bytes left out" in (await python.run("list(range(10**6))")).text


async def test_new_and_changed_files_come_out_once(python: Interpreter) -> None:
    first = await python.run("open('a.csv', 'w').write('1'); import os; os.mkdir('d')")
    assert [(file.name, file.media_type, file.data) for file in first.files] == [
        ("a.csv", "text/csv", b"1")
    ]
    assert first.text.endswith("Files for the user: a.csv (1 bytes)")
    second = await python.run("open('a.csv', 'a').write('2'); open('d/b.txt', 'w').write('b')")
    assert {file.name: file.data for file in second.files} == {"a.csv": b"12", "d_b.txt": b"b"}
    assert (await python.run("1")).files == ()


async def test_links_pipes_and_what_is_too_much_do_not_come_out(python: Interpreter) -> None:
    output = await python.run(
        "import os, sys\n"
        "os.symlink(os.__file__, 'library.py'); os.symlink('/', 'root')\n"
        "try: os.mkfifo('pipe')\n"
        "except OSError: pass\n"
        "open('ok.txt', 'w').write('ok')\n"
    )
    assert [file.name for file in output.files] == ["ok.txt"]
    many = await python.run("for i in range(30): _ = open(f'{i:02}.txt', 'w').write('x')")
    assert len(many.files) == LIMITS.files
    assert "Files not handed over, too many or too large: 16.txt, " in many.text
    large = await python.run("_ = open('large', 'wb').write(bytes(20 * 2**20))")
    assert large.files == ()
    assert "too large: large" in large.text


async def test_open_figures_come_out_as_png(python: Interpreter) -> None:
    pytest.importorskip("matplotlib")
    code = "import matplotlib.pyplot as plt\nplt.plot([1, 3, 2])\nplt.title('é')\nplt.show()"
    output = await python.run(code)
    assert [file.media_type for file in output.files] == ["image/png"]
    assert output.files[0].data.startswith(b"\x89PNG")
    assert "[stderr]" not in output.text
    assert (await python.run("1")).files == ()


async def test_packages_of_puna_can_be_imported_unless_switched_off(rung: Rung) -> None:
    for packages, said in ((True, "completed"), (False, "failed")):
        python = Interpreter(rung, LIMITS, packages)
        assert (await python.run("import sympy")).text.startswith(said)
        await python.close()


async def test_after_a_killed_call_the_next_says_that_the_state_is_lost(rung: Rung) -> None:
    python = Interpreter(rung, replace(LIMITS, seconds=0.5), False)
    await python.run("x = 1")
    with pytest.raises(ToolFailed, match=r"longer than 0\.5 seconds\. Names and files are lost"):
        await python.run("print('so far', flush=True)\nwhile True: pass")
    after = (await python.run("print('x' in globals())")).text
    assert "[stdout]False[/stdout]" in after
    assert after.endswith(
        "The interpreter was started anew: names and files of earlier calls are gone."
    )
    assert "anew" not in (await python.run("1")).text
    await python.close()


FILL = """
kept, size = [], 2**20
while size:
    try:
        while True:
            kept.append(bytearray(size))
    except MemoryError:
        size //= 2
"""


async def test_code_that_keeps_all_memory_ends_its_interpreter_not_the_next_calls(
    rung: Rung,
) -> None:
    python = Interpreter(rung, replace(LIMITS, memory=2**28), False)
    await python.run("x = 1")
    with pytest.raises(ToolFailed) as told:
        await python.run("print('so far')" + FILL)
    assert told.value.message == (
        "failed\n[stdout]so far[/stdout]\nStopped: its memory is used up. Names and files are lost."
    )
    after = (await python.run("print('x' in globals())")).text
    assert after.startswith("completed\n[stdout]False[/stdout]")
    assert "started anew" in after
    await python.close()


@pytest.mark.parametrize(
    "code",
    [
        "'x' * 10**12",
        "def f():" + FILL.replace("\n", "\n    ") + "\nf()",
        "def f():\n    ring = []\n    ring.append(ring)\n"
        "    while True: ring.append(bytearray(2**20))\nf()",
    ],
    ids=["too much at once", "let go", "let go in a ring"],
)
async def test_memory_that_is_not_kept_costs_no_names(rung: Rung, code: str) -> None:
    python = Interpreter(rung, replace(LIMITS, memory=2**28), False)
    await python.run("x = 1")
    await python.run(code)
    assert (await python.run("x")).text == "completed\n[stdout]1[/stdout]"
    await python.close()


async def test_what_was_printed_before_the_end_is_not_lost(rung: Rung) -> None:
    python = Interpreter(rung, replace(LIMITS, seconds=0.5), False)
    with pytest.raises(ToolFailed, match=r"\[stdout\]so far\[/stdout\]"):
        await python.run("print('so far')\nwhile True: pass")
    await python.close()


async def test_calls_of_one_conversation_wait_for_each_other(python: Interpreter) -> None:
    calls = [python.run(f"xs = globals().get('xs', []) + [{i}]; len(xs)") for i in range(4)]
    said = [output.text for output in await asyncio.gather(*calls)]
    assert [text[-10:-9] for text in said] == ["1", "2", "3", "4"]


async def test_a_call_that_waits_can_be_cancelled_without_harm_to_the_one_that_runs(
    python: Interpreter,
) -> None:
    runs = asyncio.create_task(python.run("import time; time.sleep(0.4); 'done'"))
    await asyncio.sleep(0.1)
    waits = asyncio.create_task(python.run("1"))
    await asyncio.sleep(0.05)
    waits.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waits
    assert "done" in (await runs).text


async def test_it_outlives_the_event_loop_of_its_first_call(rung: Rung) -> None:
    python = Interpreter(rung, LIMITS, False)
    await asyncio.to_thread(asyncio.run, python.run("x = 5"))
    assert "5" in (await python.run("x")).text
    await python.close()


@pytest.mark.skipif(not HELD or HELD[-1].name != "monty", reason="pydantic-monty is not here")
async def test_monty_keeps_names_shows_values_and_tells_errors() -> None:
    monty = Interpreter(HELD[-1], LIMITS, True)
    assert (
        await monty.run("x = 3\nprint('hé')\nx + 1")
    ).text == "completed\n[stdout]hé\n4[/stdout]"
    assert (await monty.run("x")).text == "completed\n[stdout]3[/stdout]"
    assert "ZeroDivisionError" in (await monty.run("1 / 0")).text
    assert "SyntaxError" in (await monty.run("def f(")).text
    assert (await monty.run("x")).source == "Monty, a restricted Python"
    await monty.close()


@pytest.mark.skipif(not HELD or HELD[-1].name != "monty", reason="pydantic-monty is not here")
async def test_monty_that_finds_no_memory_keeps_its_names() -> None:
    monty = Interpreter(HELD[-1], replace(LIMITS, memory=2**29), True)
    await monty.run("x = 1")
    said = await monty.run("kept = []\nwhile True: kept.append('x' * 2**20 + str(len(kept)))")
    assert "MemoryError" in said.text
    assert (await monty.run("x")).text == "completed\n[stdout]1[/stdout]"
    await monty.close()


def tool(**settings: object) -> Tool:
    return code_interpreter(Settings.model_validate(settings))


async def test_each_session_has_its_own_interpreter_and_closes_it() -> None:
    made, one, other = tool(), Session(), Session()
    await made.run({"code": "x = 1"}, one)
    assert "NameError" in (await made.run({"code": "x"}, other)).text
    output = await made.run({"code": "x"}, one)
    assert "[stdout]1[/stdout]" in output.text
    assert output.source == HELD[0].label
    await one.close()
    await other.close()


async def test_code_that_is_too_long_is_refused() -> None:
    session = Session()
    with pytest.raises(ToolFailed, match="at most 100000"):
        await tool().run({"code": "#" * 100_001}, session)
    await session.close()


def test_a_demanded_wall_is_had_or_refused_with_what_to_install(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for rung in HELD:
        assert choose(rung.name, True) is rung
    monkeypatch.setattr("shutil.which", lambda *_: None)
    with pytest.raises(StartupError, match="install bubblewrap"):
        tool(code_sandbox="bubblewrap")
    if len(HELD) > 1:
        assert choose("auto", True) is not LADDER[0]


def test_where_no_wall_holds_it_is_refused_and_each_reason_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(self: Child, rung: Rung, *_: object) -> None:
        raise StartupError(f"{rung.name} is out of order")

    monkeypatch.setattr(Child, "__init__", fail)
    with pytest.raises(StartupError) as told:
        tool()
    for rung in LADDER:
        assert f"{rung.name} is out of order; {rung.remedy}" in told.value.message


def test_doctor_names_the_wall_that_holds() -> None:
    from puna.cli.doctor import _sandboxes

    found = list(_sandboxes())
    assert (found[-1].state, found[-1].found) == ("ok", HELD[0].label)


@pytest.fixture
def passable() -> Iterator[Path]:
    """An empty folder for temporary files that others may pass, as /tmp."""
    folder = Path(tempfile.mkdtemp(prefix="puna-test-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder)


@pytest.mark.skipif(sys.platform != "linux", reason="counts descriptors in /proc")
async def test_interpreters_leave_no_descriptor_and_no_folder_behind(
    rung: Rung, passable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def once() -> None:
        python = Interpreter(rung, LIMITS, False)
        await python.run("open('x', 'w').write('x')")
        await python.close()

    monkeypatch.setattr("tempfile.tempdir", str(passable))
    await once()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        await once()
    assert len(os.listdir("/proc/self/fd")) == before
    assert os.listdir(passable) == []


FORGOTTEN = """
import asyncio, sys, tempfile
tempfile.tempdir = sys.argv[2]
from puna.tools.code.interpreter import Interpreter
from puna.tools.code.rungs import LADDER, Limits
rung = next(rung for rung in LADDER if rung.name == sys.argv[1])
kept = Interpreter(rung, Limits(), False)
asyncio.run(kept.run("open('x', 'w').write('x')"))
"""


def test_one_that_nobody_closes_leaves_nothing_when_puna_ends(rung: Rung, passable: Path) -> None:
    asked = [sys.executable, "-c", FORGOTTEN, rung.name, str(passable)]
    subprocess.run(asked, check=True, timeout=60)
    assert os.listdir(passable) == []
