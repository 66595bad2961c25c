"""The walls of code_interpreter against code that wants out, and code that does not want to stop.

Each wall that this machine has is tried: as the user who runs the tests and, where that is root, as
nobody too. What a machine lacks is told as skipped tests.
"""

import asyncio
import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from puna.tools.code.interpreter import Interpreter
from puna.tools.code.ladder import why_not
from puna.tools.code.rungs import LADDER, Limits
from tests.e2e.escapes import ESCAPES, FORGERIES, MONTY_WAYS, PROCESS_WAYS, WAYS
from tests.e2e.sandbox_runs import Traces, answer, forgeries, rung_called, said

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Linux's walls")

ROOT = Path(__file__).parents[2]
NOBODY = 65534
EVERY_WAY = {**WAYS, **PROCESS_WAYS}
# as another user a part is enough: what stops them is the same
AS_NOBODY = {name: EVERY_WAY[name] for name in [*list(WAYS)[::12], *PROCESS_WAYS]}
WALLS = ("bubblewrap", "landlock")


@cache
def missing(rung: str) -> str | None:
    return why_not(rung_called(rung))


def need(rung: str) -> None:
    if reason := missing(rung):
        pytest.skip(f"{rung}: {reason}")


class Outside:
    """What code must not reach: a file, sockets that count who comes, and this process."""

    def __init__(self, folder: Path) -> None:
        folder.chmod(0o755)
        for parent in folder.parents[:-1]:
            if parent.stat().st_uid == os.getuid() and parent != Path("/tmp"):
                parent.chmod(parent.stat().st_mode | 0o055)
        self.canary = folder / "canary.txt"
        self.canary.write_text("CANARY")
        self.canary.chmod(0o666)  # only the wall keeps it
        self.before = self.canary.stat()
        self.visitors: list[str] = []
        self.sockets: list[socket.socket] = []
        unix, abstract = str(folder / "socket"), f"puna-canary-{os.getpid()}"
        self.tcp = self._listen(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))
        self.udp = self._listen(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", 0))
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, unix)
        os.chmod(unix, 0o777)
        self._listen(socket.AF_UNIX, socket.SOCK_STREAM, "\0" + abstract)
        self.told: dict[str, Any] = {
            "canary": str(self.canary),
            "checkout": str(ROOT / "README.md"),
            "tcp": self.tcp.getsockname()[1],
            "udp": self.udp.getsockname()[1],
            "unix": unix,
            "abstract": abstract,
            "pid": os.getpid(),
        }

    def _listen(self, family: int, kind: int, address: Any) -> socket.socket:
        there = socket.socket(family, kind)
        there.bind(address)
        if kind == socket.SOCK_STREAM:
            there.listen()
        self.sockets.append(there)
        threading.Thread(target=self._serve, args=(there, kind), daemon=True).start()
        return there

    def _serve(self, there: socket.socket, kind: int) -> None:
        try:
            while True:
                came = there.accept()[1] if kind == socket.SOCK_STREAM else there.recv(9)
                self.visitors.append(f"{kind}: {came!r}")
        except OSError:
            return

    def close(self) -> None:
        for there in self.sockets:
            there.close()

    def untouched(self) -> None:
        now = self.canary.stat()
        assert self.canary.read_text() == "CANARY"
        assert (now.st_mode, now.st_uid, now.st_mtime, now.st_ino) == (
            self.before.st_mode,
            self.before.st_uid,
            self.before.st_mtime,
            self.before.st_ino,
        )
        assert sorted(path.name for path in self.canary.parent.iterdir()) == [
            "canary.txt",
            "socket",
        ]
        assert self.visitors == []


@pytest.fixture(scope="module")
def outside(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Outside]:
    made = Outside(tmp_path_factory.mktemp("outside"))
    os.environ["PUNA_TEST_SECRET"] = "CANARY"
    yield made
    del os.environ["PUNA_TEST_SECRET"]
    made.close()


def nobodys_python() -> str:
    """A Python and sources that nobody may read too."""
    for python in (os.path.realpath(sys.executable), "/usr/bin/python3"):
        with contextlib.suppress(OSError):
            tried = subprocess.run(
                [python, "-c", "import tests.e2e.sandbox_runs"],
                user=NOBODY,
                group=NOBODY,
                extra_groups=[],
                cwd="/",
                env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"},
                capture_output=True,
                check=False,
            )
            if tried.returncode == 0:
                return python
    pytest.skip("no Python or no checkout here that nobody may read")


@cache
def results(rung: str, user: str, what: str, told: str) -> dict[str, Any]:
    """All runs of a kind behind one wall, once."""
    ways = EVERY_WAY if user == "me" else AS_NOBODY
    job = {"rung": rung, **({"outside": json.loads(told)} if what == "escapes" else {})}
    job["ways"] = list(ways.items()) if what == "ways" else []
    if user == "me":
        return asyncio.run(answer(job))[what]
    done = subprocess.run(
        [nobodys_python(), "-m", "tests.e2e.sandbox_runs"],
        input=json.dumps(job),
        user=NOBODY,
        group=NOBODY,
        extra_groups=[],
        cwd="/",
        env={"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}", "PUNA_TEST_SECRET": "CANARY"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)[what]


def result(rung: str, user: str, what: str, outside: Outside) -> dict[str, Any]:
    need(rung)
    if user == "nobody" and os.geteuid() != 0:
        pytest.skip("only root can run the tests as nobody too")
    return results(rung, user, what, json.dumps(outside.told))


@pytest.mark.parametrize("user", ["me", "nobody"])
@pytest.mark.parametrize("rung", WALLS)
@pytest.mark.parametrize("name", ESCAPES)
def test_code_does_not_get_out(rung: str, user: str, name: str, outside: Outside) -> None:
    printed = result(rung, user, "escapes", outside)[name]
    assert "ESCAPED" not in printed
    if name == "cannot make 32-bit system calls":
        assert "tried" in printed
        assert "SIGSYS" in printed
    elif name != "changes nothing of a file outside":
        assert printed.count("refused") >= 1, printed
        assert printed.startswith("completed"), printed  # else not all of it was tried
    outside.untouched()


@pytest.mark.parametrize("rung", WALLS)
@pytest.mark.parametrize("name", EVERY_WAY)
def test_code_that_will_not_stop_is_gone(rung: str, name: str, outside: Outside) -> None:
    found = result(rung, "me", "ways", outside)[name]
    assert found["left"] == []
    assert "next 4" in found["next"]
    assert found["took"] < 10


@pytest.mark.parametrize("rung", WALLS)
@pytest.mark.parametrize("name", AS_NOBODY)
def test_as_an_ordinary_user_it_is_gone_too(rung: str, name: str, outside: Outside) -> None:
    found = result(rung, "nobody", "ways", outside)[name]
    assert found["left"] == []
    assert "next 4" in found["next"]


@pytest.fixture(scope="module")
def montys() -> dict[str, Any]:
    need("monty")
    them = {name: WAYS[name] for name in MONTY_WAYS}
    return asyncio.run(answer({"rung": "monty", "ways": list(them.items())}))["ways"]


@pytest.mark.parametrize("name", MONTY_WAYS)
def test_monty_that_will_not_stop_is_gone(name: str, montys: dict[str, Any]) -> None:
    assert montys[name]["left"] == []
    assert "next 4" in montys[name]["next"]


@pytest.mark.parametrize(
    "code",
    [
        "open({canary!r}).read()",
        "from pathlib import Path\nPath({canary!r}).read_text()",
        "import os\nos.environ['PUNA_TEST_SECRET']",
        "import os\nos.listdir('/')",
        "import socket",
        "import subprocess",
        "import ctypes",
        "__import__('os').system('id')",
        "().__class__.__base__.__subclasses__()",
        "open({canary!r}, 'w').write('x')",
    ],
)
async def test_monty_gives_code_nothing_of_the_machine(code: str, outside: Outside) -> None:
    need("monty")
    interpreter = Interpreter(rung_called("monty"), Limits(seconds=5), True)
    printed = await said(interpreter, code.format(canary=str(outside.canary)))
    await interpreter.close()
    assert printed.startswith("failed")
    assert "CANARY" not in printed
    outside.untouched()


@cache
def forged(rung: str) -> dict[str, tuple[str, str]]:
    return asyncio.run(forgeries(rung_called(rung)))


@pytest.mark.parametrize("rung", WALLS)
@pytest.mark.parametrize("name", FORGERIES)
def test_forged_messages_cost_the_interpreter_its_life_and_puna_nothing(
    rung: str, name: str
) -> None:
    need(rung)
    ended, following = forged(rung)[name]
    assert "broke the protocol" in ended
    assert "[stdout]4[/stdout]" in following


VICTIM = """
import asyncio, sys
from puna.tools.code.interpreter import Interpreter
from puna.tools.code.rungs import LADDER, Limits
from puna.tools.code.processes import below
import os

async def main():
    rung = next(rung for rung in LADDER if rung.name == sys.argv[1])
    interpreter = Interpreter(rung, Limits(seconds=3), False)
    await interpreter.run("1")
    print(*(found.pid for found in below(os.getpid())), flush=True)
    await interpreter.run("while True: pass")

asyncio.run(main())
"""


@pytest.mark.parametrize("rung", [rung.name for rung in LADDER])
def test_nothing_survives_the_death_of_puna(rung: str) -> None:
    need(rung)
    victim = subprocess.Popen(
        [sys.executable, "-c", VICTIM, rung], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert victim.stdout
    pids = [int(word) for word in victim.stdout.readline().split()]
    assert pids
    time.sleep(0.2)
    victim.send_signal(signal.SIGKILL)
    victim.wait()
    victim.stdout.close()
    until = time.monotonic() + 10
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < until, "it lives on"
        time.sleep(0.02)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


@pytest.mark.parametrize("rung", [rung.name for rung in LADDER])
async def test_cancelling_a_call_ends_it_at_once(rung: str) -> None:
    need(rung)
    interpreter = Interpreter(rung_called(rung), Limits(), False)
    await interpreter.run("1")
    traces = Traces(interpreter)
    call = asyncio.create_task(interpreter.run("while True: pass"))
    await asyncio.sleep(0.3)
    call.cancel()
    began = time.monotonic()
    with pytest.raises(asyncio.CancelledError):
        await call
    assert time.monotonic() - began < 5
    assert traces.living() == []
    assert "started anew" in (await interpreter.run("print(1)")).text
    traces.close()
    await interpreter.close()


@pytest.mark.parametrize("rung", WALLS)
async def test_between_calls_nothing_runs(rung: str) -> None:
    need(rung)
    interpreter = Interpreter(rung_called(rung), Limits(), False)
    spin = "import threading\ndef f():\n  while 1: pass\nthreading.Thread(target=f).start()"
    assert (await interpreter.run(spin)).text == "completed"
    child = interpreter._child
    assert child
    await asyncio.sleep(0.1)
    before = time_of(child._process.pid)
    await asyncio.sleep(0.5)
    assert time_of(child._process.pid) - before < 0.1
    await interpreter.close()


def time_of(pid: int) -> float:
    from puna.tools.code.processes import below, process

    itself = process(pid)
    return sum(one.cpu_seconds for one in [*below(pid), *([itself] if itself else [])])
