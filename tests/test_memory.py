"""Memory stays at hand while we work; a page that is asked of the system is a fault, and counted."""

import gc
import platform
import resource
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Final

import pytest
import torch

from vexbench.memory import OFTEN, give_back, kept, passed, set_aside

PAGES: Final = 64 * 2**20 // 4096
SOME: Final = 20
"""After so many blocks the first serve again: until then what was cut off to align them lies between, in small bins."""

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")


def faults(blocks: int = 4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(blocks):
        torch.ones(PAGES * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def held():
    return int(Path("/proc/self/statm").read_text().split()[1])


def alone(work: Callable[[], tuple[int, ...]]) -> tuple[int, ...]:
    """What it gives in a process of its own: what glibc does depends on all that was asked of it before."""
    with ProcessPoolExecutor(1, get_context("spawn")) as pool:
        return pool.submit(work).result()


def faults_within():
    with kept():
        faults(SOME)
        first = faults()
        with kept():
            pass
        return first, faults()


def held_within():
    with kept():
        faults(SOME)
        give_back()
        faults(1)
        before = held()
        give_back(beyond=256)
        little = held()
        give_back(beyond=32)
        return before, little, held()


def held_over_passes():
    with kept():
        give_back()
        blocks = [torch.ones(PAGES * 1024) for _ in range(6)]
        before = held()
        del blocks
        for _ in range(OFTEN):
            passed()
        return before, held()


def test_what_is_freed_serves_again():
    assert max(alone(faults_within)) < PAGES / 4


def test_what_is_much_is_given_back():
    before, little, much = alone(held_within)
    assert little > before - PAGES / 2
    assert much < before - PAGES / 2


def test_what_is_much_is_given_back_over_many_passes():
    before, behind = alone(held_over_passes)
    assert behind < before - 5 * PAGES


def test_the_collector_looks_at_what_is_new_and_all_is_as_it_was():
    with set_aside():
        before = gc.get_freeze_count()
        assert before
        with set_aside():
            pass
        assert gc.get_freeze_count() == before
    assert not gc.get_freeze_count()
