"""Sockets and uvicorn: bind first and say clearly why not, then serve.

It knows addresses, and of an app only that it is one. Logging is left to whoever runs this.
"""

from __future__ import annotations

import errno
import socket
import threading
import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import cast

import uvicorn
from starlette.types import ASGIApp

from puna.errors import StartupError

GRACE_SECONDS = 3


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 picks a free one. Raises `StartupError`: port taken ..."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (socket.gaierror, UnicodeError) as error:
        raise StartupError(
            f"Cannot listen on {host!r}: the name has no address. Try --host 127.0.0.1."
        ) from error
    # localhost may be both; programs that paste 127.0.0.1 are many.
    family, kind, protocol, _, address = min(found, key=lambda one: one[0] != socket.AF_INET)
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(2048)
    except OSError as error:
        listener.close()
        raise StartupError(_why_not(host, port, error)) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address to paste: a server on all interfaces is reached on this machine as 127.0.0.1."""
    host, port = cast("tuple[str, int]", listener.getsockname()[:2])
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def serve(
    app: ASGIApp,
    host: str = "127.0.0.1",
    port: int = 8080,
    *,
    listener: socket.socket | None = None,
    ready: Callable[[str], None] | None = None,
) -> None:
    """Serve until SIGINT or SIGTERM; answers that run get `GRACE_SECONDS` to end.

    `listener` is a socket from `listen`, for who wants the port before the models are loaded.
    `ready` is told the URL once requests are taken. Ctrl-C ends in `KeyboardInterrupt`.
    """
    listener = listener or listen(host, port)
    if ready is not None:
        # The socket listens already: whoever connects now waits for a moment and is answered.
        ready(url_of(listener))
    _server(app).run(sockets=[listener])


@contextmanager
def background(app: ASGIApp, host: str = "127.0.0.1", port: int = 0) -> Generator[str]:
    """Serve in a thread while the block runs; gives the URL."""
    listener = listen(host, port)
    server = _server(app)
    thread = threading.Thread(
        target=server.run, kwargs={"sockets": [listener]}, name="puna-server", daemon=True
    )
    thread.start()
    try:
        while not server.started:
            if not thread.is_alive():
                raise StartupError("The server stopped before it had started.")
            time.sleep(0.005)
        yield url_of(listener)
    finally:
        server.should_exit = True
        thread.join(GRACE_SECONDS + 5)


def _server(app: ASGIApp) -> uvicorn.Server:
    return uvicorn.Server(
        uvicorn.Config(
            app,
            http="h11",  # one protocol implementation, the same wherever Puna runs
            ws="none",
            lifespan="off",
            # Puna logs requests itself; uvicorn would report each stream that is broken on purpose.
            log_config=None,
            log_level="critical",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=GRACE_SECONDS,
        )
    )


def _why_not(host: str, port: int, error: OSError) -> str:
    where = f"Cannot listen on {host} port {port}"
    if error.errno == errno.EADDRINUSE:
        return (
            f"{where}: another program is using it. Stop that one, or pick another port, "
            f"say --port {port + 1 if port < 65535 else port - 1} (0 takes any that is free)."
        )
    if error.errno == errno.EACCES:
        return f"{where}: ports below 1024 need privileges. Try --port 8080."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"{where}: this machine has no such address. Try --host 127.0.0.1, or 0.0.0.0."
    return f"{where}: {error.strerror or error}."
