"""What tools do, shown in a terminal: calls, results, files; and the question whether one may run.

It knows the events of a tool loop, and neither models nor tools. A loop tells all calls of a turn
before it runs the first; so whoever follows it can ask in between, where they read keys anyway.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from puna.chat import ChatEvent, ToolCall, ToolResult
    from puna.tools.approvals import Approvals
    from puna.tools.tool import Tool

FOLDER = Path("puna-files")


@dataclass
class Steps:
    """`can_ask`: a person sits at the terminal. Files go to `folder`."""

    can_ask: bool = False
    folder: Path = FOLDER
    approvals: Approvals | None = None
    tools: Mapping[str, Tool] = field(default_factory=dict[str, "Tool"])
    _allowed: dict[str, bool] = field(default_factory=dict[str, bool])

    async def ask(self, tool: Tool, call: ToolCall) -> bool:
        """For the loop: what the person said when the call was shown."""
        return self._allowed.pop(call.id, False)

    def show(self, event: ChatEvent) -> None:
        from puna.chat import ToolResult, ToolsChosen, ToolStarted

        match event:
            case ToolsChosen():
                _line(
                    f"{len(event.offered)} of {len(event.offered) + len(event.left_out)} tools are "
                    f"offered for this: {', '.join(event.offered)}"
                )
            case ToolStarted():
                self._started(event.call)
            case ToolResult():
                _line(_outcome(event))
                self._save(event)
            case _:
                pass

    def _started(self, call: ToolCall) -> None:
        from puna.cli.tools import describe_call

        shown = describe_call(call.name, call.arguments)
        tool = self.tools.get(call.name)
        if self.approvals is None or tool is None or not self.approvals.will_ask(tool):
            _line(shown)
            return
        _line(f"the model wants to run {shown}")
        self._allowed[call.id] = self.can_ask and _yes(self.approvals.asking(tool) == "once")

    def _save(self, result: ToolResult) -> None:
        from puna.cli.tools import save_files

        if not result.files:
            return
        try:
            saved = save_files([(file.name, file.data) for file in result.files], self.folder)
        except OSError as error:
            _line(f"cannot save files: {(error.strerror or str(error)).lower()}")
        else:
            _line(f"saved {', '.join(str(path) for path in saved)}")


def _outcome(result: ToolResult) -> str:
    from puna.cli.tools import shortened

    what = "failed: " if result.is_error else ""
    by = f" ({result.source})" if result.source else ""
    return f"  {what}{shortened(result.content) or 'done'}{by}"


def _yes(once: bool) -> bool:
    said = input("  run it, now and from now on? [y/N] " if once else "  run it? [y/N] ")
    return said.strip().lower() in ("y", "yes")


def _line(text: str) -> None:
    """To stderr, for stdout holds answers alone; without what would steer a terminal."""
    sys.stdout.flush()
    text = "".join(each for each in text if each.isprintable())
    if sys.stderr.isatty():
        text = f"\033[2m{text}\033[0m"
    print(f"· {text}", file=sys.stderr, flush=True)
