"""What commands say and show on a terminal, and how they read pictures.

Words about Puna go to stderr, so that stdout holds answers alone. It knows no command.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from puna.errors import StartupError

if TYPE_CHECKING:
    from puna.chat import ChatModel, Image
    from puna.settings import Settings


def say(line: str) -> None:
    """One line about Puna itself."""
    print(f"puna: {line}", file=sys.stderr, flush=True)


def loading(name: str, settings: Settings) -> ChatModel:
    """Open a model, with a sign of life while it takes time."""
    from puna.opening import open_model

    with busy(f"loading {name}"):
        return open_model(name, settings)


@contextmanager
def opened(names: Sequence[str], settings: Settings) -> Generator[dict[str, ChatModel]]:
    """Several models, each under the name that requests use, until the block ends.

    Raises `StartupError`.
    """
    from puna.opening import close, model_name

    models: dict[str, ChatModel] = {}
    with ExitStack() as stack:
        for name in names:
            called = model_name(name)
            if called in models:
                raise StartupError(f"two models would answer to {called!r}; leave one out")
            models[called] = loading(name, settings)
            stack.callback(close, models[called])
        yield models


@contextmanager
def busy(what: str) -> Generator[None]:
    """A spinner on a terminal; nothing where stderr is a file."""
    if not sys.stderr.isatty():
        yield
        return
    from rich.console import Console

    with Console(stderr=True).status(f"{what} ..."):
        yield


@contextmanager
def progress_bars() -> Generator[Callable[[str, int, int], None]]:
    """A bar for each file on a terminal; elsewhere a line for each tenth of a file.

    The block gets a function that is told name, bytes done and bytes in all.
    """
    if not sys.stderr.isatty():
        tenths: dict[str, int] = {}

        def tell(name: str, done: int, total: int) -> None:
            tenth = 10 * done // max(total, 1)
            if tenths.get(name) != tenth:
                tenths[name] = tenth
                say(f"{name}: {gigabytes(done)} of {gigabytes(total)}")

        yield tell
        return
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskID,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as bars:
        tasks: dict[str, TaskID] = {}

        def show(name: str, done: int, total: int) -> None:
            if name not in tasks:
                tasks[name] = bars.add_task(name, total=total)
            bars.update(tasks[name], completed=done)

        yield show


def printable(text: str) -> str:
    """`text` without what would steer a terminal (escape sequences, bells), if stdout is one."""
    if not sys.stdout.isatty():
        return text
    return "".join(each for each in text if each in "\n\t" or each.isprintable())


def read_image(path: Path) -> Image:
    """The picture in a file. Raises `StartupError` where there is none."""
    from puna.chat import Image

    try:
        return Image(path.expanduser().read_bytes())
    except OSError as error:
        raise StartupError(f"cannot read the image {path}: {_reason(error)}") from error


def gigabytes(count: float) -> str:
    """Bytes for people: 512 B, 34 MB, 1.2 GB."""
    for unit, factor in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= factor:
            number = count / factor
            return f"{number:.1f} {unit}" if number < 10 else f"{number:,.0f} {unit}"
    return f"{count:.0f} B"


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()
