"""From an `image_url` to the bytes of an image file: data URLs, and public addresses if allowed.

It knows URLs, and limits for a request; `tools/outside.py` knows how to stay off inner networks.
It never looks at pixels: a data URL's label says nothing, its bytes do, and the model decodes
those.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Callable

from puna.errors import InvalidImage
from puna.tools.outside import SECONDS, Refused, Resolve, TooLarge, fetch


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
        self._resolve = resolve
        self._allowed = allowed

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
            return await self._fetch(url)
        except TooLarge:
            reason = f"with it the images have more than {self._max_bytes} bytes"
        except Refused as error:
            reason = str(error)
        raise InvalidImage(
            f"{param}: the image at {_shown(url)} cannot be fetched: {reason}.", param=param
        )

    async def _fetch(self, url: str) -> bytes:
        answer = await fetch(
            url,
            headers={"Accept": "image/*", "Accept-Encoding": "identity"},
            seconds=self._seconds,
            max_bytes=self._left,
            resolve=self._resolve,
            allowed=self._allowed,
        )
        if answer.status != 200:
            raise Refused(f"the server answered {answer.status}")
        self._left -= len(answer.body)
        return answer.body


def _shown(url: str) -> str:
    return repr(url if len(url) <= 80 else f"{url[:64]}…")
