"""The MCP servers that the user named, in `mcp.json` in his config folder.

The file has the shape that other MCP clients use too (`mcpServers`), so that what a server's page
tells to paste can be pasted. It may hold secrets, so only its owner can read it; better, a value is
written `${NAME}` and found in the environment when the server is started. It knows no protocol.
"""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from puna.errors import StartupError
from puna.settings import Settings, environment

_NAME = re.compile(r"[a-z][a-z0-9_]{0,23}")


@dataclass(frozen=True, slots=True)
class Server:
    """Either a `command` to start, with `env` added to what little it inherits, or a `url`."""

    command: tuple[str, ...] = ()
    env: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)
    url: str = ""
    headers: Mapping[str, str] = field(default_factory=dict[str, str], repr=False)

    @property
    def shown(self) -> str:
        """Without `env` and `headers`, which may be secrets."""
        return self.url or " ".join(self.command)


def servers_file(settings: Settings) -> Path:
    return settings.config_dir / "mcp.json"


def servers(settings: Settings) -> dict[str, Server]:
    """All servers by name. Raises `StartupError` where the file says something else."""
    path = servers_file(settings)
    try:
        found: Any = json.loads(path.read_text(encoding="utf-8"))["mcpServers"]
        return {name: _server(fields) for name, fields in found.items()}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StartupError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    except (ValueError, KeyError, TypeError, AttributeError):
        raise StartupError(
            f'{path} should hold {{"mcpServers": {{"NAME": {{"command": "...", "args": []}}}}}}; '
            "mend or remove it"
        ) from None


def find(name: str, settings: Settings) -> Server:
    """The server called `name`, with `${NAME}` filled in. Raises `StartupError`."""
    known = servers(settings)
    if name not in known:
        there = f"there are {', '.join(known)}" if known else "there is none yet"
        raise StartupError(
            f"mcp:{name}: no such server; {there}; add one: puna mcp add {name} -- COMMAND"
        )
    check_name(name)
    server = known[name]
    return Server(
        command=server.command,
        env={key: _filled(value, name) for key, value in server.env.items()},
        url=server.url,
        headers={key: _filled(value, name) for key, value in server.headers.items()},
    )


def check_name(name: str) -> None:
    """Names begin the names of tools. Raises `StartupError`."""
    if not _NAME.fullmatch(name):
        raise StartupError(
            f"{name!r} is no name for a server; expected small letters, digits and _, a letter "
            "first, 24 at most"
        )


def add(name: str, server: Server, settings: Settings) -> None:
    """Keep `server`, in the place of one of that name. Raises `StartupError`."""
    check_name(name)
    if server.url and not re.match(r"https?://[^/\s]+", server.url):
        raise StartupError(f"{server.url!r} is no address; expected http:// or https://")
    _write({**servers(settings), name: server}, settings)


def remove(name: str, settings: Settings) -> bool:
    """False where there was none."""
    known = servers(settings)
    if name not in known:
        return False
    del known[name]
    _write(known, settings)
    return True


def _server(fields: Any) -> Server:
    command = [fields["command"], *fields.get("args", [])] if "command" in fields else []
    texts = [*command, fields.get("url", "")]
    tables = [cast("dict[Any, Any]", fields.get(name) or {}) for name in ("env", "headers")]
    texts += [text for table in tables for pair in table.items() for text in pair]
    if not all(isinstance(text, str) for text in texts) or bool(command) == ("url" in fields):
        raise ValueError
    env, headers = tables
    return Server(tuple(command), env, fields.get("url", ""), headers)


def _as_json(server: Server) -> dict[str, Any]:
    if server.url:
        return {"url": server.url, **({"headers": server.headers} if server.headers else {})}
    command, *args = server.command
    fields: dict[str, Any] = {"command": command, "args": args}
    return {**fields, **({"env": server.env} if server.env else {})}


def _write(known: Mapping[str, Server], settings: Settings) -> None:
    """All or nothing, and at no moment readable by others."""
    path = servers_file(settings)
    told = {"mcpServers": {name: _as_json(server) for name, server in known.items()}}
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        # mkstemp's files are 0600 from the beginning.
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".mcp-")
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            json.dump(told, file, indent=2)
        Path(temporary).replace(path)
    except OSError as error:
        raise StartupError(f"{path}: {(error.strerror or str(error)).lower()}") from None


def _filled(value: str, server: str) -> str:
    known = environment()

    def fill(match: re.Match[str]) -> str:
        if match[1] not in known:
            raise StartupError(
                f"mcp:{server} needs {match[1]} in the environment, which is missing"
            )
        return known[match[1]]

    return re.sub(r"\$\{(\w+)\}", fill, value)
