"""The proxy: CONNECT to a retired host ends here, CONNECT to any other host passes through.

It knows no HTTP beyond CONNECT: once a tunnel stands, bytes are bytes.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from collections.abc import Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from puna.errors import StartupError
from puna.proxy.upstream import CannotConnect, Route, Streams

CHUNK = 64 * 1024
HEAD_TIMEOUT = 30.0
SHUT_TIMEOUT = 2.0


@dataclass(frozen=True, slots=True)
class Target:
    """Where a retired host's words go: an HTTP server, over TLS if `tls`."""

    host: str
    port: int
    tls: bool = False


def target_of(url: str) -> Target:
    """`http://127.0.0.1:8080` -> where that is. Raises `StartupError`."""
    parts = urlsplit(url)
    try:
        port = parts.port
    except ValueError:
        port = 0
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise StartupError(f"{url!r} is no server's address; expected one like http://HOST:PORT")
    if parts.path.strip("/") or parts.query or parts.fragment:
        raise StartupError(
            f"{url!r} has a path, and programs bring their own; name {parts.scheme}://{parts.netloc}"
        )
    return Target(parts.hostname, port or _PORTS[parts.scheme], parts.scheme == "https")


_PORTS = {"http": 80, "https": 443}


class Proxy:
    """Listens on 127.0.0.1 from `start` to `close`; `address` is its URL."""

    def __init__(
        self, hosts: Collection[str], context: ssl.SSLContext, target: Target, route: Route
    ) -> None:
        self._hosts = frozenset(host.lower() for host in hosts)
        self._context = context
        self._target = target
        self._route = route
        self._server: asyncio.Server | None = None
        self._tunnels: set[asyncio.Task[None]] = set()
        self.answered = 0
        """Tunnels to a retired host so far."""
        self.distrusted = 0
        """Those where the program refused the certificate."""

    @property
    def address(self) -> str:
        if self._server is None:
            raise RuntimeError("the proxy has not started")
        return f"http://127.0.0.1:{self._server.sockets[0].getsockname()[1]}"

    async def start(self) -> None:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)

    async def close(self) -> None:
        """Stop listening and drop what is open."""
        if self._server is not None:
            self._server.close()
        for tunnel in self._tunnels:
            tunnel.cancel()
        await asyncio.gather(*self._tunnels, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a connection is handled in a task")
        self._tunnels.add(task)
        try:
            await self._tunnel(reader, writer)
        except (OSError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
            pass  # The client went away, or speaks no HTTP: nobody is left to tell.
        except asyncio.CancelledError:
            pass  # `close` asked for it.
        finally:
            self._tunnels.discard(task)
            await _shut(writer)

    async def _tunnel(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(HEAD_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
        method, _, rest = head.split(b"\r\n", 1)[0].decode("latin-1").partition(" ")
        if method != "CONNECT":
            return await _refuse(writer, "405 Method Not Allowed", "this proxy knows CONNECT alone")
        address = _address(rest.split(" ")[0])
        if address is None:
            return await _refuse(writer, "400 Bad Request", "expected CONNECT HOST:PORT")
        host, port = address
        retired = host.lower().rstrip(".") in self._hosts
        try:
            other = await (self._reach_target() if retired else self._route.connect(host, port))
        except CannotConnect as error:
            return await _refuse(writer, "502 Bad Gateway", str(error))
        try:
            writer.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            await writer.drain()
            if retired:
                self.answered += 1
                await writer.start_tls(self._context)
            await _join((reader, writer), other)
        except* OSError as errors:  # An ssl.SSLError is one too.
            self.distrusted += retired and any(_is_distrust(error) for error in errors.exceptions)
        finally:
            await _shut(other[1])

    async def _reach_target(self) -> Streams:
        context = ssl.create_default_context() if self._target.tls else None
        try:
            return await asyncio.open_connection(self._target.host, self._target.port, ssl=context)
        except OSError as error:
            where = f"{self._target.host}:{self._target.port}"
            raise CannotConnect(f"cannot reach Puna at {where}: {error}") from error


# What goes on to the user's own proxy must not be able to end the line that it stands in.
_ADDRESS = re.compile(r"\[?([\w.:%-]+)\]?:([1-9]\d{0,4})", re.ASCII)


def _address(text: str) -> tuple[str, int] | None:
    found = _ADDRESS.fullmatch(text)
    return (found[1], int(found[2])) if found and int(found[2]) < 2**16 else None


async def _refuse(writer: asyncio.StreamWriter, status: str, reason: str) -> None:
    body = f"puna run: {reason}\n".encode()
    head = f"HTTP/1.1 {status}\r\nContent-Type: text/plain\r\nContent-Length: {len(body)}\r\n"
    writer.write(head.encode() + b"Connection: close\r\n\r\n" + body)
    await writer.drain()


async def _join(one: Streams, other: Streams) -> None:
    """Carry bytes both ways until both sides have said all they want to, or one breaks."""
    async with asyncio.TaskGroup() as group:
        group.create_task(_carry(one[0], other[1]))
        group.create_task(_carry(other[0], one[1]))


async def _carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    with contextlib.suppress(OSError):
        if writer.can_write_eof():
            writer.write_eof()
        else:
            writer.close()  # TLS has no half-open end.


async def _shut(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(SHUT_TIMEOUT):
            await writer.wait_closed()
    except (OSError, TimeoutError, asyncio.CancelledError):
        writer.transport.abort()


def _is_distrust(error: BaseException) -> bool:
    return isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or "")
