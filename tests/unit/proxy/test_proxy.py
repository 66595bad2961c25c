"""The proxy itself, byte by byte: what it takes, and what it says when it does not."""

import asyncio
import errno
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from puna.proxy.proxy import Proxy, Target
from puna.proxy.upstream import CannotConnect, Route, Streams, Upstream


class Recorded(Route):
    """A way that leads nowhere and remembers what was asked."""

    async def connect(self, host: str, port: int) -> Streams:
        raise CannotConnect(f"asked for {host} {port}")


@asynccontextmanager
async def listening(route: Route, target_port: int = 9) -> AsyncIterator[int]:
    """A proxy for retired.example; whatever it did not foresee fails the test."""
    unforeseen: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unforeseen.append(context))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    proxy = Proxy(["retired.example"], context, Target("127.0.0.1", target_port), route)
    await proxy.start()
    try:
        yield int(proxy.address.rpartition(":")[2])
    finally:
        await proxy.close()
        loop.set_exception_handler(None)
    assert unforeseen == []


async def said_to(port: int, head: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    answer = await reader.read()
    writer.close()
    return answer


@pytest.mark.parametrize(
    ("asked", "answer"),
    [
        (b"a.example:443", b"asked for a.example 443"),
        (b"[2001:db8::1]:8443", b"asked for 2001:db8::1 8443"),
        (b"a_b.xn--bcher-kva.example:65535", b"asked for a_b.xn--bcher-kva.example 65535"),
        (b"a.example:65536", b"400 Bad Request"),
        (b"a.example:0", b"400 Bad Request"),
        (b"a.example:" + b"9" * 5000, b"400 Bad Request"),
        (b"a.example", b"400 Bad Request"),
        (b":443", b"400 Bad Request"),
        (b"a.example\nProxy-Header:443", b"400 Bad Request"),
        (b"a.example\r:443", b"400 Bad Request"),
        (b"a\x00.example:443", b"400 Bad Request"),
        ("bücher.example:443".encode(), b"400 Bad Request"),
    ],
)
async def test_an_address_is_a_name_and_a_port_and_nothing_else(
    asked: bytes, answer: bytes
) -> None:
    async with listening(Recorded()) as port:
        assert answer in await said_to(port, b"CONNECT " + asked + b" HTTP/1.1\r\n\r\n")


async def test_other_methods_are_refused() -> None:
    async with listening(Recorded()) as port:
        assert b" 405 " in await said_to(port, b"GET http://a.example/ HTTP/1.1\r\n\r\n")


async def test_a_name_that_no_resolver_takes_is_a_502() -> None:
    async with listening(Route()) as port:
        asked = b"CONNECT " + b"a" * 64 + b".example:443 HTTP/1.1\r\n\r\n"
        assert b" 502 " in await said_to(port, asked)


async def test_a_server_that_is_gone_is_named_by_its_address() -> None:
    gone = await asyncio.start_server(lambda *_: None, "127.0.0.1", 0)
    free = gone.sockets[0].getsockname()[1]
    gone.close()
    async with listening(Recorded(), free) as port:
        answer = await said_to(port, b"CONNECT retired.example:443 HTTP/1.1\r\n\r\n")
    assert f"cannot reach Puna at 127.0.0.1:{free}".encode() in answer


async def test_a_network_that_fails_in_the_middle_ends_the_tunnel_and_nothing_else() -> None:
    class Failing(Route):
        async def connect(self, host: str, port: int) -> Streams:
            reader, writer = await asyncio.open_connection(*other.sockets[0].getsockname())
            reader.set_exception(OSError(errno.ETIMEDOUT, "Connection timed out"))
            return reader, writer

    async def read(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    async with (
        await asyncio.start_server(read, "127.0.0.1", 0) as other,
        listening(Failing()) as port,
    ):
        answer = await said_to(port, b"CONNECT a.example:443 HTTP/1.1\r\n\r\n")
        assert answer == b"HTTP/1.1 200 Connection established\r\n\r\n"


@pytest.mark.parametrize("answer", [b"", b"nonsense\r\n\r\n", b"HTTP/1.1 407 No\r\n\r\n"])
async def test_a_proxy_on_the_way_that_refuses_is_left_and_named(answer: bytes) -> None:
    left = asyncio.Event()

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(answer)
        writer.write_eof()
        await reader.read()
        left.set()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as corporate:
        host, port = corporate.sockets[0].getsockname()
        with pytest.raises(CannotConnect, match=f"the proxy {host}:{port}"):
            await Route(Upstream(host, port)).connect("a.example", 443)
        async with asyncio.timeout(2):
            await left.wait()
