"""The way to every other host: straight, or through the proxy that the user already has.

It reads the user's HTTPS_PROXY and NO_PROXY from a mapping, and knows no retired hosts.
"""

from __future__ import annotations

import asyncio
import base64
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from puna.errors import StartupError

ANSWER_TIMEOUT = 60.0

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class CannotConnect(Exception):
    """The other host, or the proxy on the way, cannot be reached: a reason for people."""


@dataclass(frozen=True, slots=True)
class Upstream:
    """The user's own proxy. `credentials` is the value of a Proxy-Authorization header."""

    host: str
    port: int
    tls: bool = False
    credentials: str | None = None


@dataclass(frozen=True, slots=True)
class Route:
    """How to reach a host: `connect` opens a pipe of bytes to it."""

    upstream: Upstream | None = None
    exceptions: tuple[str, ...] = ()

    async def connect(self, host: str, port: int) -> Streams:
        """A connection to `host`; raises `CannotConnect`."""
        try:
            if self.upstream is None or excepted(host, port, self.exceptions):
                return await asyncio.open_connection(host, port)
            return await _through(self.upstream, host, port)
        except (OSError, UnicodeError) as error:
            raise CannotConnect(f"cannot reach {host}:{port}: {error}") from error


def route_of(environment: Mapping[str, str]) -> Route:
    """The route that `environment` asks for; a proxy that Puna cannot use is a `StartupError`."""
    address = _first(environment, "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY")
    exceptions = no_proxy_of(environment)
    if not address:
        return Route(exceptions=exceptions)
    parts = urlsplit(address if "://" in address else f"http://{address}")
    try:
        port = parts.port
    except ValueError:
        port = -1
    if parts.scheme not in ("http", "https") or not parts.hostname or port == -1:
        raise StartupError(
            f"HTTPS_PROXY is {_without_password(address)!r}; puna run can go through http:// and "
            "https:// proxies only: unset it, or name one of these"
        )
    credentials = None
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        credentials = "Basic " + base64.b64encode(pair.encode()).decode()
    tls = parts.scheme == "https"
    return Route(
        upstream=Upstream(parts.hostname, port or (443 if tls else 80), tls, credentials),
        exceptions=exceptions,
    )


def no_proxy_of(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The entries of NO_PROXY, in order."""
    value = _first(environment, "no_proxy", "NO_PROXY")
    return tuple(entry.strip() for entry in value.split(",") if entry.strip())


def excepted(host: str, port: int, entries: tuple[str, ...]) -> bool:
    """Whether NO_PROXY's `entries` say that `host` is to be reached without the proxy."""
    host = host.lower().rstrip(".")
    for entry in entries:
        if entry.lower() in ("*", host):
            return True
        name, _, its_port = entry.lower().rpartition(":")
        if not name or not its_port.isdigit():
            name, its_port = entry.lower(), ""
        name = name.removeprefix("*").removeprefix(".")
        if its_port and int(its_port) != port:
            continue
        if host == name or (name and host.endswith(f".{name}")):
            return True
    return False


async def _through(upstream: Upstream, host: str, port: int) -> Streams:
    context = ssl.create_default_context() if upstream.tls else None
    reader, writer = await asyncio.open_connection(upstream.host, upstream.port, ssl=context)
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    head = f"CONNECT {target} HTTP/1.1\r\nHost: {target}\r\n"
    if upstream.credentials:
        head += f"Proxy-Authorization: {upstream.credentials}\r\n"
    writer.write(head.encode() + b"\r\n")
    await writer.drain()
    status = await _status(reader)
    if status.split(" ")[1:2] != ["200"]:
        writer.close()
        raise CannotConnect(f"the proxy {upstream.host}:{upstream.port} refused {target}: {status}")
    return reader, writer


async def _status(reader: asyncio.StreamReader) -> str:
    """The first line of the proxy's answer."""
    try:
        async with asyncio.timeout(ANSWER_TIMEOUT):
            head = await reader.readuntil(b"\r\n\r\n")
    except (asyncio.IncompleteReadError, asyncio.LimitOverrunError, TimeoutError):
        return "no answer"
    return head.split(b"\r\n", 1)[0].decode("latin-1")


def _first(environment: Mapping[str, str], *names: str) -> str:
    return next((environment[name] for name in names if environment.get(name)), "")


def _without_password(address: str) -> str:
    head, _, tail = address.rpartition("@")
    return f"...@{tail}" if head else address
