from pathlib import Path

import numpy as np
import polars as pl
import pytest
from synthetic import METHODS, METRICS, write_study

from vexbench.errors import VexbenchError
from vexbench.registry import Choice
from vexbench.results.frame import Study, frame, load
from vexbench.results.store import Store, read_json, write_frame, write_json
from vexbench.stats.summary import Summary, summarise


@pytest.fixture
def small(tmp_path: Path) -> Path:
    return write_study(tmp_path, images=6, size=16, methods=("grad_cam", "occlusion", "random"))


def test_frame_has_the_public_columns(study: Study) -> None:
    table = study.frame()
    assert table.columns == [
        "dataset",
        "model",
        "method",
        "params",
        "metric",
        "image",
        "target",
        "predicted",
        "correct",
        "score",
        "note",
    ]
    assert len(table) == 48 * (len(METHODS) * len(METRICS) - 1)
    assert set(table["method"]) == set(METHODS)
    assert set(table["metric"]) == set(METRICS)
    assert table.filter(method="occlusion")["params"].unique().to_list() == ["patch=15, stride=8"]
    assert table["score"].is_nan().sum() == 0
    undefined = table.filter(pl.col("score").is_null())
    assert set(undefined["metric"]) == {"pointing_game", "relevance_mass_accuracy"}
    assert table.schema["target"] == pl.Int64
    assert frame(study.directory).equals(table)


def test_scores_stay_with_their_images(small: Path) -> None:
    before = frame(small)
    path = next(small.rglob("grad_cam-*/deletion-*.parquet"))
    write_frame(path, pl.read_parquet(path).reverse())
    assert frame(small).equals(before)


def test_one_method_with_two_parameter_sets_stays_apart(small: Path) -> None:
    group = load(small).groups[0]
    store, choice = Store(small), Choice.of("occlusion", patch=31, stride=8)
    first = next(group.directory.glob("occlusion-*"))
    place = store.method(group.directory, choice)
    write_json(place / "choice.json", read_json(first / "choice.json") | {"params": choice.params})
    for path in first.glob("*-*.parquet"):
        write_frame(place / path.name, pl.read_parquet(path))
    group = load(small).groups[0]
    assert {m.name for m in group.methods if m.id == "occlusion"} == {"Occlusion (patch=15)", "Occlusion (patch=31)"}
    assert set(group.frame().filter(method="occlusion")["params"]) == {"patch=15, stride=8", "patch=31, stride=8"}


def test_one_metric_with_two_parameter_sets_stays_apart(small: Path) -> None:
    group = load(small).groups[0]
    for place in (group.directory / method.key for method in group.methods if method.id != "full_grad"):
        choice = Choice.of("deletion", baseline="blur")
        path = Store(small).metric(place, choice)
        old = next(place.glob("deletion-*.parquet"))
        write_frame(path, pl.read_parquet(old).with_columns(score=0.5))
        described = read_json(old.with_suffix(".json"))
        write_json(path.with_suffix(".json"), described | {"params": choice.params})
    names = set(frame(small)["metric"])
    assert {name for name in names if name.startswith("deletion")} > {"deletion (baseline=blur)"}
    assert len([name for name in names if name.startswith("deletion")]) == 2


def test_unfinished_study_tells_what_is_missing(tmp_path: Path) -> None:
    study = load(write_study(tmp_path, images=6, size=16, finished=False))
    assert len(study.pending) == 8
    assert all("Sobel edges" in item or "Centre Gaussian" in item for item in study.pending)
    summary = summarise(study.groups[0])
    ranked = {summary.metrics[j].id for j in summary.ranked}
    assert "mprt" not in ranked
    assert "deletion" in ranked


def test_method_that_was_asked_for_but_not_begun_is_missing(small: Path) -> None:
    described = read_json(small / "study.json")
    described["config"]["methods"].append("lime")
    write_json(small / "study.json", described)
    assert any("lime (not started)" in item for item in load(small).pending)


def test_finished_study_lacks_nothing(study: Study) -> None:
    assert study.pending == ()


def test_damaged_scores_are_named(small: Path) -> None:
    path = next(small.rglob("deletion-*.parquet"))
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(VexbenchError, match="is damaged; delete it") as caught:
        load(small)
    assert path.name in str(caught.value)


def test_results_of_a_version_that_wrote_less_still_load(small: Path) -> None:
    for path in [*small.rglob("choice.json"), *small.rglob("deletion-*.json")]:
        kept = ("name", "params", "direction", "family")
        write_json(path, {key: value for key, value in read_json(path).items() if key in kept})
    write_json(small / "study.json", {})
    study = load(small)
    assert {method.title for method in study.groups[0].methods} >= {"grad_cam", "occlusion"}
    assert len(study.frame()) == 6 * (3 * 11 - 1)


def test_images_and_maps_are_read_by_row(study: Study) -> None:
    group = study.groups[0]
    method = next(method for method in group.methods if method.id == "grad_cam")
    assert group.images([5, 0]).shape == (2, 64, 64, 3)
    assert np.array_equal(group.maps(method, [5, 0])[1], group.maps(method, [0])[0])


def test_failures_are_told_once(study: Study) -> None:
    assert [(f.method, f.metric, f.error) for f in study.groups[0].failures] == [
        ("FullGrad", "", "NotApplicable"),
        ("Random map", "MPRT", "NotApplicable"),
    ]


def test_method_that_failed_on_a_metric_cannot_win_it(summary: Summary) -> None:
    random = next(i for i, method in enumerate(summary.methods) if method.id == "random")
    metric = next(j for j, metric in enumerate(summary.metrics) if metric.id == "mprt")
    assert summary.ranks.mean[random, metric] == len(summary.methods)
    assert random not in summary.best(metric)


def test_cost_is_no_part_of_the_ranking(summary: Summary) -> None:
    assert "cost" not in summary.axes
    assert [summary.metrics[j].family for axis in summary.axes.values() for j in axis].count("cost") == 0
    assert all(not summary.methods[i].control for i in summary.front(summary.candidates))
