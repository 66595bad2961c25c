"""One large file over HTTP, resumed where it broke off and checked when it is whole.

The library that keeps the cache begins a broken file anew in the next process; with weights of
several gigabytes that hurts, so they are brought here and put where the library looks first.
It knows an address, a file and a hash, and no hub.
"""

from __future__ import annotations

import hashlib
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from puna.errors import DownloadFailed

if TYPE_CHECKING:
    import httpx2

Progress = Callable[[int], None]
"""Told how many bytes of the file are here."""

ATTEMPTS = 5
CHUNK = 2**20
TIMEOUT = 30.0


def download(
    url: str,
    target: Path,
    *,
    size: int,
    etag: str,
    headers: Mapping[str, str],
    progress: Progress,
    pause: float = 1.0,
) -> None:
    """Bring `url` to `target`, by way of `TARGET.incomplete`. Ctrl-C or a break loses nothing.

    `etag` is checked where it is a SHA-256. Raises `httpx2.HTTPError` after `ATTEMPTS` without
    any progress, `DownloadFailed` on a wrong hash, OSError.
    """
    import httpx2

    part = target.with_name(f"{target.name}.incomplete")
    target.parent.mkdir(parents=True, exist_ok=True)
    failures = 0
    with httpx2.Client(follow_redirects=True, timeout=TIMEOUT) as client:
        while (have := part.stat().st_size if part.exists() else 0) != size:
            if have > size:
                part.unlink()
                continue
            try:
                with part.open("ab") as file:
                    _receive(client, url, file, have, headers, progress)
            except (httpx2.TransportError, httpx2.HTTPStatusError) as error:
                failures = 0 if part.stat().st_size > have else failures + 1
                if failures == ATTEMPTS or not _worth_another_try(error):
                    raise
                time.sleep(pause * failures)
    _check(part, etag, url)
    part.replace(target)


def _receive(
    client: httpx2.Client,
    url: str,
    file: BinaryIO,
    have: int,
    headers: Mapping[str, str],
    progress: Progress,
) -> None:
    asked = {**headers, "Accept-Encoding": "identity"}
    if have:
        asked["Range"] = f"bytes={have}-"
    with client.stream("GET", url, headers=asked) as response:
        response.raise_for_status()
        if have and response.status_code != 206:
            file.truncate(0)  # The server sends all of it again.
            have = 0
        progress(have)
        for chunk in response.iter_raw(CHUNK):
            file.write(chunk)
            have += len(chunk)
            progress(have)


def _worth_another_try(error: httpx2.TransportError | httpx2.HTTPStatusError) -> bool:
    import httpx2

    if isinstance(error, httpx2.HTTPStatusError):
        return error.response.status_code in (408, 429, 500, 502, 503, 504)
    return True


def _check(part: Path, etag: str, url: str) -> None:
    if not re.fullmatch("[0-9a-f]{64}", etag):
        return
    with part.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if found != etag:
        part.unlink()
        raise DownloadFailed(
            f"{url} came with other bytes than the hub announced; they are thrown away: pull again"
        )
