"""Servers of the official SDK over stdio and HTTP, on this machine; and Puna as one of them."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from puna.chat import File
from puna.errors import StartupError, ToolFailed
from puna.settings import Settings
from puna.tools.mcp import client as client_module
from puna.tools.mcp.client import open_server
from puna.tools.mcp.config import Server, add
from puna.tools.tool import Output, Session, Tool

SERVER = str(Path(__file__).with_name("mcp_server.py"))
STDIO = Server(command=(sys.executable, SERVER, "stdio"))


def settings(folder: Path, server: Server | None = None, name: str = "local") -> Settings:
    made = Settings(config_dir=folder, keyring=False)
    if server is not None:
        add(name, server, made)
    return made


async def call(tools: list[Tool], name: str, **arguments: Any) -> Output:
    (tool,) = [each for each in tools if each.name == name]
    return await tool.run(arguments, Session())


@contextmanager
def serving(*command: str, port: int = 0) -> Iterator[str]:
    """The address of a server that `command`, with a port put behind it, starts."""
    if not port:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
    process = subprocess.Popen([*command, str(port)])
    until = time.monotonic() + 60
    while time.monotonic() < until and process.poll() is None:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.1)
    try:
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def http_server() -> Iterator[str]:
    with serving(sys.executable, SERVER, "http") as url:
        yield url


async def does_what_servers_do(folder: Path, server: Server) -> None:
    async with open_server("local", settings(folder, server)) as tools:
        by_name = {tool.name: tool for tool in tools}
        assert set(by_name) == {
            "local_add", "local_whoami", "local_fail", "local_picture", "local_die_now",
            "local_die_once", "local_sleep",
        }  # fmt: skip
        assert by_name["local_add"].read_only
        assert not by_name["local_whoami"].read_only
        assert by_name["local_add"].description == "Add two numbers."
        assert by_name["local_add"].parameters["required"] == ["a", "b"]
        output = await call(tools, "local_add", a=2, b=40)
        assert output == Output("42", source="the MCP server local")
        with pytest.raises(ToolFailed, match="it did not work"):
            await call(tools, "local_fail")
        with pytest.raises(ToolFailed):
            await call(tools, "local_add", a="not a number")
        output = await call(tools, "local_picture")
        assert output.files == (
            File("image-1.png", "image/png", b"\x89PNG picture"),
            File("text-2.csv", "text/csv", b"bytes"),
        )
        assert output.text.splitlines() == [
            "Here it is:",
            "[image-1.png, image/png, 12 bytes: shown to the user]",
            "a text",
            "[text-2.csv, text/csv, 5 bytes: shown to the user]",
            "more: https://example.com/more",
        ]
        both = await asyncio.gather(*(call(tools, "local_add", a=n, b=n) for n in range(5)))
        assert [one.text for one in both] == ["0", "2", "4", "6", "8"]


async def test_a_server_over_stdio_gives_its_tools(tmp_path: Path) -> None:
    await does_what_servers_do(tmp_path, STDIO)


async def test_a_server_over_http_gives_its_tools(tmp_path: Path, http_server: str) -> None:
    await does_what_servers_do(tmp_path, Server(url=http_server))


async def test_a_server_gets_its_own_environment_and_nothing_of_the_users(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BRAVE_API_KEY", "secret")
    monkeypatch.setenv("MINE", "from outside")
    server = Server(command=STDIO.command, env={"TOKEN": "${MINE}"})
    async with open_server("local", settings(tmp_path, server)) as tools:
        assert (await call(tools, "local_whoami")).text.split(" ", 1)[1] == "from outside -"


async def test_a_server_that_ends_is_told_and_started_again(tmp_path: Path) -> None:
    async with open_server("local", settings(tmp_path, STDIO)) as tools:
        first = (await call(tools, "local_whoami")).text
        with pytest.raises(ToolFailed, match="local ended during the call"):
            await call(tools, "local_die_now")
        second = (await call(tools, "local_whoami")).text
        assert first != second
        mark = str(tmp_path / "mark")
        assert (await call(tools, "local_die_once", mark=mark)).text == "alive"
        assert (await call(tools, "local_add", a=1, b=1)).text == "2"


async def test_several_calls_during_which_it_ended_start_one_server_again(tmp_path: Path) -> None:
    async with open_server("local", settings(tmp_path, STDIO)) as tools:
        sleeping = asyncio.create_task(
            call(tools, "local_sleep", seconds=30, mark=str(tmp_path / "m"))
        )
        await asyncio.sleep(0.3)
        with pytest.raises(ToolFailed, match="ended"):
            await call(tools, "local_die_now")
        with pytest.raises(ToolFailed, match="ended"):
            await sleeping
        again = await asyncio.gather(*(call(tools, "local_whoami") for _ in range(3)))
        assert len({one.text for one in again}) == 1


async def test_a_cancelled_call_is_cancelled_at_the_server(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    async with open_server("local", settings(tmp_path, STDIO)) as tools:
        task = asyncio.create_task(call(tools, "local_sleep", seconds=60, mark=str(mark)))
        await asyncio.sleep(0.5)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await call(tools, "local_add", a=1, b=1)).text == "2"
        for _ in range(100):
            if mark.exists():
                break
            await asyncio.sleep(0.05)
    assert mark.read_text() == "cancelled"


async def test_a_call_that_takes_too_long_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "CALL_SECONDS", 0.5)
    async with open_server("local", settings(tmp_path, STDIO)) as tools:
        with pytest.raises(ToolFailed, match=r"longer than 0\.5 seconds"):
            await call(tools, "local_sleep", seconds=60, mark=str(tmp_path / "m"))


async def test_the_server_ends_with_its_context(tmp_path: Path) -> None:
    async with open_server("local", settings(tmp_path, STDIO)) as tools:
        process = int((await call(tools, "local_whoami")).text.split()[0])
        os.kill(process, 0)
    with pytest.raises(ProcessLookupError):
        os.kill(process, 0)


@pytest.mark.parametrize(
    ("server", "told"),
    [
        (Server(command=("/no/such/program",)), "no such file"),
        (Server(command=(sys.executable, "-c", "raise SystemExit('out of coffee')")), "coffee"),
        (Server(url="http://127.0.0.1:9/mcp"), "cannot be used"),
        (Server(command=STDIO.command, env={"A": "${NOT_THERE}"}), "needs NOT_THERE"),
    ],
)
async def test_a_server_that_does_not_start_is_told_with_its_last_words(
    tmp_path: Path, server: Server, told: str
) -> None:
    with pytest.raises(StartupError, match=told):
        async with open_server("local", settings(tmp_path, server)):
            pass


async def test_a_server_that_says_nothing_is_given_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(client_module, "START_SECONDS", 0.5)
    silent = Server(command=(sys.executable, "-c", "import sys; sys.stdin.read()"))
    with pytest.raises(StartupError, match="does not answer"):
        async with open_server("local", settings(tmp_path, silent)):
            pass


async def test_a_program_that_speaks_otherwise_is_no_server(tmp_path: Path) -> None:
    wild = Server(command=(sys.executable, "-c", "print('hello\\n' * 1000)"))
    with pytest.raises(StartupError, match="mcp:local"):
        async with open_server("local", settings(tmp_path, wild)):
            pass


async def test_an_unknown_server_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="puna mcp add local"):
        async with open_server("local", settings(tmp_path)):
            pass
    with pytest.raises(StartupError, match="there are local"):
        async with open_server("other", settings(tmp_path, STDIO)):
            pass


# --- Puna as a server


PUNA = str(Path(sys.executable).with_name("puna"))


async def answers_as_a_model(folder: Path, server: Server) -> None:
    async with open_server("puna", settings(folder, server, "puna")) as tools:
        assert "puna_ask" in {tool.name for tool in tools}
        output = await call(tools, "puna_ask", question="What is the capital of Sweden?")
        assert output.text.strip()


async def test_puna_serves_its_models_to_other_programs_over_stdio(tmp_path: Path) -> None:
    server = Server(command=(PUNA, "mcp", "serve", "cria-text"), env={"OMP_NUM_THREADS": "1"})
    await answers_as_a_model(tmp_path, server)


async def test_puna_serves_its_models_to_other_programs_over_http(tmp_path: Path) -> None:
    with serving(PUNA, "mcp", "serve", "cria-text", "--http", "--port") as url:
        await answers_as_a_model(tmp_path, Server(url=url))


async def test_a_server_over_http_that_was_started_again_is_found_again(tmp_path: Path) -> None:
    with serving(sys.executable, SERVER, "http") as url:
        port = url.split(":")[2].partition("/")[0]
        async with open_server("local", settings(tmp_path, Server(url=url))) as tools:
            assert (await call(tools, "local_add", a=1, b=1)).text == "2"
            with pytest.raises(ToolFailed, match=r"ended|failed"):
                await call(tools, "local_die_now")
            with serving(sys.executable, SERVER, "http", port=int(port)):
                assert (await call(tools, "local_add", a=1, b=1)).text == "2"


def test_ctrl_c_ends_the_server_over_stdio_though_nobody_closed_its_input() -> None:
    process = subprocess.Popen(
        [PUNA, "mcp", "serve", "cria-text"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    with process:
        assert process.stderr is not None
        try:
            while b"serving over stdio" not in process.stderr.readline():
                assert process.poll() is None
            time.sleep(1)
            process.send_signal(signal.SIGINT)
            assert process.wait(30) == 130
        finally:
            process.kill()
