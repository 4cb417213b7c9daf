"""What the contests share: one network and its images, interleaved clocks, peak memory, and the table.

Times are told in units of one bare plain fp32 forward pass of the same batch, that is the module alone under no_grad,
measured before and after every piece of work, so that a machine that others use too slows both down.
"""

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from statistics import mean, median, quantiles
from typing import Any, Literal, NamedTuple

import torch
from agreement_table import Normalised, blobs, correlations, quiet, random_weights
from torch import Tensor

import vexbench as vb

SIZE, COLOURS = 150, 3
ENOUGH = 5
"""Bare passes before and after each piece of work; the middle one counts."""
Side = Literal["ours", "theirs"]


class Setting:
    """torchvision's resnet18 with random weights, soft blobs of 150 px, and the classes that it gives them."""

    def __init__(self, count: int) -> None:
        self.classifier = random_weights("resnet18")
        # eight bits, as a study reads them from files
        self.images = (blobs(count, SIZE) * 255).round() / 255
        self.targets = self.classifier.logits(self.images).detach().argmax(1)

    @cached_property
    def network(self) -> Normalised:
        """A copy for the peers, since some change it, which takes images in [0, 1]."""
        return Normalised(self.classifier, self.images).eval()

    def probe(self, count: int | None = None) -> vb.Probe:
        return vb.Probe(self.classifier, self.images[:count], self.targets[:count])

    def bare(self) -> None:
        with torch.no_grad():
            self.classifier.module(self.classifier.normalise(self.images))


class Sides(NamedTuple):
    """The same work by us and by a peer, and how far the outputs agree, in words: not timed."""

    ours: Callable[[], object]
    theirs: Callable[[], object]
    agreement: Callable[[], str]


@dataclass(frozen=True)
class Contest:
    """A row of the table. `share` divides what is told, for work that is told per method."""

    key: str
    work: str
    peer: str
    build: Callable[[Setting], Sides]
    aim: float | None = None
    images: int = 4
    few: int = 1
    rounds: int = 5
    memory: bool = True
    share: int = 1
    theirs_share: int = 1
    note: str = ""


@dataclass
class Row:
    """What was measured: ratios of each round."""

    contest: Contest
    images: int
    agreement: str
    ours: list[float] = field(default_factory=list)
    theirs: list[float] = field(default_factory=list)
    busy: dict[Side, list[float]] = field(default_factory=lambda: {"ours": [], "theirs": []})
    memory: dict[Side, float] = field(default_factory=dict)

    @property
    def met(self) -> str:
        if self.contest.aim is None:
            return ""
        return "yes" if median(self.ours) <= self.contest.aim else "**no**"

    def as_json(self) -> dict[str, Any]:
        contest = self.contest
        return {
            "key": contest.key, "work": contest.work, "peer": contest.peer, "aim": contest.aim, "images": self.images,
            "ours": median(self.ours), "theirs": median(self.theirs), "rounds_ours": self.ours,
            "rounds_theirs": self.theirs, "processor_time": self.busy, "memory_mib": self.memory,
            "agreement": self.agreement, "met": self.met == "yes" if contest.aim else None, "note": contest.note,
        }  # fmt: skip


class Clock(NamedTuple):
    """Seconds on the wall, and of the processors' time."""

    wall: float
    busy: float


def clock(work: Callable[[], object]) -> Clock:
    wall, busy = time.perf_counter(), time.process_time()
    work()
    return Clock(time.perf_counter() - wall, time.process_time() - busy)


def bare(setting: Setting) -> Clock:
    found = [clock(setting.bare) for _ in range(ENOUGH)]
    return Clock(median(one.wall for one in found), median(one.busy for one in found))


def measured(contest: Contest, *, rounds: int, count: int, compare: bool) -> Row:
    """A, B, A, B …, a bare pass before and after each; the first round of what is short warms up and is forgotten."""
    setting = Setting(count)
    with quiet():
        sides = contest.build(setting)
        row = Row(contest, count, sides.agreement() if compare else "–")
        for _ in range(2):
            setting.bare()
        if contest.rounds >= 5:
            sides.ours(), sides.theirs()
        before = bare(setting)
        for _ in range(rounds):
            for name in ("ours", "theirs"):
                work, share = getattr(sides, name), contest.share if name == "ours" else contest.theirs_share
                taken, after = clock(work), bare(setting)
                getattr(row, name).append(taken.wall / mean((before.wall, after.wall)) / share)
                row.busy[name].append(taken.busy / mean((before.busy, after.busy)) / share)
                before = after
    return row


def peak(contest: Contest, side: Side, count: int) -> float:
    """MiB that the work adds to the most that this process has held: the network, its images and a bare pass."""
    setting = Setting(count)
    with quiet():
        work = getattr(contest.build(setting), side)
        setting.bare()
        before = held()
        work()
    return held() - before


def held() -> float:
    """The most that this process has held, in MiB; getrusage would count in what its parent held when it was born."""
    return int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0]) / 1024


def peak_apart(script: str, contest: Contest, side: Side, count: int) -> float:
    """The peak in a process of its own."""
    command = [sys.executable, script, "--peak", contest.key, side, str(count)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])


def least_correlation(ours: Tensor, theirs: Tensor) -> float:
    return float(correlations(ours, theirs).min())


def correlation(value: float) -> str:
    """As it reads in a cell."""
    gap = 1 - value
    return f"r ≥ {value:.4f}" if gap > 5e-4 else f"r ≥ 1 − {max(gap, 1e-7):.0e}"


def difference(ours: Tensor, theirs: Tensor) -> str:
    """The largest difference of two lists of scores, as it reads in a cell."""
    return f"Δ ≤ {float((ours.double() - theirs.double()).abs().max()):.0e}"


def spread(ratios: Sequence[float]) -> str:
    """The median, and the quartiles in brackets where there are enough rounds."""
    middle = f"{median(ratios):.3g}"
    if len(ratios) < 3:
        return middle
    low, _, high = quantiles(ratios, n=4, method="inclusive")
    return f"{middle} ({low:.3g}–{high:.3g})"


def line(row: Row) -> str:
    contest = row.contest
    memory = " / ".join(f"{row.memory[side]:.0f}" for side in ("ours", "theirs") if side in row.memory) or "–"
    aim = "" if contest.aim is None else f"≤ {contest.aim:g}"
    cells = (
        contest.work, str(row.images), spread(row.ours), aim, row.met, f"{contest.peer} {spread(row.theirs)}",
        f"{median(row.theirs) / median(row.ours):.1f}×", row.agreement, memory,
    )  # fmt: skip
    return f"| {' | '.join(cells)} |"


HEAD = (
    "| work, per image | images | ours (quartiles) | aim | met | fastest peer (quartiles) | gain | agreement | "
    "memory, MiB: ours / peer's |\n" + "|---" * 9 + "|"
)


def conditions() -> str:
    return (
        f"torchvision's resnet18 with random weights, {SIZE} px, {torch.get_num_threads()} threads, "
        f"torch {torch.__version__}"
    )


def root() -> Path:
    return Path(__file__).parents[1]
