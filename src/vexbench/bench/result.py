"""What a study came to; reads its folder, and needs no tensor library."""

from dataclasses import dataclass
from pathlib import Path
from typing import final

import polars as pl

from vexbench.results import store as files
from vexbench.results.frame import frame


@final
@dataclass(frozen=True)
class Result:
    """A study's folder."""

    out: Path

    def frame(self) -> pl.DataFrame:
        """One row per image and score.

        Columns: dataset, model, method, params, metric, image, target, predicted, correct, score, note
        (where there is no score for the sake of a budget).
        """
        return frame(self.out)

    def failures(self) -> dict[str, list[str]]:
        """What could not be computed, by reason."""
        found: dict[str, list[str]] = {}
        for path in sorted(self.out.rglob("*failed.json")):
            method, metric = (
                path.parent.name.rpartition("-")[0],
                path.name.removesuffix("failed.json").partition("-")[0],
            )
            found.setdefault(files.read_json(path)["reason"], []).append(f"{method} {metric}".strip())
        return found

    def report(self) -> Path:
        """The page, rendered from the store alone unless it is there and newer than the study."""
        page = self.out / "report.html"
        if page.exists() and page.stat().st_mtime > (self.out / "study.json").stat().st_mtime:
            return page
        from vexbench.report import report

        return report(self.out)
