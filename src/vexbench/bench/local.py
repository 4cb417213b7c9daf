"""The executor of one machine: one task after the other, each with the whole machine."""

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

Task = TypeVar("Task")
Outcome = TypeVar("Outcome")


def local(work: Callable[[Task], Outcome], tasks: Iterable[Task]) -> Iterator[Outcome]:
    """Do the work task by task, in order."""
    return map(work, tasks)
