"""`puna chat`: a conversation in the terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from puna.cli.options import (
    Asking,
    Device,
    Draft,
    Dtype,
    MaxContext,
    MaxTokens,
    Pin,
    Quantize,
    Record,
    Replay,
    Seed,
    System,
    Temperature,
    Tools,
)

if TYPE_CHECKING:
    from puna.api import Model
    from puna.chat import Image, Message
    from puna.cli.steps import Steps

HELP = """\
/image FILE    show a picture with your next message; again for more
/system TEXT   begin anew, with TEXT as the system message; without TEXT, say what it is
/reset         begin anew, with the same system message
/save FILE     write the conversation to FILE as text
/help          this list
/quit          end, as Ctrl-D does
A line that ends with \\ goes on in the next. Ctrl-C stops an answer."""


def chat(
    model: Annotated[
        str,
        typer.Argument(help="Path, catalog name, http address or embedded model.", metavar="MODEL"),
    ] = "cria-text",
    system: System = None,
    temperature: Temperature = None,
    max_tokens: MaxTokens = None,
    seed: Seed = None,
    device: Device = None,
    dtype: Dtype = None,
    quantize: Quantize = None,
    max_context: MaxContext = None,
    draft: Draft = None,
    tools: Tools = None,
    asking: Asking = None,
    pin: Pin = None,
    record: Record = None,
    replay: Replay = None,
) -> int:
    """Talk to a model. Each line is a message; /help lists what else there is."""
    from puna.api import Model, sampling_from
    from puna.cli.steps import Steps
    from puna.cli.terminal import loading
    from puna.cli.tools import Wanted, inventory, opened_tools
    from puna.opening import settings_from

    sampling: dict[str, Any] = {"temperature": temperature, "max_tokens": max_tokens, "seed": seed}
    sampling_from(sampling)  # Wrong values are told before a model is loaded.
    settings = settings_from(
        {
            "device": device,
            "dtype": dtype,
            "quantize": quantize,
            "max_context": max_context,
            "draft": draft,
            "pinned_tools": pin,
        }
    )
    typing = sys.stdin.isatty() and sys.stdout.isatty()
    wanted = Wanted(tools or (), asking or (), record, replay)
    steps = Steps(can_ask=typing)
    with opened_tools(wanted, settings, steps.ask if typing else None) as ready:
        talking = loading(model, settings)
        if ready is not None:
            steps.approvals = ready.approvals
            steps.tools = {tool.name: tool for tool in ready.box.tools}
            talking = ready.give(talking)
        conversation = Conversation(Model(talking), system=system, sampling=sampling, steps=steps)
        if typing:
            with _line_editing():
                print(f"{conversation.name}. Ctrl-D ends, /help lists what else there is.")
                for line in inventory(ready) if ready is not None else ():
                    print(line)
                _converse(conversation, _typed)
        else:
            _converse(conversation, _piped)
    return 0


class Conversation:
    """The state of a chat: messages so far, pictures that wait for the next one."""

    def __init__(
        self,
        model: Model,
        *,
        system: str | None = None,
        sampling: dict[str, Any],
        steps: Steps | None = None,
    ) -> None:
        self._model = model
        self._steps = steps
        self._sampling = sampling
        self._system = system
        self._turns: list[Message] = []
        self._pictures: list[Image] = []

    @property
    def name(self) -> str:
        return self._model.card.name

    def answer(self, line: str) -> Iterator[str]:
        """The pieces of the answer to `line`; what was said is kept even if it is cut short.

        A question that fails leaves the conversation as it was, its pictures included.
        """
        from puna.chat import TextDelta, message

        question = message("user", *self._pictures, line)
        pieces: list[str] = []
        try:
            events = self._model.events([*self._messages(), question], **self._sampling)
            with closing(events):  # Ctrl-C may come while a person is asked
                for event in events:
                    if isinstance(event, TextDelta):
                        pieces.append(event.text)
                        yield event.text
                    elif self._steps is not None:
                        self._steps.show(event)
        finally:
            if pieces:
                self._turns += [question, message("assistant", "".join(pieces))]
                self._pictures = []

    def command(self, line: str) -> str | None:
        """Do what a line that begins with / says; what to tell the user. None means: end."""
        name, _, rest = line.partition(" ")
        commands: dict[str, Callable[[str], str | None]] = {
            "/image": self._image,
            "/system": self._set_system,
            "/reset": self._reset,
            "/save": self._save,
            "/help": lambda _: HELP,
            "/quit": lambda _: None,
            "/exit": lambda _: None,
        }
        if name not in commands:
            return f"there is no {name}; /help lists what there is"
        return commands[name](rest.strip())

    def _messages(self) -> list[Message]:
        from puna.chat import message

        head = [] if self._system is None else [message("system", self._system)]
        return [*head, *self._turns]

    def _image(self, rest: str) -> str:
        from puna.cli.terminal import read_image
        from puna.errors import StartupError

        if not rest:
            return "which one? /image FILE"
        try:
            self._pictures.append(read_image(Path(rest.strip("'\""))))
        except StartupError as error:
            return error.message
        if "image" not in self._model.card.modalities:
            self._pictures.pop()
            return f"{self.name} sees no pictures; a vision model does: puna chat cria-vision"
        waiting = len(self._pictures)
        return f"{waiting} picture{'s' * (waiting > 1)} will go with your next message"

    def _set_system(self, rest: str) -> str:
        if not rest:
            return "no system message" if self._system is None else self._system
        self._system = rest
        return self._reset("")

    def _reset(self, rest: str) -> str:
        self._turns = []
        self._pictures = []
        return "begun anew"

    def _save(self, rest: str) -> str:
        if not rest:
            return "where to? /save FILE"
        lines = [f"{each.role}: {each.text}" for each in self._messages()]
        path = Path(rest).expanduser()
        try:
            # A file that is there already is somebody's.
            with path.open("x", encoding="utf-8") as file:
                file.write("\n\n".join(lines) + "\n")
        except OSError as error:
            return f"cannot write {path}: {(error.strerror or str(error)).lower()}"
        return f"{len(lines)} messages are in {path}"


def _converse(conversation: Conversation, read: Callable[[], str]) -> None:
    going_on = True
    while going_on:
        try:
            going_on = _turn(conversation, read)
        except EOFError:
            return
        except KeyboardInterrupt:
            print()


def _turn(conversation: Conversation, read: Callable[[], str]) -> bool:
    """A line and what comes of it; False if it was the last."""
    from puna.cli.terminal import printable
    from puna.errors import PunaError

    line = _whole(read)
    if line.startswith("/"):
        told = conversation.command(line)
        if told is not None:
            print(told)
        return told is not None
    if not line.strip():
        return True
    try:
        for piece in conversation.answer(line):
            print(printable(piece), end="", flush=True)
        print("\n" if sys.stdin.isatty() else "")
    except KeyboardInterrupt:
        print(" ...")
    except PunaError as error:
        print(f"puna: {error.message}", file=sys.stderr)
    return True


def _whole(read: Callable[[], str]) -> str:
    line = read()
    while line.endswith("\\"):
        line = line[:-1] + "\n" + read()
    return line


def _typed() -> str:
    return input("\001\033[1;36m\002> \001\033[0m\002")


def _piped() -> str:
    line = sys.stdin.readline()
    if not line:
        raise EOFError
    return line.rstrip("\n")


@contextmanager
def _line_editing() -> Generator[None]:
    """Arrow keys and a history that lasts, where this Python has readline."""
    try:
        import readline
    except ImportError:
        yield
        return
    from puna.settings import environment

    state = environment().get("XDG_STATE_HOME") or "~/.local/state"
    file = Path(state).expanduser() / "puna" / "history"
    with suppress(OSError):
        readline.read_history_file(file)
    readline.set_history_length(1000)
    try:
        yield
    finally:
        with suppress(OSError):
            file.parent.mkdir(parents=True, exist_ok=True)
            readline.write_history_file(file)
