"""Memory stays at hand while we work; a page that is asked of the system is a fault, and counted."""

import platform
import resource
from pathlib import Path

import pytest
import torch

from vexbench.memory import give_back, kept

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


def test_it_is_given_back_when_asked():
    with kept():
        faults()
        before = held()
        give_back()
        assert held() < before - PAGES / 2
