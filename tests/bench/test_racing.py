"""Races: what is settled is not computed, and a race that was interrupted stops the same cells."""

from pathlib import Path

import polars as pl
import pytest
import torch

import vexbench as vb
from vexbench.bench import budget as budgeting
from vexbench.bench import run as running
from vexbench.bench.estimate import Bill, Estimate
from vexbench.bench.price import MethodPrice, MetricPrice, Price
from vexbench.errors import VexbenchError
from vexbench.results.frame import load

EACH = 24
LEVELS = {"saliency": 4.0, "cam": 4.0, "grad_cam": 4.0, "random": 1.0, "centre_gaussian": 0.98, "sobel_edges": 0.96}
"""Scores of methods that go on for long, and of some that stop for being behind them."""


def study(photographs: Path, classifier: vb.Classifier, out: Path, **changes) -> vb.StudyConfig:
    settings = {
        "datasets": [{"name": "folder", "root": str(photographs)}],
        "models": [classifier],
        "methods": ["saliency", "cam", "grad_cam", "random", "centre_gaussian", "sobel_edges", "input_intensity"],
        "metrics": ["sparseness", {"name": "deletion", "steps": 4}, "passes"],
        "out": out,
        "race": 0.95,
    }
    return vb.StudyConfig(**{**settings, **changes})


@pytest.fixture(scope="module")
def raced(photographs, classifier, tmp_path_factory) -> pl.DataFrame:
    return vb.run(study(photographs, classifier, tmp_path_factory.mktemp("raced") / "study")).frame()


def test_settled_cells_are_stopped_and_unsettled_ones_are_not(raced):
    images = {(method, metric): n for method, metric, n in raced.group_by("method", "metric").len().iter_rows()}
    assert images["random", "sparseness"] < 48
    assert set(images.values()) <= {16, 32, 48}
    # of two methods that are one here, neither waits for the other
    assert images["cam", "sparseness"] == images["grad_cam", "sparseness"] < 48
    for method in ("saliency", "random", "centre_gaussian"):
        raced_metrics = (images[method, "sparseness"], images[method, "deletion"])
        assert images[method, "passes"] == max(raced_metrics)


def test_what_was_computed_equals_the_full_study(raced, photographs, classifier, tmp_path):
    full = vb.run(study(photographs, classifier, tmp_path / "full", race=None)).frame()
    key = ["method", "metric", "image"]
    both = raced.join(full, on=key, suffix="_full")
    assert len(both) == len(raced) < len(full)
    assert both["score"].to_numpy() == pytest.approx(both["score_full"].to_numpy(), abs=1e-6)


def test_first_images_are_a_fair_sample(raced):
    first = raced.filter(method="random", metric="sparseness")["image"]
    assert len({name.split("/")[0] for name in first[:16]}) == 2


@pytest.mark.parametrize("stop", [3, 30, 52])
def test_interrupted_race_stops_the_same_cells(raced, photographs, classifier, tmp_path, stop):
    seen = 0

    def interrupt(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == stop:
            raise KeyboardInterrupt

    config = study(photographs, classifier, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        vb.run(config, progress=interrupt)
    assert vb.run(config).frame().equals(raced)
    assert not load(config.out).pending


def test_what_a_failed_method_settled_stays_settled(photographs, classifier, tmp_path, monkeypatch):
    """Else its rivals would go on behind a gap."""

    def scored(metric, maps, probe, **_):
        if len(runs) > 1 and current == ("cam", 1):
            raise RuntimeError("worn out")
        source = torch.Generator().manual_seed(sum(map(ord, current[0])) + 100 * current[1])
        return LEVELS[current[0]] + 0.5 * torch.randn(len(maps), generator=source)

    def work(self, task):
        nonlocal current
        current = self.study.methods[task.method].name, task.chunk
        return plainly(self, task)

    current, runs, plainly = ("", 0), [], running.Runner.work
    monkeypatch.setattr(running, "scores_of", scored)
    monkeypatch.setattr(running.Runner, "work", work)
    config = study(photographs, classifier, tmp_path / "study", methods=[*LEVELS], metrics=["insertion"])
    for folder in ("whole", "study", "study"):
        result = vb.run(config.model_copy(update={"out": tmp_path / folder}))
        runs += [result.frame().filter(pl.col("score").is_not_null())]
        runs += [None] * (folder == "whole")
    whole, _, first, again = runs
    assert [*result.failures()] == ["RuntimeError: worn out"]
    assert first.equals(again)
    counts = [dict(frame.group_by("method").len().iter_rows()) for frame in (whole, first)]
    early = [name for name, count in counts[0].items() if count < 48]
    assert len(early) >= 3
    assert {name: counts[1][name] for name in early} == {name: counts[0][name] for name in early}


def test_what_was_over_budget_is_taken_up_behind_the_end_of_a_race(photographs, classifier, tmp_path, monkeypatch):
    def priced(planned):
        dear = [MetricPrice(Price(0.0, 10.0 if one.name == "deletion" else 0.01)) for one in planned.metrics]
        methods = tuple(MethodPrice(Price(0.0, 0.01, 3.0), Price(0.0, 0.01, 3.0)) for _ in planned.methods)
        bills = [Bill(group, methods, tuple(dear), 2.0, 0.0, 0.0, 0.0, 0.001) for group in planned.groups]
        return Estimate(planned, tuple(bills), 0.0)

    monkeypatch.setattr(budgeting, "estimate", priced)
    config = study(photographs, classifier, tmp_path / "study")
    before = vb.run(config.model_copy(update={"budget": "60s"})).frame().filter(pl.col("score").is_not_null())
    assert set(before["metric"]) == {"sparseness", "passes"}
    before = before.filter(metric="sparseness")
    found = vb.run(config)
    assert found.failures() == {}
    counts = [
        dict(frame.group_by("method").len().iter_rows()) for frame in (before, found.frame().filter(metric="deletion"))
    ]
    assert any(counts[1][name] > counts[0][name] for name in counts[0])


def test_finished_race_is_left_alone(photographs, classifier, tmp_path, monkeypatch):
    config = study(photographs, classifier, tmp_path / "study")
    vb.run(config)
    before = {path: path.stat().st_mtime_ns for path in config.out.rglob("*") if path.is_file()}
    monkeypatch.setattr("vexbench.bench.run.maps_of", lambda *_: pytest.fail("explained again"))
    vb.run(config)
    assert {path: path.stat().st_mtime_ns for path in config.out.rglob("*") if path.is_file()} == before


def test_metric_that_is_not_defined_stops_no_race(photographs, classifier, tmp_path):
    config = study(photographs, classifier, tmp_path / "study", metrics=["sparseness", "pointing_game", "passes"])
    frame = vb.run(config).frame()
    assert set(frame["metric"]) == {"sparseness", "passes"}
    assert len(frame.filter(method="random", metric="passes")) < 48


@pytest.mark.parametrize(
    ("changes", "changed"),
    [({"race": 0.9}, "race"), ({"race": None}, "race"), ({"methods": ["saliency", "cam"]}, "methods")],
)
def test_race_keeps_its_rules(photographs, classifier, tmp_path, changes, changed):
    few = {"methods": ["saliency"], "metrics": ["sparseness"]}
    vb.run(study(photographs, classifier, tmp_path / "study", **few))
    with pytest.raises(VexbenchError, match=f"another {changed}"):
        vb.run(study(photographs, classifier, tmp_path / "study", **{**few, **changes}))


@pytest.mark.parametrize("race", [0.0, 0.5, 1.0, 95])
def test_confidence_that_is_none_is_refused(race):
    with pytest.raises(VexbenchError, match="race"):
        vb.StudyConfig(race=race)
