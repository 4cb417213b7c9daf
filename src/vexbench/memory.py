"""What glibc is told of memory, so that passes need not wait for it, and a study's does not grow with its length."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL
from typing import Final

TRIM_THRESHOLD: Final = -1
MMAP_THRESHOLD: Final = -3
ARENA_MAX: Final = -8
"""The names of these settings in glibc's malloc.h, where M_ stands before them."""
MIB: Final = 2**20

_inside = 0


@contextmanager
def kept() -> Iterator[None]:
    """Within, memory that is freed stays at hand for what is asked for next, in one place for all threads.

    By itself glibc has the system give every block of more than 32 MiB, page by page and each wiped first, and gives it
    back at once: half of the time of a pass whose features are large. Behind, it is as it would have become.
    """
    global _inside
    if not _inside:
        _tell(1024, 1024, 1)
    _inside += 1
    try:
        yield
    finally:
        _inside -= 1
        if not _inside:
            _tell(32, 64, 0)


def give_back() -> None:
    """Give the system the memory that glibc keeps for later: a long study's would grow with its first chunks."""
    with suppress(OSError, AttributeError):
        CDLL(None).malloc_trim(0)


def _tell(block: int, top: int, arenas: int) -> None:
    with suppress(OSError, AttributeError):  # another C library
        for name, value in ((MMAP_THRESHOLD, block * MIB), (TRIM_THRESHOLD, top * MIB), (ARENA_MAX, arenas)):
            CDLL(None).mallopt(name, value)
