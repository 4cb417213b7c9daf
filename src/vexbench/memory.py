"""What glibc is told of memory, so that passes need not wait for it, and a study's does not grow with its length."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from ctypes import CDLL
from itertools import count
from mmap import PAGESIZE
from pathlib import Path
from typing import Final

TRIM_THRESHOLD: Final = -1
MMAP_THRESHOLD: Final = -3
ARENA_MAX: Final = -8
"""The names of these settings in glibc's malloc.h, where M_ stands before them."""
MIB: Final = 2**20
AT_HAND: Final = 256
"""MiB that one result may leave to the next, so that it need not be asked of the system again."""
OFTEN: Final = 32
"""Passes between two looks at what was left; a look behind each would cost more than memory at hand saves."""

_inside, _least, _passes = 0, 0, count(1)


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


@contextmanager
def set_aside() -> Iterator[None]:
    """Within, the garbage collector looks only at what was made within: all of torch takes it a third of a second."""
    first = not gc.get_freeze_count()
    if first:
        gc.collect()
        gc.freeze()
    try:
        yield
    finally:
        if first:
            gc.unfreeze()


def give_back(beyond: int = 0) -> None:
    """Give the system the memory that glibc keeps for later, where the process grew by `beyond` MiB or more since.

    A long study's would grow; but what is given comes again page by page, each wiped: dear beside small passes.
    """
    global _least
    with suppress(OSError, AttributeError):
        now = _resident()
        _least = min(_least, now)
        if now >= _least + beyond * MIB:
            CDLL(None).malloc_trim(0)
            _least = _resident()


def passed() -> None:
    """Hear of a pass: the blocks of thousands would lie ever wider apart, and the process grow with their number."""
    if not next(_passes) % OFTEN:
        give_back(beyond=AT_HAND)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGESIZE


def _tell(block: int, top: int, arenas: int) -> None:
    with suppress(OSError, AttributeError):  # another C library
        for name, value in ((MMAP_THRESHOLD, block * MIB), (TRIM_THRESHOLD, top * MIB), (ARENA_MAX, arenas)):
            CDLL(None).mallopt(name, value)
