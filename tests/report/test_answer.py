from pathlib import Path

import numpy as np
import polars as pl
import pytest
from synthetic import write_study

from vexbench.report.answer import findings, headline, support
from vexbench.results.frame import load
from vexbench.results.store import write_frame
from vexbench.stats.summary import Summary, summarise


def study_with(tmp_path: Path, **quality: float) -> Summary:
    """A study in which each method scores around its quality on every metric; methods of one quality are one method."""
    root = write_study(tmp_path, images=40, size=16, methods=tuple(quality))
    group = load(root).groups[0]
    for method in group.methods:
        for metric in group.metrics:
            path = group.directory / method.key / f"{metric.key}.parquet"
            if not path.exists():
                continue
            value = quality[method.id]
            seed = int(abs(value) * 1000) + len(metric.id)
            noise = np.random.default_rng(seed).normal(0, 0.1, 40)
            score = (value + noise) * (1 if metric.direction == "higher" else -1) + 2
            write_frame(path, pl.read_parquet(path).with_columns(score=pl.Series(score)))
    return summarise(load(root).groups[0])


def test_a_clear_leader_is_named(tmp_path: Path) -> None:
    summary = study_with(tmp_path, grad_cam=0.9, saliency=0.5, random=0.1)
    assert headline(summary) == "Grad-CAM leads overall."
    told = " ".join(support(summary))
    assert "mean rank 1 of 3 (95 % interval 1–1)" in told
    assert "first in 100 % of 2,000 resamples of the 40 images" in told
    assert "Every method beats the random map" in told
    assert {finding.lead for finding in findings(summary) if finding.axis != "cost"} == {"Grad-CAM"}


def test_equal_methods_lead_together(tmp_path: Path) -> None:
    summary = study_with(tmp_path, cam=0.9, grad_cam=0.9, saliency=0.5, random=0.1)
    assert headline(summary) == "CAM and Grad-CAM lead together overall."
    assert any("on this network they are one method" in line for line in support(summary))


def test_overlapping_methods_have_no_clear_leader(tmp_path: Path) -> None:
    summary = study_with(tmp_path, grad_cam=0.501, occlusion=0.503, saliency=0.2, random=0.1)
    assert headline(summary).startswith("No clear leader: ")
    assert {"Grad-CAM", "Occlusion"} <= set(headline(summary).replace(".", "").split())
    assert "Saliency" not in headline(summary)


def test_a_control_that_does_as_well_is_a_warning(tmp_path: Path) -> None:
    summary = study_with(tmp_path, grad_cam=0.5, saliency=0.3, sobel_edges=0.9, random=0.1)
    assert headline(summary) == "Grad-CAM leads overall."
    assert any("Sobel edges" in line and "has not shown" in line for line in support(summary))
    assert all("Sobel edges" in finding.caution for finding in findings(summary) if finding.axis != "cost")


def test_methods_that_do_not_beat_chance_are_named(tmp_path: Path) -> None:
    summary = study_with(tmp_path, grad_cam=0.9, saliency=0.1, random=0.3)
    line = next(line for line in support(summary) if "random map" in line)
    assert line.startswith("Not shown to beat a random map: Saliency (")
    assert "Grad-CAM" not in line


def test_the_few_that_beat_chance_are_named_where_many_do_not(tmp_path: Path) -> None:
    rest = {"saliency": 0.1, "occlusion": 0.1, "grad_cam": 0.2, "cam": 0.2}
    summary = study_with(tmp_path, integrated_gradients=0.9, random=0.3, **rest)
    line = next(line for line in support(summary) if "random map" in line)
    assert line.startswith("Only Integrated Gradients beats a random map on every metric of faithfulness")
    summary = study_with(tmp_path / "none", random=0.3, **rest)
    line = next(line for line in support(summary) if "random map" in line)
    assert line.startswith("No method beats a random map on every metric of faithfulness and localisation; on ")


def test_one_method_has_no_rival(tmp_path: Path) -> None:
    summary = study_with(tmp_path, grad_cam=0.9, random=0.1)
    assert headline(summary) == "There is nothing to compare Grad-CAM with yet."
    assert support(summary) == []


def test_cost_is_told_apart(summary: Summary) -> None:
    cost = findings(summary)[-1]
    assert cost.lead == "Cheapest: CAM"
    assert cost.evidence == (
        "1 pass through the network per image; the dearest, Occlusion, takes 197. Not part of the rank."
    )


@pytest.mark.parametrize("images", [6, 40])
def test_few_images_are_a_warning(tmp_path: Path, images: int) -> None:
    root = write_study(tmp_path, images=images, size=16, methods=("cam", "saliency"))
    told = " ".join(support(summarise(load(root).groups[0])))
    assert ("intervals are rough" in told) == (images < 30)
