"""The other side: runs code in a child process and tells Puna how it went. Not imported by Puna.

It is given to a bare interpreter as text, with the two small modules that it names; beside them it
imports the standard library alone. It shares its process with the code that it runs, so nothing it
says can be trusted: it only makes honest code comfortable. The walls are those of its process (see
`rungs.py`), and what comes out of it is read by `child.py` as anyone's bytes.

Standard input brings frames: 4 bytes of length, then code as UTF-8. Standard output and error are
the code's own. `control` takes frames of 1 byte of kind, 4 bytes of length and the payload:
R ready, F a file (2 bytes of length, name, data), N a note for the model, D done (1 went well).
Its exit code USED_UP says that its memory is: that can be said without any.
"""

from __future__ import annotations

import ast
import contextlib
import gc
import io
import linecache
import os
import signal
import stat
import sys
import traceback
import types
import warnings
from typing import Any, TextIO

from puna.tools.code.confine import become, enter, opened_folders, ruleset, within_reach
from puna.tools.limits import die_with_parent, limit_process, step_back

Config = dict[str, Any]

MOST_ENTRIES = 10_000
MOST_FIGURES = 16
ROOM = 2**20
USED_UP = 113  # child.py knows it too
FIGURE_NOTICE = ".*non-interactive, and thus cannot be shown"


def main(config: Config) -> None:
    """Serve calls until standard input ends. `config` is what `rungs.py` says of this child."""
    try:
        serve(config)
    except MemoryError:
        os._exit(USED_UP)
    os._exit(0)


def serve(config: Config) -> None:
    me = os.getpid()
    requests, out, err, control = os.dup(0), os.dup(1), os.dup(2), config["control"]
    os.set_inheritable(control, False)
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.chdir(config["scratch"])
    lock(config)
    evaluate = Monty(config) if config["language"] == "monty" else Python(config)
    scratch = Scratch(config)
    write_frame(control, b"R")
    while (code := read_frame(requests)) is not None:
        for private, public in ((out, 1), (err, 2)):
            os.dup2(private, public)
        sys.stdout, sys.stderr = stream(1), stream(2)
        sys.stdin = open(os.devnull, encoding="utf-8")  # noqa: SIM115
        good = evaluate(code)
        for written in (sys.stdout, sys.stderr):
            with contextlib.suppress(BaseException):
                written.flush()
        if os.getpid() != me:
            os._exit(0)  # the code forked, and this is the copy
        if config["end_others"]:
            with contextlib.suppress(OSError):
                os.kill(-1, signal.SIGKILL)  # in a name space of its own: what the code started
        need_room()
        for name, data in evaluate.figures():
            send_file(control, name, data)
        with contextlib.suppress(RecursionError):
            scratch.send_new(control)
        write_frame(control, b"D", b"1" if good else b"0")


def need_room() -> None:
    """MemoryError if what the code keeps leaves too little for even a small call."""
    try:
        bytes(ROOM)
    except MemoryError:
        gc.collect()  # what it no longer keeps may be all that is in the way
        bytes(ROOM)


def lock(config: Config) -> None:
    """Limits, then another user, then the walls, whichever of them `config` names."""
    step_back()
    limit_process(**config["limits"])
    walls, path = config["walls"], [*sys.path, *config["packages"]]
    rules = ruleset(walls["readable"], walls["writable"]) if walls else None
    if config["become"] is not None:
        opened = opened_folders(path) if walls else {}
        become(config["become"])
        if walls:
            path = move(within_reach(opened))
    if config["parent"]:
        die_with_parent(config["parent"])
    if rules is not None:
        enter(rules, bytes.fromhex(walls["program"]))
    sys.path[:] = path
    sys.path_importer_cache.clear()
    for name in [name for name in sys.modules if name.startswith("puna.")]:
        del sys.modules[name]


def move(places: dict[str, str]) -> list[str]:
    """The folders to import from, where they now are; packages already imported follow."""
    for module in list(sys.modules.values()):
        for index, folder in enumerate(getattr(module, "__path__", ())):
            for old, new in places.items():
                if folder.startswith(old + "/"):
                    module.__path__[index] = new + folder[len(old) :]
                    break
    return list(places.values())


def stream(number: int) -> TextIO:
    raw: Any = io.FileIO(number, "w", closefd=False)  # no buffer: what is written is out at once
    return io.TextIOWrapper(raw, "utf-8", "backslashreplace", newline="\n", write_through=True)


def read_exactly(number: int, length: int) -> bytes | None:
    data = b""
    while len(data) < length:
        piece = os.read(number, length - len(data))
        if not piece:
            return None
        data += piece
    return data


def read_frame(number: int) -> str | None:
    head = read_exactly(number, 4)
    body = None if head is None else read_exactly(number, int.from_bytes(head, "big"))
    return None if body is None else body.decode("utf-8", "surrogatepass")


def write_frame(number: int, kind: bytes, *payload: bytes) -> None:
    length = sum(map(len, payload))
    for piece in (kind + length.to_bytes(4, "big"), *payload):
        view = memoryview(piece)
        while view:
            view = view[os.write(number, view) :]


def send_file(control: int, name: str, data: bytes) -> None:
    encoded = name.encode("utf-8", "surrogateescape")
    if len(encoded) < 1000:
        write_frame(control, b"F", len(encoded).to_bytes(2, "big"), encoded, data)


class Python:
    """CPython itself: one name space for all calls, as in an interactive session."""

    def __init__(self, config: Config) -> None:
        self.calls = 0
        self.main = types.ModuleType("__main__")
        sys.modules["__main__"] = self.main
        sys.argv = [""]
        warnings.filterwarnings("ignore", message=FIGURE_NOTICE)
        with contextlib.suppress(ImportError):
            import site

            site.setquit()
            site.sethelper()

    def __call__(self, code: str) -> bool:
        """Run `code`; the value of a last expression is shown as at the prompt."""
        self.calls += 1
        name = f"<call {self.calls}>"
        try:
            linecache.cache[name] = (len(code), None, code.splitlines(True), name)
            tree = ast.parse(code, name)
            last = tree.body[-1] if tree.body else None
            if isinstance(last, ast.Expr):
                tree.body.pop()
            exec(compile(tree, name, "exec"), self.main.__dict__)
            if isinstance(last, ast.Expr):
                asked = compile(ast.Expression(last.value), name, "eval")
                sys.displayhook(eval(asked, self.main.__dict__))
        except SystemExit as left:
            return not left.code
        except BaseException as error:
            self.show(error, name)
            return False
        return True

    def show(self, error: BaseException, name: str) -> None:
        trace = error.__traceback__
        while trace and trace.tb_frame.f_code.co_filename != name:
            trace = trace.tb_next
        with contextlib.suppress(BaseException):
            traceback.print_exception(type(error), error, trace, limit=-20)

    def figures(self) -> list[tuple[str, bytes]]:
        """The open figures of matplotlib, as PNG; then they are closed, as in a notebook."""
        found: list[tuple[str, bytes]] = []
        pyplot: Any = sys.modules.get("matplotlib.pyplot")
        if pyplot is None:
            return found
        with contextlib.suppress(BaseException):
            for number in pyplot.get_fignums()[:MOST_FIGURES]:
                page = io.BytesIO()
                pyplot.figure(number).savefig(page, format="png")
                found.append((f"figure-{self.calls}-{number}.png", page.getvalue()))
        with contextlib.suppress(BaseException):
            pyplot.close("all")
        return found


class Monty:
    """Pydantic's Monty: a small Python without files, network, processes and most packages."""

    def __init__(self, config: Config) -> None:
        import pydantic_monty

        self.errors = pydantic_monty.MontyError
        self.pool = pydantic_monty.Monty(binary_path=config["monty"], max_processes=1).__enter__()
        self.session = self.pool.checkout(
            limits={
                # Puna ends it sooner; this is for the day when Puna itself is gone
                "max_feed_duration_secs": config["seconds"] + 1,
                "max_memory": config["memory"],
                "max_suspensions": 100_000,
            }
        ).__enter__()

    def __call__(self, code: str) -> bool:
        try:
            value = self.session.feed_run(code, print_callback=self.write)
            if value is not None:
                print(repr(value))
        except self.errors as error:
            display: Any = getattr(error, "display", None)
            sys.stderr.write(f"{display() if display else error}".rstrip("\n") + "\n")
            if type(error).__name__ == "MontyCrashedError":
                os._exit(1)  # its state is gone, and Puna says so
            return False
        except Exception as error:
            sys.stderr.write(f"{type(error).__name__}: {error}\n")
            return False
        return True

    def write(self, where: str, text: str) -> None:
        (sys.stdout if where == "stdout" else sys.stderr).write(text)

    def figures(self) -> list[tuple[str, bytes]]:
        return []


class Scratch:
    """Which files came or changed in the scratch folder since the last look."""

    def __init__(self, config: Config) -> None:
        self.root = config["scratch"]
        self.most = config["max_files"]
        self.room = config["max_file_bytes"]
        self.before = self.look()

    def look(self) -> dict[str, tuple[int, int, int]]:
        seen: dict[str, tuple[int, int, int]] = {}
        root: str = self.root
        for folder, folders, names in os.walk(root):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in names:
                path = os.path.join(folder, name)
                with contextlib.suppress(OSError):
                    about = os.lstat(path)
                    if stat.S_ISREG(about.st_mode):
                        seen[path] = (about.st_mtime_ns, about.st_size, about.st_ino)
            if len(seen) > MOST_ENTRIES:
                break
        return seen

    def send_new(self, control: int) -> None:
        now = self.look()
        new = sorted(path for path in now if self.before.get(path) != now[path])
        self.before = now
        room = self.room
        left_out: list[str] = []
        for count, path in enumerate(new):
            name = os.path.relpath(path, self.root)
            data = self.read(path, room) if count < self.most else None
            if data is None:
                left_out.append(name)
            else:
                room -= len(data)
                send_file(control, name, data)
        if left_out:
            rest = f" and {len(left_out) - 5} more" if len(left_out) > 5 else ""
            told = f"not handed over, too many or too large: {', '.join(left_out[:5])}{rest}"
            write_frame(control, b"N", told.encode("utf-8", "backslashreplace")[:2000])

    def read(self, path: str, room: int) -> bytes | None:
        try:
            number = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            with open(number, "rb") as file:
                if not stat.S_ISREG(os.fstat(number).st_mode):
                    return None
                data = file.read(room + 1)
        except (OSError, MemoryError):
            return None
        return data if len(data) <= room else None
