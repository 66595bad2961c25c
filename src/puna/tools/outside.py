"""HTTP for tools: one function, with limits on time, size and redirects, kept off inner networks.

Where somebody else chose the address (a model, a request, a redirect), the very address that a name
resolved to is checked and then connected to: a name cannot answer with a public one to the check
and a private one to the connection. It knows no service and no tool, and reads no proxy from the
environment, for that would lead past the check.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
import zlib
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, partial
from typing import Any, TypeAlias

import httpx2

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

SECONDS = 20.0
MAX_BYTES = 4 * 2**20
MAX_REDIRECTS = 3

_HEADERS = {"User-Agent": "puna", "Accept-Encoding": "gzip"}
_REDIRECTS = (301, 302, 303, 307, 308)


class Refused(Exception):
    """Why something was not fetched, in a few words that go on a sentence: "it took longer ..."."""


class TooLarge(Refused):
    pass


@dataclass(frozen=True, slots=True)
class Answer:
    """`headers` have lower-case names; `body` is decompressed."""

    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)


async def fetch(
    url: str,
    *,
    params: Mapping[str, str] | None = None,
    json: Any = None,
    headers: Mapping[str, str] | None = None,
    own: bool = False,
    seconds: float = SECONDS,
    max_bytes: int = MAX_BYTES,
    max_redirects: int = MAX_REDIRECTS,
    resolve: Resolve | None = None,
    allowed: Callable[[str], bool] | None = None,
) -> Answer:
    """What `url` answers to a GET, or with `json` to a POST, whatever the status. Raises `Refused`.

    `own`: the user himself configured this host, so it may be anywhere; a redirect from it to
    another host may not. `headers` go to the first host alone: they may hold a key. `max_bytes`
    bounds the decompressed body. `resolve` and `allowed` are there for tests.
    """
    guard = _Guard(resolve or look_up, allowed or is_public)
    try:
        async with asyncio.timeout(seconds):
            request = httpx2.Request(
                "GET" if json is None else "POST",
                url,
                params=params,
                json=json,
                headers={**_HEADERS, **(headers or {})},
            )
            if own:
                guard.trusted = _origin(request.url)
            return await _follow(request, guard, max_bytes, max_redirects)
    except TimeoutError:
        raise Refused(f"it took longer than {seconds:g} seconds") from None
    except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
        raise Refused("this is no http or https address") from None
    except httpx2.HTTPError as error:
        raise Refused(f"the connection failed ({type(error).__name__})") from error


async def _follow(
    request: httpx2.Request, guard: _Guard, max_bytes: int, max_redirects: int
) -> Answer:
    async with httpx2.AsyncClient(transport=guard, trust_env=False, timeout=None) as client:
        for _ in range(max_redirects + 1):
            url = request.url
            response = await client.send(request, stream=True)
            try:
                target = response.headers.get("location")
                if response.status_code not in _REDIRECTS or target is None:
                    body = await _body(response, max_bytes)
                    return Answer(response.status_code, dict(response.headers), body)
            finally:
                await response.aclose()
            request = _redirected(request, url, url.join(target))
    raise Refused(f"it redirects more than {max_redirects} times")


def _redirected(request: httpx2.Request, before: httpx2.URL, url: httpx2.URL) -> httpx2.Request:
    if request.method != "GET":
        raise Refused("it redirects what was posted to it")
    if before.scheme == "https" and url.scheme == "http":
        raise Refused("it redirects from https to http")
    headers = {name: value for name, value in request.headers.items() if name != "host"}
    same = _origin(before) == _origin(url)
    return httpx2.Request("GET", url, headers=headers if same else _HEADERS)


async def _body(response: httpx2.Response, max_bytes: int) -> bytes:
    """The body. Decompressed by hand, for a small piece can unfold to any size."""
    match response.headers.get("content-encoding", "identity").strip().lower():
        case "" | "identity":
            unzip = None
        case "gzip" | "x-gzip":
            unzip = zlib.decompressobj(wbits=31)
        case other:
            raise Refused(f"it came compressed as {other[:20]!r}, which was not asked for")
    body = bytearray()
    async for chunk in response.aiter_raw():
        try:
            body += unzip.decompress(chunk, max_bytes + 1 - len(body)) if unzip else chunk
        except zlib.error:
            raise Refused("its compressed answer is broken") from None
        if len(body) > max_bytes:
            raise TooLarge(f"it has more than {max_bytes} bytes")
    if unzip is not None and not unzip.eof:
        raise Refused("its compressed answer is cut off")
    return bytes(body)


class _Guard(httpx2.AsyncBaseTransport):
    """Connects to the address that it checked; only `trusted`, an origin, goes unchecked."""

    def __init__(self, resolve: Resolve, allowed: Callable[[str], bool]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        self.trusted: tuple[str, str, int] | None = None
        # A connection must not outlive the name that it was opened and verified for.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(verify=_tls(), trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise Refused("it leads to something that is neither http nor https")
        try:
            addresses = await self._resolve(url.host, _origin(url)[2])
        except OSError:
            raise Refused("its name has no address") from None
        trusted = _origin(url) == self.trusted
        if not addresses or not (trusted or all(map(self._allowed, addresses))):
            raise Refused("it leads to an address that is not public")
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        for address in addresses[:-1]:
            # A machine may have an address of a kind (IPv6, say) that the way to it has not.
            request.url = url.copy_with(host=address)
            try:
                return await self._inner.handle_async_request(request)
            except (httpx2.ConnectError, httpx2.ConnectTimeout):
                continue
        request.url = url.copy_with(host=addresses[-1])
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


@cache
def _tls() -> ssl.SSLContext:
    """Once, for reading the certificates takes longer than many an answer."""
    return httpx2.create_ssl_context(trust_env=False)


def _origin(url: httpx2.URL) -> tuple[str, str, int]:
    return url.scheme, url.host.lower(), url.port or (443 if url.scheme == "https" else 80)


async def look_up(host: str, port: int) -> list[str]:
    """The addresses of `host`. Raises OSError."""
    # A thread of its own: a slow name server must not take those that every request needs.
    thread = ThreadPoolExecutor(1, "puna-resolve")
    try:
        find = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(thread, find)
    finally:
        thread.shutdown(wait=False)
    return list(dict.fromkeys(str(address[4][0]) for address in found))


def is_public(address: str) -> bool:
    """Whether `address` is on the open internet, also when it wraps an IPv4 address in IPv6."""
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if isinstance(ip, ipaddress.IPv6Address):
        if ip in _NAT64:
            return is_public(str(ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)))
        inner = ip.ipv4_mapped or ip.sixtofour
        if inner is not None:
            return is_public(str(inner))
        if ip.teredo is not None or ip.is_site_local:
            return False
    return ip.is_global and not ip.is_multicast and not ip.is_reserved


_NAT64 = ipaddress.ip_network("64:ff9b::/96")
