from __future__ import annotations

import asyncio
import base64
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.errors import InvalidImage
from puna.server.images import Images, data_url_bytes
from puna.tools.outside import is_public


@given(st.binary(min_size=1), st.sampled_from(["image/jpg", "image/png", "", "x;charset=utf-8"]))
def test_a_data_url_gives_its_bytes_whatever_its_label(data: bytes, label: str) -> None:
    encoded = base64.b64encode(data).decode()
    for written in (
        encoded,
        encoded.rstrip("="),
        "\n".join(encoded[i : i + 7] for i in range(0, len(encoded), 7)),
    ):
        assert data_url_bytes(f"DATA:{label};base64,{written}", "p") == data


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("data:image/png,abc", "base64"),
        ("data:image/png;base64", "base64"),
        ("data:image/png;base64,", "empty"),
        ("data:image/png;base64,@@@@", "broken"),
        ("data:image/png;base64,aGVsbG8_", "broken"),
        ("data:image/png;base64,a", "broken"),
        ("data:image/png;base64,aå==", "broken"),
        ("data:image/png;base64,aG==aG==", "broken"),
    ],
)
def test_a_broken_data_url_is_refused_by_name(url: str, told: str) -> None:
    with pytest.raises(InvalidImage, match=told) as caught:
        data_url_bytes(url, "messages[0]")
    assert caught.value.param == "messages[0]"
    assert caught.value.message.startswith("messages[0]: ")


@pytest.mark.parametrize("url", ["", "x.jpg", "/etc/passwd", "file:///etc/passwd", "ftp://a/b"])
async def test_other_addresses_are_no_pictures_even_where_fetching_is_allowed(url: str) -> None:
    with pytest.raises(InvalidImage, match="expected a data: URL"):
        await Images(allow_urls=True).load(url, "p")


async def test_nothing_is_fetched_unless_the_owner_allowed_it() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        raise AssertionError("asked for an address")

    with pytest.raises(InvalidImage, match="--allow-image-urls"):
        await Images(resolve=resolve).load("https://example.com/a.jpg", "p")


# --- Addresses


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "127.8.8.8", "0.0.0.0", "10.1.2.3", "172.16.0.1", "192.168.1.1",
        "169.254.169.254", "100.64.0.1", "192.0.2.1", "198.18.0.1", "224.0.0.1", "240.0.0.1",
        "255.255.255.255", "::1", "::", "fe80::1", "fe80::1%eth0", "fc00::1", "fd12::1",
        "ff02::1", "fec0::1", "2001:db8::1", "::ffff:127.0.0.1", "::ffff:10.0.0.1",
        "2002:7f00:1::", "2002:a00:1::", "64:ff9b::7f00:1", "64:ff9b::a00:1", "2001:0:1::1",
        "example.com", "",
    ],
)  # fmt: skip
def test_no_address_inside_a_network_counts_as_public(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", ["8.8.8.8", "1.1.1.1", "2606:4700::1111", "64:ff9b::808:808"])
def test_addresses_of_the_open_internet_are_public(address: str) -> None:
    assert is_public(address)


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/a.jpg",
        "http://localhost/a.jpg",
        "http://[::1]:80/a.jpg",
        "http://0x7f.1/a.jpg",
        "http://2130706433/a.jpg",
        "http://169.254.169.254/latest/meta-data/",
        "HTTP://user:password@127.0.0.1/",
    ],
)
async def test_private_addresses_are_never_connected_to(url: str) -> None:
    with pytest.raises(InvalidImage, match=r"not public|no address"):
        await Images(allow_urls=True).load(url, "p")


async def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["93.184.216.34", "127.0.0.1"]

    with pytest.raises(InvalidImage, match="not public"):
        await Images(allow_urls=True, resolve=resolve).load("http://rebind.example/", "p")


# --- Fetching, from a server of our own


class Handler(BaseHTTPRequestHandler):
    seen: list[tuple[str, str]]

    def do_GET(self) -> None:
        self.seen.append((self.headers["Host"], self.path))
        match self.path:
            case "/a.jpg":
                self._send(200, b"\xff\xd8\xffjpeg")
            case "/large":
                self._send(200, b"x" * 2000)
            case "/some":
                self._send(200, b"x" * 600)
            case "/gzip":
                self._send(200, b"x", {"Content-Encoding": "gzip"})
            case "/hang":
                self.send_response(200)
                self.end_headers()
                self.wfile.flush()
                self.rfile.read(1)  # until the client goes
            case "/loop":
                self._send(302, b"", {"Location": "/loop"})
            case "/inside":
                self._send(302, b"", {"Location": "http://inside.example/a.jpg"})
            case "/file":
                self._send(302, b"", {"Location": "file:///etc/passwd"})
            case "/there":
                self._send(302, b"", {"Location": "/a.jpg"})
            case _:
                self._send(404, b"no")

    def _send(self, status: int, body: bytes, headers: dict[str, str] | None = None) -> None:
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@contextmanager
def pictures() -> Iterator[tuple[int, list[tuple[str, str]]]]:
    seen: list[tuple[str, str]] = []
    handler = type("Bound", (Handler,), {"seen": seen})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield server.server_port, seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def images(allowed: Callable[[str], bool] = lambda _: True, **fields: object) -> Images:
    async def resolve(host: str, port: int) -> list[str]:
        if host.endswith("gone.example"):
            raise socket.gaierror
        return ["127.0.0.2" if host == "inside.example" else "127.0.0.1"]

    return Images(allow_urls=True, max_bytes=1000, resolve=resolve, allowed=allowed, **fields)  # type: ignore[arg-type]


async def test_a_picture_is_fetched_by_name_from_the_address_that_was_checked() -> None:
    with pictures() as (port, seen):
        got = await images().load(f"http://open.example:{port}/there", "p")
    assert got == b"\xff\xd8\xffjpeg"
    assert seen == [(f"open.example:{port}", "/there"), (f"open.example:{port}", "/a.jpg")]


async def test_a_redirect_is_checked_like_the_first_address() -> None:
    with pictures() as (port, seen), pytest.raises(InvalidImage, match="not public"):
        await images(lambda ip: ip == "127.0.0.1").load(f"http://open.example:{port}/inside", "p")
    assert [path for _, path in seen] == ["/inside"]


@pytest.mark.parametrize(
    ("path", "told"),
    [
        ("/large", "more than 1000 bytes"),
        ("/gzip", "compressed"),
        ("/loop", "redirects more than 3 times"),
        ("/file", "neither http nor https|no http or https"),
        ("/missing", "answered 404"),
    ],
)
async def test_what_cannot_be_had_is_refused_with_the_reason(path: str, told: str) -> None:
    with pictures() as (port, _), pytest.raises(InvalidImage, match=told) as caught:
        await images().load(f"http://open.example:{port}{path}", "p")
    assert caught.value.param == "p"


async def test_the_limit_is_for_all_pictures_of_a_request_together() -> None:
    with pictures() as (port, _):
        loader = images()
        url = f"http://open.example:{port}/some"
        await loader.load(url, "p")
        with pytest.raises(InvalidImage, match="more than 1000 bytes"):
            await loader.load(url, "p")


async def test_a_slow_picture_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        with pytest.raises(InvalidImage, match="longer than"):
            await images(seconds=0.1).load(f"http://open.example:{port}/", "p")
    with pictures() as (port, _), pytest.raises(InvalidImage, match="longer than"):
        await images(seconds=0.3).load(f"http://open.example:{port}/hang", "p")


async def test_names_are_looked_up_also_while_every_worker_is_busy() -> None:
    asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(1))
    release = threading.Event()
    busy = asyncio.create_task(asyncio.to_thread(release.wait))
    await asyncio.sleep(0)
    try:
        async with asyncio.timeout(5):
            with pytest.raises(InvalidImage, match="not public"):
                await Images(allow_urls=True).load("http://127.0.0.1/", "p")
    finally:
        release.set()
        await busy


async def test_a_name_without_end_makes_no_message_without_end() -> None:
    with pytest.raises(InvalidImage, match="has no address") as caught:
        await images().load(f"http://{'a.' * 20_000}gone.example/", "p")
    assert len(caught.value.message) < 300


async def test_names_without_an_address_and_closed_ports_are_told_apart() -> None:
    with pytest.raises(InvalidImage, match="has no address"):
        await images().load("http://gone.example/", "p")
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with pytest.raises(InvalidImage, match="the connection failed"):
        await images().load(f"http://open.example:{port}/", "p")


@pytest.mark.parametrize(
    "url", ["http://", "http://[", "http://a b/", "https://\x00/", "http://é.\ud800/"]
)
async def test_addresses_that_are_none_are_refused_in_one_line(url: str) -> None:
    with pytest.raises(InvalidImage) as caught:
        await images().load(url, "p")
    assert "\n" not in caught.value.message


async def test_the_environments_proxy_is_not_a_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    with pictures() as (port, _):
        assert await images().load(f"http://open.example:{port}/a.jpg", "p")
