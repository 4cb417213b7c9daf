"""Which metrics to trust here, on the page and as files."""

import re
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from parsed import Page, parse
from synthetic import METRICS, write_study
from test_page import check_self_contained

from vexbench.registry import Choice
from vexbench.report.judges import judges_frame, matrix, rows, verdict
from vexbench.report.page import render
from vexbench.results.frame import Study, load
from vexbench.results.store import Store, read_frame, write_array, write_frame, write_json
from vexbench.stats.judging import Judges
from vexbench.stats.summary import summarise

LEVELS = (0.25, 0.5, 1.0)


def degrade(root: Path, blind: str = "sparseness") -> Path:
    """Add Grad-CAM under noise: every metric falls with it but one, which does not see it."""
    store = Store(root)
    for group in load(root).groups:
        clean = next(method for method in group.methods if method.id == "grad_cam")
        for level in LEVELS:
            choice = Choice.of("degraded", of="grad_cam", noise=level)
            place = store.method(group.directory, choice)
            described = {"name": "degraded", "params": choice.params, "title": "Degraded", "family": "control"}
            write_json(place / "choice.json", described)
            write_array(place / "maps.zarr", np.zeros((len(group.predictions), 8, 8), dtype=np.float32))
            for metric, (title, axis, direction, *_, bad, good) in METRICS.items():
                path = store.metric(place, Choice.of(metric))
                record = {"name": metric, "title": title, "family": axis, "direction": direction}
                write_json(path.with_suffix(".json"), record)
                scores = read_frame(store.metric(group.directory / clean.key, Choice.of(metric)))
                fall = 0 if metric == blind else (bad - good) * level
                write_frame(path, scores.with_columns(pl.col("score") + fall))
    return root


@pytest.fixture(scope="module")
def degraded(tmp_path_factory: pytest.TempPathFactory) -> Study:
    methods = ("saliency", "grad_cam", "occlusion", "random", "sobel_edges")
    return load(degrade(write_study(tmp_path_factory.mktemp("judges"), size=16, methods=methods)))


@pytest.fixture(scope="module")
def shown(degraded: Study) -> Page:
    return parse(render(degraded))


def test_every_metric_of_quality_has_a_row(shown: Page, degraded: Study) -> None:
    check_self_contained(shown)
    found = rows(Judges(summarise(degraded.groups[0])))
    quality = [metric for metric, (_, axis, *_) in METRICS.items() if axis != "cost"]
    assert {row.metric.id for row in found} == set(quality)
    for row in found:
        degradation = row.cells[2]
        assert degradation.mark == ("bad" if row.metric.id == "sparseness" else "good"), row.metric.id
        assert "of 3 steps" in degradation.evidence[0]
    assert "Which metrics to trust here" in [e.text for e in shown.all("h2")]
    assert "Add " not in next(e.text for e in shown.all("p") if e.attributes.get("id") == "s1-judges-note")


def test_the_words_come_from_the_numbers(degraded: Study) -> None:
    judges = Judges(summarise(degraded.groups[0]))
    told = " ".join(verdict(judges))
    assert re.search(r"Sparseness[^.]*does not rank a spoilt map below the clean one", told)
    best = max((one for one in judges.judgements if one.reliability), key=lambda one: one.reliability.alpha)
    name = judges.summary.metrics[best.metric].name
    assert f"The steadiest from image to image is {name} (α {best.reliability.alpha:.2f})" in told
    passing = [judges.summary.metrics[one.metric].name for one in judges.judgements if one.passes]
    assert passing
    assert all(name in told.partition(" pass")[0] for name in passing[:3])


def test_spoilt_maps_are_no_controls_of_methods_and_no_candidates(degraded: Study, shown: Page) -> None:
    """That one does as well as the best method says nothing against the methods."""
    summary = summarise(degraded.groups[0])
    assert {summary.methods[i].id for i in summary.controls} == {"random", "sobel_edges"}
    assert {summary.methods[i].id for i in summary.candidates} == {"saliency", "grad_cam", "occlusion"}
    assert "8 methods (2 of them controls, 3 spoilt on purpose)" in shown.text
    assert not [e for e in shown.all("p") if e.attributes.get("class") == "caution" and "Degraded" in e.text]
    assert not [e for e in shown.all("li") if "knows nothing" in e.text and "Degraded" in e.text]


def test_matrix_of_agreement(degraded: Study) -> None:
    judges = Judges(summarise(degraded.groups[0]))
    chart = matrix(judges)
    assert chart is not None
    assert "agree most" in chart.alt
    assert np.allclose(judges.agreement, judges.agreement.T, equal_nan=True)
    assert np.allclose(np.diag(judges.agreement)[~np.isnan(np.diag(judges.agreement))], 1)


def test_what_is_not_in_the_study_is_said(tmp_path: Path) -> None:
    root = write_study(tmp_path, images=12, size=16, methods=("saliency", "grad_cam"), bare_card=True)
    page = parse(render(load(root)))
    check_self_contained(page)
    cells = [e.text for e in page.all("span") if e.attributes.get("class") == "none"]
    assert cells.count("not in this study") == 2 * 9
    assert "Add random and degraded to the study’s methods to learn more." in page.text


@pytest.mark.parametrize("methods", [("grad_cam",), ("random",), ("grad_cam", "random")])
@pytest.mark.parametrize("images", [1, 6])
def test_small_studies(tmp_path: Path, methods: tuple[str, ...], images: int) -> None:
    root = write_study(tmp_path, images=images, size=16, methods=methods, bare_card=True)
    page = parse(render(load(root)))
    check_self_contained(page)
    assert "Which metrics to trust here" in page.text
    assert not re.search(r"\bnan\b", page.text, re.IGNORECASE)
    if images == 1 or len(methods) == 1:
        assert "holds too little to judge its metrics by" in page.text


def test_table_for_machines(degraded: Study) -> None:
    table = judges_frame(Judges(summarise(degraded.groups[0])))
    row = table.row(by_predicate=pl.col("metric") == "deletion", named=True)
    assert (row["axis"], row["compared_with_random"], row["checks"]) == ("faithfulness", 3, 3)
    assert row["falls_with_noise"] == "every step"
    assert -1 <= row["alpha_low"] <= row["alpha"] <= row["alpha_high"] <= 1
