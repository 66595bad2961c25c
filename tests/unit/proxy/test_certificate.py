"""The certificates of `puna run`: vouching for the retired hosts, and for nobody else."""

import ssl
import tempfile
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from puna.proxy import RETIRED_HOSTS
from puna.proxy.certificate import LIFETIME, Occasion, certificates_for


def handshake(occasion: Occasion, host: str, trusted: bytes, *, strict: bool = True) -> None:
    """A TLS handshake in memory between a client that trusts `trusted` and the proxy's side."""
    context = ssl.create_default_context(cadata=trusted.decode())
    if strict:
        context.verify_flags |= ssl.VerifyFlags.VERIFY_X509_STRICT  # The default from 3.13 on.
    else:
        context.verify_flags &= ~ssl.VerifyFlags.VERIFY_X509_STRICT
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    client = context.wrap_bio(to_client, to_server, server_hostname=host)
    server = occasion.context.wrap_bio(to_server, to_client, server_side=True)
    waiting = [client, server]
    for _ in range(10):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
        if not waiting:
            return
    pytest.fail("the handshake did not end")


@pytest.mark.parametrize("host", RETIRED_HOSTS)
def test_a_strict_client_that_trusts_the_authority_accepts_each_retired_host(host: str) -> None:
    occasion = certificates_for(RETIRED_HOSTS)
    handshake(occasion, host, occasion.authority)


def test_a_client_of_another_run_refuses_the_certificate() -> None:
    mine, other = certificates_for(RETIRED_HOSTS), certificates_for(RETIRED_HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError):
        handshake(mine, RETIRED_HOSTS[0], other.authority)


def test_the_certificate_answers_for_no_other_host() -> None:
    occasion = certificates_for(RETIRED_HOSTS)
    with pytest.raises(ssl.SSLCertVerificationError, match="Hostname mismatch"):
        handshake(occasion, "github.com", occasion.authority)


def test_the_authority_is_constrained_to_the_retired_hosts_and_to_a_short_life() -> None:
    authority = x509.load_pem_x509_certificate(certificates_for(RETIRED_HOSTS).authority)
    constraints = authority.extensions.get_extension_for_class(x509.NameConstraints)
    assert constraints.critical
    assert constraints.value.permitted_subtrees == [x509.DNSName(host) for host in RETIRED_HOSTS]
    life = authority.not_valid_after_utc - authority.not_valid_before_utc
    assert life <= LIFETIME * 1.1


def test_no_key_is_left_on_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    certificates_for(RETIRED_HOSTS)
    assert list(tmp_path.rglob("*")) == []


def test_even_with_the_authoritys_key_a_certificate_for_another_host_is_refused() -> None:
    """The constraint itself works, so that it is no mere decoration."""
    import datetime

    from puna.proxy import certificate as module

    made: list[ec.EllipticCurvePrivateKey] = []
    generate = ec.generate_private_key

    def remember(curve: ec.EllipticCurve) -> ec.EllipticCurvePrivateKey:
        made.append(generate(curve))
        return made[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module.ec, "generate_private_key", remember)
        occasion = certificates_for(RETIRED_HOSTS)
    authority = x509.load_pem_x509_certificate(occasion.authority)
    now = datetime.datetime.now(datetime.UTC)
    key = generate(ec.SECP256R1())
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(hours=1))
        .not_valid_after(now + datetime.timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("bank.example")]), critical=True)
        .sign(made[0], hashes.SHA256())
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with tempfile.NamedTemporaryFile(suffix=".pem") as file:
        file.write(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            + forged.public_bytes(serialization.Encoding.PEM)
        )
        file.flush()
        context.load_cert_chain(file.name)
    mended = Occasion(authority=occasion.authority, context=context)
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        handshake(mended, "bank.example", occasion.authority, strict=False)
