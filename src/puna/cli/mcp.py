"""`puna mcp`: MCP servers as tools, added, listed, tried and removed; and Puna as one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from puna.settings import Settings

ACTIONS = ("add", "list", "tools", "remove", "serve")


def mcp(
    action: Annotated[str, typer.Argument(help="What to do.", metavar="|".join(ACTIONS))] = "list",
    words: Annotated[
        list[str] | None,
        typer.Argument(
            help="The server's name, then its address, or its command after --.",
            metavar="NAME [URL | -- COMMAND]",
        ),
    ] = None,
    env: Annotated[
        list[str] | None,
        typer.Option(
            help="For the server's environment; KEY alone takes it from yours each time.",
            metavar="KEY[=VALUE]",
        ),
    ] = None,
    header: Annotated[
        list[str] | None,
        typer.Option(
            help="Sent to an address; ${KEY} in it is filled in from your environment.",
            metavar="NAME:VALUE",
        ),
    ] = None,
    http: Annotated[
        bool, typer.Option("--http", help="serve: over HTTP on this machine, not over stdio.")
    ] = False,
    port: Annotated[int, typer.Option(help="serve --http: the port.", min=0, max=65535)] = 8081,
) -> int:
    """Use the tools of MCP servers, and be one.

    puna mcp add files -- npx -y @modelcontextprotocol/server-filesystem ~/notes

    puna mcp add weather http://127.0.0.1:9000/mcp

    puna chat --tools mcp:files

    puna mcp serve cria-text cria-vision
    """
    from puna.settings import Settings

    words = words or []
    settings = Settings()
    if action not in ACTIONS:
        raise typer.BadParameter(f"{action!r} is none of {', '.join(ACTIONS)}")
    if action not in ("list", "serve") and not words:
        raise typer.BadParameter(f"which server? puna mcp {action} NAME")
    match action:
        case "add":
            _add(words[0], words[1:], env or [], header or [], settings)
        case "remove":
            return _remove(words[0], settings)
        case "tools":
            _show(words[0], settings)
        case "serve":
            _serve(words or ["cria-text", "cria-vision"], settings, port if http else None)
        case _:
            _list(settings)
    return 0


def _add(
    name: str, words: list[str], env: list[str], header: list[str], settings: Settings
) -> None:
    from puna.tools.mcp import config

    if not words:
        raise typer.BadParameter(
            f"where is it? puna mcp add {name} URL, or: puna mcp add {name} -- COMMAND"
        )
    is_url = len(words) == 1 and words[0].lower().startswith(("http://", "https://"))
    if is_url and env:
        raise typer.BadParameter("--env is for servers that a command starts")
    if not is_url and header:
        raise typer.BadParameter("--header is for servers at an address")
    if is_url:
        server = config.Server(url=words[0], headers=dict(_pair(one, ":") for one in header))
    else:
        server = config.Server(command=tuple(words), env=dict(_variable(one) for one in env))
    config.add(name, server, settings)
    print(f"{name}: kept in {config.servers_file(settings)}; use it with --tools mcp:{name}")


def _variable(text: str) -> tuple[str, str]:
    return _pair(text, "=") if "=" in text else (text, f"${{{text}}}")


def _pair(text: str, sign: str) -> tuple[str, str]:
    name, found, value = text.partition(sign)
    if not found or not name.strip():
        raise typer.BadParameter(f"{text!r} is not of the form NAME{sign}VALUE")
    return name.strip(), value.strip()


def _remove(name: str, settings: Settings) -> int:
    from puna.tools.mcp import config

    there = config.remove(name, settings)
    print(f"{name}: removed" if there else f"{name}: there was none to remove")
    return 0


def _list(settings: Settings) -> None:
    from puna.tools.mcp import config

    known = config.servers(settings)
    for name, server in known.items():
        print(f"{name}: {server.shown}")
    if not known:
        print("none yet: puna mcp add NAME -- COMMAND, or: puna mcp add NAME URL")


def _show(name: str, settings: Settings) -> None:
    """Start the server, and say what it offers."""
    import asyncio

    from puna.tools.mcp.client import open_server

    async def look() -> None:
        async with open_server(name, settings) as tools:
            for tool in tools:
                asks = "" if tool.read_only else " (may change things)"
                print(f"{tool.name}{asks}: {' '.join(tool.description.split())[:100]}")

    asyncio.run(look())


def _serve(names: list[str], settings: Settings, port: int | None) -> None:
    from puna.cli.terminal import opened, say
    from puna.errors import StartupError
    from puna.tools.mcp.server import make_server
    from puna.tools.search import brave_search

    try:
        search = brave_search(settings)
    except StartupError:
        search = None
        say("search is not offered: nobody can be asked (puna keys set brave_search)")
    with opened(names, settings) as models:
        server = make_server(models, search=search, local_files=port is None)
        if port is None:
            say("serving over stdio: " + ", ".join(models))
            _leave_at_once_on_ctrl_c()
            server.run("stdio")
        else:
            say(f"serving at http://127.0.0.1:{port}/mcp: {', '.join(models)}")
            server.run("streamable-http", host="127.0.0.1", port=port)


def _leave_at_once_on_ctrl_c() -> None:
    """The thread in which the SDK waits for stdin cannot be ended: Ctrl-C would wait for it."""
    import os
    import signal
    from types import FrameType

    from puna.cli.failures import INTERRUPTED
    from puna.cli.terminal import say

    def leave(_: int, __: FrameType | None) -> None:
        say("interrupted")
        os._exit(INTERRUPTED)

    signal.signal(signal.SIGINT, leave)
