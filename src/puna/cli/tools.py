"""Tools for a command's models: opened from its options, closed at its end.

It knows the options, and neither servers nor conversations.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puna.chat import ChatModel
    from puna.settings import Settings
    from puna.tools.approvals import Approvals, Ask
    from puna.tools.open import Toolbox


@dataclass(frozen=True, slots=True)
class Wanted:
    """What the options say of tools."""

    names: Sequence[str] = ()
    asking: Sequence[str] = ()
    record: Path | None = None
    replay: Path | None = None

    def __bool__(self) -> bool:
        return bool(self.names or self.record or self.replay)


@dataclass(frozen=True, slots=True)
class Ready:
    """Opened tools, and how to put them at a model's hand."""

    box: Toolbox
    approvals: Approvals
    give: Callable[[ChatModel], ChatModel]


@contextmanager
def opened_tools(
    wanted: Wanted, settings: Settings, ask: Ask | None = None
) -> Generator[Ready | None]:
    """The tools, until the block ends; None where none are wanted. Raises `StartupError`.

    `ask` asks a person; without it, what would have to be asked about does not run.
    """
    from puna.errors import StartupError
    from puna.tools.approvals import read_asking

    if not wanted:
        if wanted.asking or settings.pinned_tools:
            raise StartupError("--ask and --pin speak of tools: name them with --tools")
        yield None
        return
    asking = read_asking(wanted.asking)
    from puna.cli.terminal import busy
    from puna.opening import with_tools
    from puna.tools.open import open_tools

    with ExitStack() as stack:
        with busy("opening tools"):
            box = open_tools(wanted.names, settings, record=wanted.record, replay=wanted.replay)
        stack.callback(box.close)
        approvals = box.approvals(asking, ask)

        def give(model: ChatModel) -> ChatModel:
            loop = with_tools(model, box, approvals, settings)
            stack.callback(loop.close)
            return loop

        yield Ready(box, approvals, give)


def inventory(ready: Ready) -> list[str]:
    """A line for what the model may call, and one for what it may not."""
    may = [tool.name for tool in ready.box.tools if ready.approvals.can_run(tool)]
    asks = [tool.name for tool in ready.box.tools if ready.approvals.asking(tool) != "never"]
    lines = [f"tools: {', '.join(may)}"]
    if left := [name for name in asks if name not in may]:
        lines.append(
            f"not offered, because they may change things and nobody can be asked: "
            f"{', '.join(left)} (--ask NAME=never lets one run without asking)"
        )
    return lines


def describe_call(name: str, arguments: str) -> str:
    """`get_weather(city="Oslo", days=3)`, on one line."""
    import json

    try:
        given: object = json.loads(arguments or "{}")
    except ValueError:
        given = arguments
    if not isinstance(given, Mapping):
        return f"{name}({shortened(arguments)})"
    pairs = [
        f"{key}={json.dumps(value, ensure_ascii=False)}"
        for key, value in given.items()  # pyright: ignore[reportUnknownVariableType]
    ]
    return f"{name}({shortened(', '.join(pairs), 300)})"


def shortened(text: str, limit: int = 160) -> str:
    line = " ".join(text.split())
    return line if len(line) <= limit else f"{line[: limit - 2]} …"


def save_files(files: Sequence[tuple[str, bytes]], folder: Path) -> list[Path]:
    """Write what tools made into `folder`, under names of its own: none replaces a file, and none
    leads elsewhere. Raises OSError."""
    saved: list[Path] = []
    for wanted, data in files:
        plain = "".join(c if c.isalnum() or c in "-_. " else "_" for c in Path(wanted).name)
        name = Path(plain.strip(". ")[:100] or "file")
        folder.mkdir(parents=True, exist_ok=True)
        number = 0
        while True:
            path = folder / (f"{name.stem}-{number}{name.suffix}" if number else name)
            try:
                with path.open("xb") as file:
                    file.write(data)
            except FileExistsError:
                number += 1
            else:
                saved.append(path)
                break
    return saved
