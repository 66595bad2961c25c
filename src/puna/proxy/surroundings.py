"""The environment of a program under `puna run`: what is added to the user's own, and why.

It maps one environment to another and writes the bundles that the new one names; it starts nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from pathlib import Path

from puna.proxy.trust import bundle, default_authorities, named_authorities
from puna.proxy.upstream import excepted, no_proxy_of

LOOPBACK = ("localhost", "127.0.0.1", "::1")
TOKENS = (
    "GITHUB_TOKEN",
    "GITHUB_API_KEY",
    "OPENAI_API_KEY",
    "AZURE_INFERENCE_CREDENTIAL",
)
BUNDLES = ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE")


def surroundings(
    environment: Mapping[str, str],
    *,
    hosts: Collection[str],
    proxy: str,
    server: str,
    token: str | None,
    authority: bytes,
    folder: Path,
) -> dict[str, str]:
    """`environment` with a way to Puna in it.

    `proxy` and `server` are URLs, the latter without a path; `authority` is a certificate (PEM);
    bundles go to `folder`. `token` replaces the user's own tokens; None keeps those that are set.
    """
    child = dict(environment)
    for name in ("HTTPS_PROXY", "https_proxy"):
        child[name] = proxy
    for name in ("NO_PROXY", "no_proxy"):
        child[name] = ",".join(_exceptions(environment, hosts))

    default = folder / "authorities.pem"
    default.write_bytes(bundle(default_authorities(), authority))
    for name in BUNDLES:
        value = environment.get(name)
        child[name] = str(default if not value else _own(name, value, authority, folder))
    # Node adds this file to its own authorities.
    extra = environment.get("NODE_EXTRA_CA_CERTS")
    file = folder / "NODE_EXTRA_CA_CERTS.pem"
    file.write_bytes(
        bundle(named_authorities("NODE_EXTRA_CA_CERTS", extra) if extra else [], authority)
    )
    child["NODE_EXTRA_CA_CERTS"] = str(file)

    # From version 24 on, Node's fetch looks at HTTPS_PROXY if it is told to.
    child.setdefault("NODE_USE_ENV_PROXY", "1")

    for name in TOKENS:
        child[name] = token or child.get(name) or "puna"
    child["OPENAI_BASE_URL"] = f"{server}/v1"
    child["AZURE_INFERENCE_ENDPOINT"] = server
    child["GITHUB_API_BASE"] = server
    return child


def _exceptions(environment: Mapping[str, str], hosts: Collection[str]) -> list[str]:
    # An entry that lets a program go round the proxy to a retired host must go. Others stay, and
    # the proxy itself honours all of them on the way out.
    kept = [
        entry
        for entry in no_proxy_of(environment)
        if not any(excepted(host, 443, (entry,)) for host in hosts)
    ]
    return [*kept, *(name for name in LOOPBACK if name not in kept)]


def _own(name: str, value: str, authority: bytes, folder: Path) -> Path:
    file = folder / f"{name}.pem"
    file.write_bytes(bundle(named_authorities(name, value), authority))
    return file
