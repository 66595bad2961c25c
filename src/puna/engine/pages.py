"""Who holds which page of the KV cache, and which pages can be reused by content.

It knows page numbers and keys. It knows no tokens, no tensors and no sequences: a key stands for
everything a page's content depends on (`page_keys` in sequence.py), so equal keys mean equal pages,
but for rounding: what one answer generated, another's prompt finds here as exact rows.

A page is in exactly one of three states:

    free      no content worth keeping
    held      by one sequence or more (`refs` > 0)
    idle      held by none, but its content has a key: reused if asked for, else the next to go,
              least recently used first
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence


class PagePool:
    """`num_pages` pages, all free at first. Only full pages get a key, so none is ever written
    while it is shared, and nothing has to be copied on write."""

    def __init__(self, num_pages: int, page_size: int) -> None:
        self.num_pages = num_pages
        self.page_size = page_size
        self.refs = [0] * num_pages
        self._free = list(range(num_pages - 1, -1, -1))
        self._idle: OrderedDict[int, None] = OrderedDict()
        self._page_of: dict[bytes, int] = {}
        self._key_of: dict[int, bytes] = {}

    @property
    def available(self) -> int:
        """Pages that `allocate` can give."""
        return len(self._free) + len(self._idle)

    @property
    def held(self) -> int:
        return self.num_pages - self.available

    def pages_for(self, tokens: int) -> int:
        """Pages that so many tokens fill, the last perhaps in part."""
        return -(-tokens // self.page_size)

    def match(self, keys: Sequence[bytes]) -> list[int]:
        """The pages that hold the longest known beginning of `keys`. Nothing is held yet."""
        pages: list[int] = []
        for key in keys:
            page = self._page_of.get(key)
            if page is None:
                break
            pages.append(page)
        return pages

    def hold(self, pages: Iterable[int]) -> None:
        """One more holder for each of `pages`, which `match` gave."""
        for page in pages:
            if not self.refs[page]:
                del self._idle[page]
            self.refs[page] += 1

    def allocate(self) -> int | None:
        """A page for one holder, its content undefined; `None` when every page is held."""
        if self._free:
            page = self._free.pop()
        elif self._idle:
            page, _ = self._idle.popitem(last=False)
            del self._page_of[self._key_of.pop(page)]
        else:
            return None
        self.refs[page] = 1
        return page

    def publish(self, page: int, key: bytes) -> None:
        """`page` is full and holds what `key` stands for. If another page does so already (two
        sequences computed the same beginning side by side), this one stays private."""
        if key not in self._page_of:
            self._page_of[key] = page
            self._key_of[page] = key

    def release(self, pages: Sequence[int]) -> None:
        """One holder less for each. The end of a sequence goes before its beginning, so that what
        stays longest is what most prompts share."""
        for page in reversed(pages):
            self.refs[page] -= 1
            if self.refs[page]:
                continue
            if page in self._key_of:
                self._idle[page] = None
            else:
                self._free.append(page)
