from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from puna.cli.main import run_command_line
from puna.errors import StartupError
from puna.settings import Settings
from puna.tools.mcp.config import Server, add, find, remove, servers, servers_file


def settings(folder: Path) -> Settings:
    return Settings(config_dir=folder / "config", keyring=False)


@pytest.mark.parametrize(
    "server",
    [
        Server(command=("npx", "-y", "some-server", "--flag")),
        Server(command=("x",), env={"TOKEN": "a"}),
        Server(url="https://example.com/mcp"),
        Server(url="http://127.0.0.1:9/mcp", headers={"Authorization": "Bearer a"}),
    ],
)
def test_a_server_comes_back_as_it_was_kept(tmp_path: Path, server: Server) -> None:
    add("one", Server(url="http://a"), settings(tmp_path))
    add("one", server, settings(tmp_path))
    add("two", Server(url="http://b"), settings(tmp_path))
    assert servers(settings(tmp_path)) == {"one": server, "two": Server(url="http://b")}
    assert remove("one", settings(tmp_path))
    assert not remove("one", settings(tmp_path))
    assert list(servers(settings(tmp_path))) == ["two"]


def test_only_the_owner_can_read_the_file_and_no_secret_is_shown(tmp_path: Path) -> None:
    add("one", Server(command=("x",), env={"TOKEN": "secret"}), settings(tmp_path))
    path = servers_file(settings(tmp_path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]
    assert "secret" not in repr(servers(settings(tmp_path)))


def test_what_other_clients_write_is_read(tmp_path: Path) -> None:
    path = servers_file(settings(tmp_path))
    path.parent.mkdir()
    path.write_text('{"mcpServers": {"time": {"command": "uvx", "args": ["mcp-server-time"]}}}')
    assert servers(settings(tmp_path)) == {"time": Server(("uvx", "mcp-server-time"))}


@pytest.mark.parametrize(
    "told",
    ["{", "[]", "{}", {"mcpServers": 3}, {"mcpServers": {"a": {}}}, {"mcpServers": {"a": 3}},
     {"mcpServers": {"a": {"command": 3}}}, {"mcpServers": {"a": {"command": "x", "url": "y"}}},
     {"mcpServers": {"a": {"command": "x", "env": {"A": 3}}}}, {"mcpServers": {"a": {"url": 3}}},
     {"mcpServers": {"a": {"command": "x", "args": [1]}}}],
)  # fmt: skip
def test_a_file_that_says_something_else_is_told(tmp_path: Path, told: Any) -> None:
    path = servers_file(settings(tmp_path))
    path.parent.mkdir()
    path.write_text(told if isinstance(told, str) else json.dumps(told))
    with pytest.raises(StartupError, match="mend or remove"):
        servers(settings(tmp_path))


@pytest.mark.parametrize("name", ["", "A", "a-b", "a b", "1a", "é", "a" * 25, "a/b", "a.b"])
def test_a_name_must_be_fit_to_begin_the_names_of_tools(tmp_path: Path, name: str) -> None:
    with pytest.raises(StartupError, match="no name for a server"):
        add(name, Server(url="http://a"), settings(tmp_path))


def test_values_are_filled_in_from_the_environment_when_they_are_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = Server(url="http://a", headers={"Authorization": "Bearer ${MY_TOKEN}"})
    add("one", server, settings(tmp_path))
    with pytest.raises(StartupError, match="MY_TOKEN"):
        find("one", settings(tmp_path))
    monkeypatch.setenv("MY_TOKEN", "secret")
    assert find("one", settings(tmp_path)).headers == {"Authorization": "Bearer secret"}
    assert "secret" not in servers_file(settings(tmp_path)).read_text()


# --- The command


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return Settings(keyring=False)


def test_the_command_adds_lists_and_removes(
    here: Settings, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run_command_line(["mcp"]) == 0
    assert "puna mcp add" in capsys.readouterr().out
    words = ["mcp", "add", "--env", "A=1", "--env", "TOKEN", "time", "--", "uvx", "x", "--flag"]
    assert run_command_line(words) == 0
    assert servers(here)["time"] == Server(
        ("uvx", "x", "--flag"), env={"A": "1", "TOKEN": "${TOKEN}"}
    )
    header = "Authorization: Bearer ${TOKEN}"
    assert run_command_line(["mcp", "add", "far", "https://a/mcp", "--header", header]) == 0
    assert servers(here)["far"] == Server(
        url="https://a/mcp", headers={"Authorization": "Bearer ${TOKEN}"}
    )
    capsys.readouterr()
    assert run_command_line(["mcp", "list"]) == 0
    assert capsys.readouterr().out == "time: uvx x --flag\nfar: https://a/mcp\n"
    assert run_command_line(["mcp", "remove", "time"]) == 0
    assert run_command_line(["mcp", "remove", "time"]) == 0
    assert capsys.readouterr().out == "time: removed\ntime: there was none to remove\n"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["google"], "none of add"),
        (["add"], "which server"),
        (["add", "x"], "where is it"),
        (["add", "X", "--", "y"], "no name for a server"),
        (["add", "--env", "A=1", "x", "http://a"], "--env is for"),
        (["add", "--header", "A:1", "x", "--", "y"], "--header is for"),
        (["add", "--header", "A", "x", "http://a"], "NAME:VALUE"),
        (["tools", "x"], "no such server"),
    ],
)
def test_wrong_usage_says_what_is_wanted(
    here: Settings, capsys: pytest.CaptureFixture[str], words: list[str], told: str
) -> None:
    assert run_command_line(["mcp", *words]) != 0
    error = capsys.readouterr().err
    assert told in error
    assert "Traceback" not in error
    assert not servers(here)
