"""What glibc is told of memory, so that a study's does not grow with its length."""

from contextlib import suppress
from ctypes import CDLL

M_ARENA_MAX = -8
"""The name of that setting in glibc's malloc.h."""


def one_arena() -> None:
    """Let all threads take memory from one place: glibc gives each its own, and none takes up what others freed."""
    with suppress(OSError, AttributeError):  # another C library
        CDLL(None).mallopt(M_ARENA_MAX, 1)


def give_back() -> None:
    """Give the system the memory that glibc keeps for later: a long study's would grow with its first chunks."""
    with suppress(OSError, AttributeError):
        CDLL(None).malloc_trim(0)
