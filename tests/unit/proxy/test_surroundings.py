"""The environment that a program gets from `puna run`."""

import ssl
from pathlib import Path

import pytest

from puna.errors import StartupError
from puna.proxy import RETIRED_HOSTS
from puna.proxy.certificate import certificates_for
from puna.proxy.surroundings import surroundings
from puna.proxy.upstream import excepted

OURS = certificates_for(RETIRED_HOSTS).authority
THEIRS = certificates_for(["corp.example"]).authority


def made(folder: Path, token: str | None = None, **environment: str) -> dict[str, str]:
    return surroundings(
        environment,
        hosts=RETIRED_HOSTS,
        proxy="http://127.0.0.1:1",
        server="http://127.0.0.1:2",
        token=token,
        authority=OURS,
        folder=folder,
    )


def count(file: str) -> int:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(file)
    return context.cert_store_stats()["x509_ca"]


def test_both_spellings_lead_to_the_proxy(tmp_path: Path) -> None:
    child = made(tmp_path, https_proxy="http://corp:3128", HOME="/home/me")
    assert child["HTTPS_PROXY"] == child["https_proxy"] == "http://127.0.0.1:1"
    assert child["HOME"] == "/home/me"


@pytest.mark.parametrize("entry", ["*", ".azure.com", "github.ai", "models.github.ai", "*.ai"])
def test_no_proxy_cannot_defeat_it_and_keeps_the_rest(tmp_path: Path, entry: str) -> None:
    child = made(tmp_path, NO_PROXY=f"intranet.example,{entry}")
    for name in ("NO_PROXY", "no_proxy"):
        entries = tuple(child[name].split(","))
        assert not any(excepted(host, 443, entries) for host in RETIRED_HOSTS)
        assert "intranet.example" in entries
        assert "127.0.0.1" in entries, "Puna itself is never asked through a proxy"


@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"])
def test_a_bundle_of_the_users_own_stays_what_it_trusts_and_one_is_added(
    tmp_path: Path, name: str
) -> None:
    own = tmp_path / "corp.pem"
    own.write_bytes(THEIRS)
    child = made(tmp_path, **{name: str(own)})
    assert own.read_bytes() == THEIRS, "the user's file is not changed"
    assert count(child[name]) == 2
    others = {"REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"} - {name}
    assert all(count(child[other]) > 20 for other in others)


def test_a_folder_of_certificates_is_a_bundle_too(tmp_path: Path) -> None:
    folder = tmp_path / "certs"
    folder.mkdir()
    (folder / "corp.pem").write_bytes(b"# a comment\n" + THEIRS)
    (folder / "again.pem").write_bytes(THEIRS)
    assert count(made(tmp_path, REQUESTS_CA_BUNDLE=str(folder))["REQUESTS_CA_BUNDLE"]) == 2


def test_a_bundle_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match=r"SSL_CERT_FILE names /nowhere\.pem"):
        made(tmp_path, SSL_CERT_FILE="/nowhere.pem")


def test_node_gets_our_authority_beside_its_own(tmp_path: Path) -> None:
    child = made(tmp_path)
    assert count(child["NODE_EXTRA_CA_CERTS"]) == 1
    assert child["NODE_USE_ENV_PROXY"] == "1"


def test_tokens_are_filled_in_where_unset_and_kept_where_set(tmp_path: Path) -> None:
    child = made(tmp_path, GITHUB_TOKEN="ghp_mine")
    assert child["GITHUB_TOKEN"] == "ghp_mine"
    assert child["OPENAI_API_KEY"]
    assert child["AZURE_INFERENCE_CREDENTIAL"]


def test_the_key_of_a_running_server_replaces_the_users_tokens(tmp_path: Path) -> None:
    child = made(tmp_path, token="key", GITHUB_TOKEN="ghp_mine")
    assert child["GITHUB_TOKEN"] == child["OPENAI_API_KEY"] == "key"


def test_programs_that_read_their_endpoint_are_pointed_at_the_server(tmp_path: Path) -> None:
    child = made(tmp_path)
    assert child["OPENAI_BASE_URL"] == "http://127.0.0.1:2/v1"
    assert child["AZURE_INFERENCE_ENDPOINT"] == "http://127.0.0.1:2"
