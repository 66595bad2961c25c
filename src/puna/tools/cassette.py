"""Tapes: what tools answered, written down, and tools that answer from what was written.

A session with outside services becomes repeatable, byte for byte, without services, keys or
network: the same calls in the same order get the same answers. A tape is a text file, a JSON object
a line: first the tools, then the calls as they ended.

    {"tool": "brave_search", "from": "brave_search", "description": ..., "parameters": {...},
     "read_only": true}
    {"call": "brave_search", "arguments": {"query": "x"}, "time": 1, "text": ..., "source": ...,
     "files": [{"name": ..., "media_type": ..., "base64": ...}]}
    {"call": "brave_search", "arguments": {"query": "y"}, "time": 1, "error": "no answer"}

It knows no service. Keys are no arguments and no answers; should one stand in either nevertheless,
it is written, and answered, as [redacted].
"""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TextIO, cast
from urllib.parse import quote

from puna.chat import File
from puna.errors import StartupError, ToolFailed
from puna.tools.tool import STOPPED, Arguments, Output, Session, Tool, crashed

REDACTED = "[redacted]"
# Shorter ones would turn up in ordinary words.
SHORTEST_SECRET = 6


class Recorder:
    """Writes a tape. Raises `StartupError` where `path` is there already or cannot be written."""

    def __init__(self, path: Path, secrets: Sequence[str] = ()) -> None:
        self._secrets = [
            form
            for secret in secrets
            if len(secret) >= SHORTEST_SECRET
            for form in {secret, quote(secret, safe="")}
        ]
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()
        try:
            self._file: TextIO = path.open("x", encoding="ascii")
        except FileExistsError:
            raise StartupError(f"--record: {path} is there already; name a new file") from None
        except OSError as error:
            raise StartupError(
                f"--record: cannot write {path}: {(error.strerror or str(error)).lower()}"
            ) from None

    def recorded(self, tool: Tool, source: str) -> Tool:
        """A tool that does what `tool` does, and writes it down. `source`: what brought it."""
        self._write(
            {
                "tool": tool.name,
                "from": source,
                "description": tool.description,
                "parameters": tool.parameters,
                "read_only": tool.read_only,
            }
        )

        async def run(arguments: Arguments, session: Session) -> Output:
            said = self._clean(dict(arguments))
            with self._lock:
                key = _key(tool.name, said)
                self._times[key] += 1
                line = {"call": tool.name, "arguments": said, "time": self._times[key]}
            try:
                output = await tool.run(arguments, session)
            except ToolFailed as error:
                why = self._clean(error.message)
                self._write({**line, "error": why})
                raise ToolFailed(why) from None
            except asyncio.CancelledError:
                self._write({**line, "error": STOPPED})
                raise
            except Exception as error:
                why = self._clean(crashed(error))
                self._write({**line, "error": why})
                raise ToolFailed(why) from error
            files = tuple(replace(file, data=self._clean_bytes(file.data)) for file in output.files)
            output = Output(self._clean(output.text), files, output.source)
            self._write({**line, "text": output.text, "source": output.source, **_files(files)})
            return output

        return replace(tool, run=run)

    def close(self) -> None:
        with self._lock:
            self._file.close()

    def _write(self, value: Mapping[str, Any]) -> None:
        with self._lock:
            if not self._file.closed:
                self._file.write(json.dumps(value) + "\n")
                self._file.flush()

    def _clean(self, value: Any) -> Any:
        if isinstance(value, str):
            for secret in self._secrets:
                value = value.replace(secret, REDACTED)
            return value
        if isinstance(value, dict):
            items = cast("dict[str, Any]", value).items()
            return {self._clean(name): self._clean(each) for name, each in items}
        if isinstance(value, list):
            return [self._clean(each) for each in cast("list[Any]", value)]
        return value

    def _clean_bytes(self, data: bytes) -> bytes:
        for secret in self._secrets:
            data = data.replace(secret.encode(), REDACTED.encode())
        return data


class Tape:
    """A tape that is played. Raises `StartupError` where it is none."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._times: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._answers: dict[tuple[str, int], dict[str, Any]] = {}
        self.tools: dict[str, tuple[Tool, ...]] = {}
        """By what brought them, as `--tools` named it."""
        try:
            with path.open(encoding="ascii") as file:
                for number, line in enumerate(file, 1):
                    self._read(line, number)
        except OSError as error:
            reason = (error.strerror or str(error)).lower()
            raise StartupError(f"--replay: cannot read {path}: {reason}") from None
        except UnicodeDecodeError:
            raise StartupError(f"--replay: {path} is no tape of Puna's") from None
        if not self.tools:
            raise StartupError(f"--replay: {path} is no tape of Puna's: there are no tools on it")

    def _read(self, line: str, number: int) -> None:
        try:
            value = json.loads(line)
            if "tool" in value:
                tool = Tool(
                    name=value["tool"],
                    description=value["description"],
                    parameters=value["parameters"],
                    run=self._player(value["tool"]),
                    read_only=value["read_only"],
                )
                source = value["from"]
                self.tools[source] = (*self.tools.get(source, ()), tool)
            else:
                key = _key(value["call"], value["arguments"])
                if "error" not in value:
                    _output(value)
                self._answers[key, value["time"]] = value
        except (ValueError, LookupError, TypeError, RecursionError):
            raise StartupError(
                f"--replay: line {number} of {self._path} is not as Puna writes tapes"
            ) from None

    def _player(self, name: str) -> Any:
        async def run(arguments: Arguments, session: Session) -> Output:
            with self._lock:
                key = _key(name, dict(arguments))
                self._times[key] += 1
                time = self._times[key]
            answer = self._answers.get((key, time))
            if answer is None:
                often = "" if time == 1 else f" for the {time}. time"
                raise ToolFailed(f"this call{often} is not on the tape {self._path.name}")
            if "error" in answer:
                raise ToolFailed(answer["error"])
            return _output(answer)

        return run


def _key(name: str, arguments: Mapping[str, Any]) -> str:
    return json.dumps([name, arguments], sort_keys=True)


def _files(files: Sequence[File]) -> dict[str, Any]:
    if not files:
        return {}
    return {
        "files": [
            {
                "name": file.name,
                "media_type": file.media_type,
                "base64": base64.b64encode(file.data).decode(),
            }
            for file in files
        ]
    }


def _output(line: Mapping[str, Any]) -> Output:
    files = tuple(
        File(each["name"], each["media_type"], base64.b64decode(each["base64"]))
        for each in line.get("files", ())
    )
    return Output(line["text"], files, line["source"])
