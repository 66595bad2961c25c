"""`puna keys`: the keys of outside services, kept, listed and removed."""

from __future__ import annotations

import sys
from typing import Annotated

import typer


def keys(
    action: Annotated[
        str, typer.Argument(help="What to do: set, list or remove.", metavar="set|list|remove")
    ] = "list",
    name: Annotated[
        str | None,
        typer.Argument(help="The tool that needs it: brave_search, wolfram_alpha.", metavar="NAME"),
    ] = None,
) -> int:
    """Keep the keys of outside services: puna keys set brave_search

    The key is asked for, or read from a pipe; it goes to the system's keyring where there is one,
    else to a file that you alone can read. BRAVE_API_KEY and WOLFRAM_APP_ID go before both.
    """
    from puna.settings import Settings
    from puna.tools.keys import NAMES, keys_file, place_of, remove_key, set_key

    settings = Settings()
    places = {
        "settings": "from the environment or puna.toml",
        "keyring": "in the system's keyring",
        "file": f"in {keys_file(settings)}",
        None: "none",
    }
    if action not in ("set", "list", "remove"):
        raise typer.BadParameter(f"{action!r} is none of set, list and remove")
    if action == "list":
        for each in NAMES:
            print(f"{each}: {places[place_of(each, settings)]}")
        return 0
    if name not in NAMES:
        raise typer.BadParameter(f"which key? puna keys {action} {' or '.join(NAMES)}")
    if action == "remove":
        gone = remove_key(name, settings)
        print(f"{name}: removed" if gone else f"{name}: there was none to remove")
        if place_of(name, settings):
            print(f"{name}: there still is one {places['settings']}")
        return 0
    print(f"{name}: kept {places[set_key(name, _asked(name), settings)]}")
    return 0


def _asked(name: str) -> str:
    """The key, without showing it: an argument would stay in the shell's history."""
    if not sys.stdin.isatty():
        return sys.stdin.readline()
    from getpass import getpass

    return getpass(f"The key of {name} (it is not shown): ")
