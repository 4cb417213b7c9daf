"""Which methods of a study are asked of more images, and on which metrics."""

from collections.abc import Sequence
from pathlib import Path
from typing import final

import numpy as np
from jaxtyping import Float, Int

from vexbench.bench.material import home_of
from vexbench.bench.plan import Group, Plan
from vexbench.registry import METRICS, Choice
from vexbench.results import store as files
from vexbench.stats.race import LEAST, race


@final
class Race:
    """The race of a study; it reads the scores in the store, so that a resumed study decides as it would have."""

    def __init__(self, study: Plan) -> None:
        assert study.config.race is not None
        self._study, self._level = study, study.config.race
        self._judged: dict[tuple[Path, int], np.ndarray] = {}

    def going(self, group: Group, method: Choice, chunk: int, metrics: Sequence[Choice]) -> list[Choice]:
        """Those of the metrics on which the method's place is not settled by the images before this chunk."""
        key = home_of(self._study, group), chunk
        if key not in self._judged:
            self._judged = {key: self._settled(group, chunk)}
        settled = self._judged[key][self._study.methods.index(method)]
        return [metric for metric in metrics if not settled[self._study.metrics.index(metric)]]

    def _settled(self, group: Group, chunk: int) -> np.ndarray:
        scores, ended = self._scores(group, chunk)
        higher = np.array([METRICS[metric.name].direction == "higher" for metric in self._study.metrics])
        raced = np.array([METRICS[metric.name].family != "cost" for metric in self._study.metrics], dtype=bool)
        settled = np.zeros(scores.shape[1:], dtype=bool)
        if raced.any() and len(scores) >= LEAST:
            looks = range(group.chunk, len(group.dataset), group.chunk)
            given = {"total": len(group.dataset), "looks": looks, "level": self._level, "ended": ended[:, raced]}
            found = race(scores[:, :, raced], higher[raced], **given)
            settled[:, raced] = found > 0
            # a cost takes part in no ranking, and is known from few images: it stops with all else
            rest = settled[:, raced] | (ended[:, raced] < len(group.dataset))
            settled[:, ~raced] = np.all(rest, axis=1, keepdims=True)
        return settled

    def _scores(
        self, group: Group, chunk: int
    ) -> tuple[Float[np.ndarray, "images methods metrics"], Int[np.ndarray, "methods metrics"]]:
        """The scores of the images before a chunk, and of how many images there are any where a cell has failed."""
        study, images = self._study, min(chunk * group.chunk, len(group.dataset))
        scores = np.full((images, len(study.methods), len(study.metrics)), np.nan)
        ended = np.full(scores.shape[1:], len(group.dataset))
        place_of = {id: place for place, id in enumerate(group.dataset.ids[:images])}
        for i, method in enumerate(study.methods):
            for j, metric in enumerate(study.metrics):
                path = self._path(group, method, metric)
                table = files.read_rows(path, chunk)
                if path.with_suffix(".failed.json").exists() or (path.parent / "failed.json").exists():
                    ended[i, j] = 0 if table is None else len(table)
                if table is not None:
                    table = table.filter(table["image"].is_in(list(place_of)))
                    scores[[place_of[id] for id in table["image"]], i, j] = table["score"].to_numpy()
        return scores, ended

    def _path(self, group: Group, method: Choice, metric: Choice) -> Path:
        home = home_of(self._study, group)
        return self._study.store.metric(self._study.store.method(home, method), metric)
