from __future__ import annotations

import gzip
import ipaddress
import socket
import zlib
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from puna.tools.outside import Answer, Refused, TooLarge, fetch, is_public
from tests.unit.tools.web import Asked, Told, web

SECRET = {"X-Subscription-Token": "secret"}


def names(table: dict[str, str]) -> Callable[[str, int], object]:
    async def resolve(host: str, port: int) -> list[str]:
        if host not in table:
            raise socket.gaierror
        return [table[host]]

    return resolve


async def guarded(url: str, **fields: object) -> Answer:
    """Here 127.0.0.1 stands for the open internet, and 127.0.0.2 for what is inside."""
    table = {"open.example": "127.0.0.1", "other.example": "127.0.0.1", "in.example": "127.0.0.2"}
    return await fetch(
        url,
        **{"resolve": names(table), "allowed": lambda ip: ip == "127.0.0.1", **fields},  # type: ignore[arg-type]
    )


@pytest.mark.parametrize(
    "url",
    [
        "http://127.0.0.1/", "http://127.1/", "http://0/", "http://0.0.0.0/", "http://0x7f000001/",
        "http://2130706433/", "http://017700000001/", "http://0177.0.0.1/", "http://localhost/",
        "http://LOCALHOST./", "http://[::1]/", "http://[::]/", "http://[::ffff:127.0.0.1]/",
        "http://[::ffff:7f00:1]/", "http://[::127.0.0.1]/", "http://[64:ff9b::127.0.0.1]/",
        "http://[2002:7f00:1::]/", "http://[fe80::1]/", "http://[fd00::1]/", "http://10.0.0.1/",
        "http://172.31.255.255/", "http://192.168.0.1/", "http://100.64.0.1/",
        "http://169.254.169.254/latest/meta-data/", "http://[fd00:ec2::254]/latest/",
        "http://user:word@127.0.0.1/", "http://example.com@127.0.0.1/", "http://127.0.0.1#@a.com/",
        "http://①②⑦.⓪.⓪.①/", "http://127。0。0。1/", "https://localhost/", "HTTP://127.0.0.1/",
    ],
)  # fmt: skip
async def test_inner_addresses_are_never_connected_to_however_they_are_spelt(url: str) -> None:
    with pytest.raises(Refused, match=r"not public|no address|no http"):
        await fetch(url, seconds=5)


INSIDE = [
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12",
    "192.168.0.0/16", "198.18.0.0/15", "224.0.0.0/4", "240.0.0.0/4",
]  # fmt: skip


@given(st.sampled_from(INSIDE), st.integers(0, 2**32 - 1))
def test_no_inner_address_is_public_however_it_is_wrapped(network: str, host: int) -> None:
    inside = ipaddress.ip_network(network)
    number = int(inside.network_address) | host & int(inside.hostmask)
    v4 = ipaddress.IPv4Address(number)
    wrapped = (
        number | 0xFFFF << 32,  # mapped
        number,  # compatible
        number | 0x0064FF9B << 96,  # NAT64
        number << 80 | 0x2002 << 112,  # 6to4
        (number ^ 0xFFFFFFFF) | 0x20010000 << 96,  # Teredo
    )
    for spelt in (str(v4), *(str(ipaddress.IPv6Address(one)) for one in wrapped)):
        assert not is_public(spelt)


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://a/b", "gopher://a/", "//a", "a", "", "http://", "data:,a"]
)
async def test_only_http_is_spoken(url: str) -> None:
    with pytest.raises(Refused, match=r"neither http|no http"):
        await fetch(url)


async def test_a_name_that_answers_otherwise_the_second_time_gains_nothing() -> None:
    answers = iter([["127.0.0.1"], ["127.0.0.2"], ["127.0.0.2"]])

    async def resolve(host: str, port: int) -> list[str]:
        return next(answers)

    with web(lambda _: Told(body=b"here")) as server:
        got = await guarded(f"http://rebind.example:{server.port}/", resolve=resolve)
        assert got.body == b"here"
        with pytest.raises(Refused, match="not public"):
            await guarded(f"http://rebind.example:{server.port}/", resolve=resolve)
    assert len(server.asked) == 1
    assert server.asked[0].headers["host"] == f"rebind.example:{server.port}"


async def test_every_redirect_is_checked_like_the_first_address() -> None:
    def answer(asked: Asked) -> Told:
        if asked.path == "/hop":
            return Told(302, headers={"Location": "http://in.example/secret"})
        return Told(302, headers={"Location": "/hop"})

    with web(answer) as server:
        with pytest.raises(Refused, match="not public"):
            await guarded(f"http://open.example:{server.port}/")
        with pytest.raises(Refused, match="not public"):
            await guarded(f"http://other.example:{server.port}/", own=True)
    assert [one.path for one in server.asked] == ["/", "/hop", "/", "/hop"]


@pytest.mark.parametrize("to", ["file:///etc/passwd", "ftp://a/", "http://[", "//", "http://"])
async def test_a_redirect_cannot_leave_http(to: str) -> None:
    with (
        web(lambda _: Told(301, headers={"Location": to})) as server,
        pytest.raises(Refused),
    ):
        await guarded(f"http://open.example:{server.port}/", max_redirects=1)


async def test_the_users_own_server_may_be_anywhere_but_leads_nowhere_else() -> None:
    def answer(asked: Asked) -> Told:
        if asked.path == "/away":
            return Told(302, headers={"Location": f"http://localhost:{other.port}/"})
        if asked.path == "/home":
            return Told(302, headers={"Location": "/"})
        return Told(body=b"mine")

    with web(lambda _: Told(body=b"not mine")) as other, web(answer) as server:
        assert (await fetch(server.url, own=True)).body == b"mine"
        assert (await fetch(f"{server.url}/home", own=True)).body == b"mine"
        with pytest.raises(Refused, match="not public"):
            await fetch(f"{server.url}/away", own=True)
        with pytest.raises(Refused, match="not public"):
            await fetch(server.url)
    assert not other.asked


async def test_a_key_is_not_carried_to_another_host() -> None:
    def answer(asked: Asked) -> Told:
        port = server.port
        match asked.path:
            case "/":
                return Told(302, headers={"Location": "/same"})
            case "/same":
                return Told(307, headers={"Location": f"http://other.example:{port}/other"})
            case _:
                return Told()

    with web(answer) as server:
        await guarded(f"http://open.example:{server.port}/", headers=SECRET)
    assert ["x-subscription-token" in one.headers for one in server.asked] == [True, True, False]


async def test_what_is_posted_is_not_redirected() -> None:
    with web(lambda _: Told(307, headers={"Location": "/again"})) as server:
        with pytest.raises(Refused, match="posted"):
            await guarded(f"http://open.example:{server.port}/", json={"a": 1})
        assert server.asked[0].method == "POST"
        assert server.asked[0].body == b'{"a":1}'
    assert len(server.asked) == 1


async def test_a_loop_ends() -> None:
    with web(lambda _: Told(302, headers={"Location": "/"})) as server:
        with pytest.raises(Refused, match="more than 3 times"):
            await guarded(f"http://open.example:{server.port}/")
        assert len(server.asked) == 4


async def test_a_compressed_answer_is_unfolded_and_cannot_unfold_without_end() -> None:
    bombs = {
        "/good": gzip.compress(b"x" * 1000),
        "/bomb": gzip.compress(b"\0" * 50_000_000),
        "/cut": gzip.compress(b"x" * 1000)[:-12],
        "/broken": b"no gzip",
    }

    def answer(asked: Asked) -> Told:
        return Told(body=bombs[asked.path], headers={"Content-Encoding": "gzip"})

    with web(answer) as server:
        url = f"http://open.example:{server.port}"
        assert (await guarded(f"{url}/good", max_bytes=1000)).body == b"x" * 1000
        with pytest.raises(TooLarge, match="more than 999 bytes"):
            await guarded(f"{url}/good", max_bytes=999)
        with pytest.raises(TooLarge):
            await guarded(f"{url}/bomb")
        with pytest.raises(Refused, match="cut off"):
            await guarded(f"{url}/cut")
        with pytest.raises(Refused, match="broken"):
            await guarded(f"{url}/broken")


async def test_a_compression_that_was_not_asked_for_is_refused() -> None:
    told = Told(body=zlib.compress(b"x"), headers={"Content-Encoding": "deflate"})
    with web(lambda _: told) as server, pytest.raises(Refused, match="deflate"):
        await guarded(f"http://open.example:{server.port}/")


async def test_a_silent_server_is_given_up() -> None:
    with web(lambda _: Told(hang=True)) as server, pytest.raises(Refused, match="took longer"):
        await guarded(f"http://open.example:{server.port}/", seconds=0.2)


async def test_an_answer_that_breaks_off_is_told() -> None:
    told = Told(body=b"half", length=100)
    with web(lambda _: told) as server, pytest.raises(Refused, match="connection failed"):
        await guarded(f"http://open.example:{server.port}/")


async def test_the_next_address_is_tried_where_one_cannot_be_reached() -> None:
    async def resolve(host: str, port: int) -> list[str]:
        return ["127.0.0.3", "127.0.0.1"]

    with web(lambda _: Told(body=b"here")) as server:
        url = f"http://open.example:{server.port}/"
        got = await fetch(url, resolve=resolve, allowed=lambda _: True)
        assert got.body == b"here"


async def test_the_environments_proxy_is_not_a_way_around(monkeypatch: pytest.MonkeyPatch) -> None:
    with web(lambda _: Told(body=b"proxy")) as proxy:
        for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
        with pytest.raises(Refused, match="not public"):
            await fetch("http://127.0.0.2/")
    assert not proxy.asked
