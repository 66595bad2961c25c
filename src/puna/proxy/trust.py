"""Bundles of certificate authorities: those that a program trusts already, and one more.

It reads files, never changes them, and knows nothing of what the one more is for.
"""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from puna.errors import StartupError

_CERTIFICATE = re.compile(
    rb"-----BEGIN (?:TRUSTED )?CERTIFICATE-----.+?-----END (?:TRUSTED )?CERTIFICATE-----", re.DOTALL
)
_USUAL_PLACES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)


def bundle(bases: Iterable[Path], extra: bytes) -> bytes:
    """All certificates of `bases` (files or folders, PEM), each once, and `extra`."""
    found: dict[bytes, None] = {}
    for base in bases:
        for file in sorted(base.iterdir()) if base.is_dir() else [base]:
            if file.is_file():
                found.update(dict.fromkeys(_CERTIFICATE.findall(_read(file))))
    return b"\n".join([*found, extra])


def default_authorities() -> list[Path]:
    """What Python programs trust when nobody says otherwise: certifi's file and the system's."""
    paths = ssl.get_default_verify_paths()
    system = [paths.cafile, paths.openssl_cafile, *_USUAL_PLACES, paths.capath]
    first = next((Path(place) for place in system if place and Path(place).exists()), None)
    return [place for place in (_certifi(), first) if place is not None]


def named_authorities(variable: str, value: str) -> list[Path]:
    """The file or folder that the user's `variable` names; it must be there."""
    place = Path(value)
    if not place.exists():
        raise StartupError(f"{variable} names {value}, which is not there: mend or unset it")
    return [place]


def _certifi() -> Path | None:
    spec = find_spec("certifi")
    if spec is None or spec.origin is None:
        return None
    file = Path(spec.origin).with_name("cacert.pem")
    return file if file.is_file() else None


def _read(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise StartupError(f"cannot read the certificates in {file}: {error.strerror}") from error
