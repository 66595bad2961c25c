"""Cross-attention keys and values of images: computed once, shared by all who see the image.

It knows digests and sizes. It knows no pixels and no encoder: what it keeps is opaque. An image is
kept while a sequence holds it, and after that until its memory is needed, least recently used
first. So the next turn of a chat, whose prefix lies in idle pages, finds its images here.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Generic, TypeVar

from puna.engine.sequence import EncodableImage

T = TypeVar("T")


@dataclass(slots=True)
class _Kept(Generic[T]):
    value: T
    nbytes: int
    refs: int = 0


class ImageStore(Generic[T]):
    """At most `capacity` bytes of encoded images, `bytes_per_tile` for each tile in use."""

    def __init__(self, capacity: int, bytes_per_tile: int) -> None:
        self.capacity = capacity
        self.bytes_per_tile = bytes_per_tile
        self.used = 0
        self._kept: OrderedDict[bytes, _Kept[T]] = OrderedDict()

    def size_of(self, image: EncodableImage) -> int:
        return image.num_tiles * self.bytes_per_tile

    def get(self, image: EncodableImage) -> T:
        """What was `put`; it must be held."""
        return self._kept[image.digest].value

    def hold(self, image: EncodableImage) -> bool:
        """One more holder, if the image is here."""
        kept = self._kept.get(image.digest)
        if kept is None:
            return False
        kept.refs += 1
        return True

    def release(self, image: EncodableImage) -> None:
        self._kept[image.digest].refs -= 1
        self._kept.move_to_end(image.digest)

    def make_room(self, image: EncodableImage) -> bool:
        """Drops what nobody holds until `image` fits; drops nothing and is false if it cannot."""
        needed = self.used + self.size_of(image) - self.capacity
        unheld = [digest for digest, kept in self._kept.items() if not kept.refs]
        if needed > sum(self._kept[digest].nbytes for digest in unheld):
            return False
        for digest in unheld:
            if needed <= 0:
                break
            nbytes = self._kept.pop(digest).nbytes
            self.used -= nbytes
            needed -= nbytes
        return True

    def put(self, image: EncodableImage, encoded: T) -> None:
        """Keeps a new image, for which `make_room` found room. Nobody holds it yet."""
        nbytes = self.size_of(image)
        self._kept[image.digest] = _Kept(encoded, nbytes)
        self.used += nbytes
