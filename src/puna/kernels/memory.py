"""What a process gives back to the system while it runs: pages of files, and what was freed.

Linux only, and of `trim` glibc; elsewhere both do nothing. It knows no checkpoints and no models.
"""

from __future__ import annotations

import ctypes
import functools
import mmap
import sys
from contextlib import suppress

from torch import Tensor


def give_back(*tensors: Tensor) -> None:
    """Lets the system take the whole pages of memory under `tensors`, each contiguous and on the
    CPU. Where they are mapped from a file, they are read from it again when they are touched; of
    other memory the content is lost, so only what nobody reads any more may be named here."""
    libc = _libc()
    if libc is None:
        return
    for tensor in tensors:
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        end = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if end > first:
            libc.madvise(ctypes.c_void_p(first), ctypes.c_size_t(end - first), mmap.MADV_DONTNEED)


def trim() -> None:
    """Gives back what the allocator keeps of freed memory: glibc's keeps all that lies below the
    last block in use, which after reading a tokenizer is more than a hundred megabytes."""
    with suppress(AttributeError):  # another C library
        if libc := _libc():
            libc.malloc_trim(0)


@functools.cache
def _libc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if sys.platform == "linux" else None
