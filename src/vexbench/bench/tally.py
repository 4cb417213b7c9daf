"""How much of a study is done: in results, and as a share of what they cost."""

from collections.abc import Iterable, Mapping
from typing import final

from vexbench.bench.plan import Place, Plan, Sitting
from vexbench.registry import Choice


@final
class Tally:
    """Counts parts of results; without their prices (seconds of whole results) all are worth the same."""

    def __init__(self, study: Plan, worth: Mapping[Place | Sitting, float] | None) -> None:
        self._metrics = {choice: number for number, choice in enumerate(study.metrics)}
        parts = dict[Place | Sitting, int]()
        for number, group in enumerate(study.groups):
            for method in range(len(study.methods)):
                parts |= {Place(number, method, metric): group.chunks for metric in self._metrics.values()}
            parts |= {Sitting(number, index): 1 for index in range(len(study.syntheses))}
        self._each = {key: 1.0 if worth is None else worth.get(key, 0.0) / count for key, count in parts.items()}
        self._whole = sum(self._each[key] * count for key, count in parts.items())
        self._paid = 0.0
        self.done, self.total = 0, sum(parts.values())

    @property
    def share(self) -> float:
        """From 0 to 1."""
        return self._paid / self._whole if self._whole else 1.0

    def results(self, group: int, method: int, metrics: Iterable[Choice]) -> None:
        """A method has these results for one more chunk."""
        for metric in metrics:
            self._count(Place(group, method, self._metrics[metric]))

    def synthesis(self, sitting: Sitting) -> None:
        """One more is made."""
        self._count(sitting)

    def _count(self, key: Place | Sitting) -> None:
        self.done += 1
        self._paid += self._each[key]
