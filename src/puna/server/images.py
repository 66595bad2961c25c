"""From an `image_url` to the bytes of an image file: data URLs, and public addresses if allowed.

It knows URLs and networks, and never looks at pixels: a data URL's label says nothing, its bytes
do, and the model decodes those.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import ipaddress
import socket
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import TypeAlias

import httpx2

from puna.errors import InvalidImage

Resolve: TypeAlias = Callable[[str, int], Awaitable[list[str]]]

MAX_REDIRECTS = 3
SECONDS = 20.0


def data_url_bytes(url: str, param: str) -> bytes:
    """The bytes behind `data:...;base64,...`. Raises `InvalidImage` that names `param`."""
    header, comma, data = url.partition(",")
    if not comma or not header.lower().endswith(";base64"):
        raise InvalidImage(
            f"{param}: expected data:image/png;base64,... (or jpeg, webp, gif), got "
            f"{_shown(header)}.",
            param=param,
        )
    data = "".join(data.split())
    try:
        decoded = base64.b64decode(data + "=" * (-len(data) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        raise InvalidImage(f"{param}: the base64 is broken: {error}.", param=param) from None
    if not decoded:
        raise InvalidImage(f"{param}: the image is empty.", param=param)
    return decoded


class Images:
    """Loads the images of one request's messages.

    `max_images` and `max_bytes` bound what is loaded and what is fetched in all. `resolve` and
    `allowed` are there for tests.
    """

    def __init__(
        self,
        *,
        allow_urls: bool = False,
        max_images: int = 16,
        max_bytes: int = 20 * 2**20,
        seconds: float = SECONDS,
        resolve: Resolve | None = None,
        allowed: Callable[[str], bool] | None = None,
    ) -> None:
        self._allow_urls = allow_urls
        self._max_images = max_images
        self._count = 0
        self._max_bytes = self._left = max_bytes
        self._seconds = seconds
        self._resolve = resolve or _resolve
        self._allowed = allowed or is_public

    async def load(self, url: str, param: str) -> bytes:
        """The image behind `url`; raises `InvalidImage` that names `param`."""
        self._count += 1
        if self._count > self._max_images:
            raise InvalidImage(
                f"{param}: a request may hold at most {self._max_images} images.", param=param
            )
        scheme = url[:8].lower()
        if scheme.startswith("data:"):
            return await asyncio.to_thread(data_url_bytes, url, param)
        if not scheme.startswith(("http://", "https://")):
            raise InvalidImage(f"{param}: expected a data: URL, got {_shown(url)}.", param=param)
        if not self._allow_urls:
            raise InvalidImage(
                f"{param}: this server fetches no images from the network. Send the image as a "
                "data URL (data:image/jpeg;base64,...), or start Puna with --allow-image-urls.",
                param=param,
            )
        try:
            async with asyncio.timeout(self._seconds):
                return await self._fetch(url)
        except TimeoutError:
            reason = f"it took longer than {self._seconds:g} seconds"
        except _Refused as error:
            reason = str(error)
        except httpx2.TooManyRedirects:
            reason = f"it redirects more than {MAX_REDIRECTS} times"
        except (httpx2.InvalidURL, httpx2.UnsupportedProtocol, UnicodeError):
            reason = "this is no http or https address"
        except httpx2.HTTPError as error:
            reason = f"the connection failed ({type(error).__name__})"
        raise InvalidImage(
            f"{param}: the image at {_shown(url)} cannot be fetched: {reason}.", param=param
        )

    async def _fetch(self, url: str) -> bytes:
        transport = _PublicTransport(self._resolve, self._allowed)
        async with (
            # No proxy and no netrc from the environment: they would lead past the check.
            httpx2.AsyncClient(
                transport=transport,
                trust_env=False,
                follow_redirects=True,
                max_redirects=MAX_REDIRECTS,
                headers={"Accept": "image/*", "Accept-Encoding": "identity"},
            ) as client,
            client.stream("GET", url) as response,
        ):
            if response.status_code != 200:
                raise _Refused(f"the server answered {response.status_code}")
            if response.headers.get("content-encoding", "identity") != "identity":
                raise _Refused("it came compressed although that was not asked for")
            body = bytearray()
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > self._left:
                    raise _Refused(f"with it the images have more than {self._max_bytes} bytes")
            self._left -= len(body)
            return bytes(body)


class _Refused(Exception):
    """Why an image is not fetched, in a few words."""


class _PublicTransport(httpx2.AsyncBaseTransport):
    """Connects to the very address that it checked, and every redirect passes through here.

    So a name cannot answer with a public address to the check and a private one to the connection.
    """

    def __init__(self, resolve: Resolve, allowed: Callable[[str], bool]) -> None:
        self._resolve = resolve
        self._allowed = allowed
        # A connection must not outlive the name that it was opened and verified for.
        limits = httpx2.Limits(max_keepalive_connections=0)
        self._inner = httpx2.AsyncHTTPTransport(trust_env=False, limits=limits)

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        url = request.url
        if url.scheme not in ("http", "https") or not url.host:
            raise _Refused("it leads to something that is neither http nor https")
        port = url.port or (443 if url.scheme == "https" else 80)
        try:
            addresses = await self._resolve(url.host, port)
        except OSError:
            raise _Refused("its name has no address") from None
        if not addresses or not all(self._allowed(address) for address in addresses):
            raise _Refused("it leads to an address that is not public")
        request.url = url.copy_with(host=addresses[0])
        request.extensions = {**request.extensions, "sni_hostname": url.host}
        return await self._inner.handle_async_request(request)

    async def aclose(self) -> None:
        await self._inner.aclose()


async def _resolve(host: str, port: int) -> list[str]:
    # A thread of its own: a slow name server must not take those that every request needs.
    thread = ThreadPoolExecutor(1, "puna-resolve")
    try:
        look_up = partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        found = await asyncio.get_running_loop().run_in_executor(thread, look_up)
    finally:
        thread.shutdown(wait=False)
    return [str(address[4][0]) for address in found]


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


def _shown(url: str) -> str:
    return repr(url if len(url) <= 80 else f"{url[:64]}…")
