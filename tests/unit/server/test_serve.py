from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading

import httpx2
import pytest

from puna.errors import StartupError
from puna.scripted import ScriptedModel
from puna.server import background, create_app, listen, serve, url_of
from puna.settings import Settings


def app() -> object:
    return create_app({"m": ScriptedModel("x")}, settings=Settings())


def test_a_taken_port_is_one_clear_line() -> None:
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(StartupError) as caught:
            listen("127.0.0.1", port)
    assert f"port {port}: another program is using it" in caught.value.message
    assert f"--port {port + 1}" in caught.value.message
    assert "\n" not in caught.value.message


def test_a_host_that_is_not_this_machine_is_one_clear_line() -> None:
    for host in ("192.0.2.1", "no.such.name.invalid", "a b", "x" * 300):
        with pytest.raises(StartupError, match=r"Try --host") as caught:
            listen(host, 0)
        assert "\n" not in caught.value.message


def test_the_port_is_free_again_at_once() -> None:
    listener = listen("127.0.0.1", 0)
    port = listener.getsockname()[1]
    with socket.create_connection(("127.0.0.1", port)):
        listener.accept()[0].close()
    listener.close()
    listen("127.0.0.1", port).close()


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:"),
        ("0.0.0.0", "http://127.0.0.1:"),
        ("localhost", "http://127.0.0.1:"),
    ],
)
def test_the_address_to_paste_works_on_this_machine(host: str, url: str) -> None:
    with listen(host, 0) as listener:
        assert url_of(listener).startswith(url)


def test_a_server_in_the_background_serves_and_goes() -> None:
    before = set(threading.enumerate())  # other tests may have servers of their own
    with background(app()) as url:  # type: ignore[arg-type]
        assert httpx2.get(f"{url}/health").json() == {"status": "ok", "models": ["m"]}
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{url}/health")
    left = set(threading.enumerate()) - before
    assert "puna-server" not in {thread.name for thread in left}


PROGRAM = """
from puna.scripted import ScriptedModel
from puna.server import create_app, serve
from puna.settings import Settings
app = create_app({"m": ScriptedModel("word " * 9999, delay=0.01)}, settings=Settings())
try:
    serve(app, "127.0.0.1", 0, ready=lambda url: print(url, flush=True))
except KeyboardInterrupt:
    print("bye", flush=True)
"""


def test_ctrl_c_ends_the_server_also_while_it_streams() -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    ask = {"messages": [{"role": "user", "content": "x"}], "stream": True}
    with httpx2.stream("POST", f"{url}/chat/completions", json=ask) as answer:
        next(answer.iter_raw())
        os.kill(process.pid, signal.SIGINT)
        os.kill(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=10)
    assert out == "bye\n"
    assert "Traceback" not in err
    assert process.returncode == 0


def test_serving_on_a_taken_port_raises_before_anything_else() -> None:
    with listen("127.0.0.1", 0) as taken, pytest.raises(StartupError):
        serve(app(), "127.0.0.1", taken.getsockname()[1])  # type: ignore[arg-type]
