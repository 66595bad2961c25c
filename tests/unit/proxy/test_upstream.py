"""The user's own proxy and exceptions, as `puna run` reads them."""

import pytest

from puna.errors import StartupError
from puna.proxy.upstream import Upstream, excepted, no_proxy_of, route_of


def test_without_a_proxy_the_way_is_straight() -> None:
    assert route_of({}).upstream is None
    assert route_of({"HTTPS_PROXY": ""}).upstream is None


def test_the_lower_case_variable_wins_as_in_curl_and_python() -> None:
    route = route_of({"HTTPS_PROXY": "http://one:1", "https_proxy": "http://two:2"})
    assert route.upstream == Upstream("two", 2)


def test_a_proxy_may_lack_a_scheme_and_carry_a_password() -> None:
    assert route_of({"HTTPS_PROXY": "corp:3128"}).upstream == Upstream("corp", 3128)
    route = route_of({"HTTPS_PROXY": "http://me:p%40ss@corp:3128"})
    assert route.upstream == Upstream("corp", 3128, credentials="Basic bWU6cEBzcw==")
    assert route_of({"HTTPS_PROXY": "https://corp"}).upstream == Upstream("corp", 443, tls=True)


@pytest.mark.parametrize("address", ["socks5://me:secret@corp:1", "http://", "http://corp:port"])
def test_a_proxy_that_cannot_be_used_is_named_without_its_password(address: str) -> None:
    with pytest.raises(StartupError, match="HTTPS_PROXY") as raised:
        route_of({"HTTPS_PROXY": address})
    assert "secret" not in raised.value.message


@pytest.mark.parametrize(
    ("host", "entries", "expected"),
    [
        ("a.example", ("a.example",), True),
        ("b.a.example", ("a.example",), True),
        ("ba.example", ("a.example",), False),
        ("b.a.example", (".a.example",), True),
        ("b.a.example", ("*.a.example",), True),
        ("anything", ("*",), True),
        ("A.Example", ("a.example",), True),
        ("a.example", ("a.example:443",), True),
        ("a.example", ("a.example:8443",), False),
        ("a.example", (), False),
        ("::1", ("::1",), True),
    ],
)
def test_no_proxy_is_read_as_its_users_mean_it(
    host: str, entries: tuple[str, ...], expected: bool
) -> None:
    assert excepted(host, 443, entries) is expected


def test_no_proxy_is_split_at_commas_and_trimmed() -> None:
    assert no_proxy_of({"NO_PROXY": " a , ,b"}) == ("a", "b")
