"""Memory stays at hand while we work; a page that is asked of the system is a fault, and counted."""

import gc
import platform
import resource
from pathlib import Path

import pytest
import torch

from vexbench.memory import give_back, kept, set_aside

PAGES = 64 * 2**20 // 4096

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="it is glibc that is told")


def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(4):
        torch.ones(PAGES * 1024)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def held():
    return int(Path("/proc/self/statm").read_text().split()[1])


def test_what_is_freed_serves_again():
    with kept():
        faults()
        assert faults() < PAGES / 4
        with kept():
            pass
        assert faults() < PAGES / 4


def test_what_is_much_is_given_back():
    with kept():
        faults()
        give_back()
        faults()
        before = held()
        give_back(beyond=256)
        assert held() > before - PAGES / 2
        give_back(beyond=32)
        assert held() < before - PAGES / 2


def test_the_collector_looks_at_what_is_new_and_all_is_as_it_was():
    with set_aside():
        before = gc.get_freeze_count()
        assert before
        with set_aside():
            pass
        assert gc.get_freeze_count() == before
    assert not gc.get_freeze_count()
