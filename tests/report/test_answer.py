from pathlib import Path

import numpy as np
import polars as pl
import pytest
from synthetic import write_study

from vexbench.report.answer import findings, headline, support
from vexbench.results.frame import load
from vexbench.results.store import write_frame, write_json
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


def test_methods_that_only_rank_the_same_are_not_called_one(tmp_path: Path) -> None:
    group = study_with(tmp_path, cam=0.9, grad_cam=0.9, saliency=0.5, random=0.1).group
    # each is better on one axis: their mean ranks are the same in every draw
    for method, metric in (("cam", "sparseness"), ("grad_cam", "mprt")):
        path = next(group.directory.glob(f"{method}-*/{metric}-*.parquet"))
        gain = 0.01 if metric == "sparseness" else -0.01
        write_frame(path, pl.read_parquet(path).with_columns(pl.col("score") + gain))
    summary = summarise(load(tmp_path).groups[0])
    assert headline(summary) == "CAM and Grad-CAM lead together overall."
    told = " ".join(support(summary))
    assert "CAM and Grad-CAM rank the same here, though their scores differ." in told
    assert "one method" not in told


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


def without(summary: Summary, method: str, *metrics: str) -> Summary:
    """The same study, in which a method has failed on some metrics."""
    for path in summary.group.directory.glob(f"{method}-*/*.parquet"):
        if path.name.rpartition("-")[0] in metrics:
            path.rename(path.with_suffix(".gone"))
            write_json(path.with_suffix(".failed.json"), {"error": "NotApplicable", "reason": "it cannot."})
    return summarise(load(summary.group.directory.parents[1]).groups[0])


def test_a_method_that_failed_on_a_metric_has_not_beaten_the_random_map_there(tmp_path: Path) -> None:
    summary = without(study_with(tmp_path, grad_cam=0.9, saliency=0.5, random=0.1), "saliency", "deletion")
    assert "Not shown to beat a random map: Saliency (Deletion)." in support(summary)


def test_nothing_is_claimed_where_the_random_map_has_no_score(tmp_path: Path) -> None:
    summary = without(study_with(tmp_path, grad_cam=0.9, saliency=0.5, random=0.1), "random", "deletion")
    told = "on every metric of faithfulness and localisation that can be compared."
    assert f"Every method beats the random map {told}" in support(summary)
    names = ("insertion", "average_drop", "average_increase", "pointing_game", "relevance_mass_accuracy")
    assert "random map" not in " ".join(support(without(summary, "random", *names)))


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


@pytest.mark.parametrize("images", [1, 4])
def test_so_few_images_have_no_leader(tmp_path: Path, images: int) -> None:
    root = write_study(tmp_path, images=images, size=16, methods=("grad_cam", "saliency", "occlusion", "random"))
    summary = summarise(load(root).groups[0])
    assert headline(summary) == f"No leader can be named from {images} image{'s' * (images > 1)}."
    assert support(summary)[0].startswith("So few images tell nothing")
    leads = {finding.lead for finding in findings(summary) if finding.axis != "cost"}
    assert leads == {"No method stands out"}
    assert all("–" not in finding.evidence for finding in findings(summary))
    assert not any(summary.best(j) for j in range(len(summary.metrics)))


def test_a_metric_of_few_images_does_not_rank(tmp_path: Path) -> None:
    root = write_study(tmp_path, images=6, size=16, methods=("occlusion", "saliency", "random"))
    summary = summarise(load(root).groups[0])  # localisation is defined on four of the six
    assert "localisation" not in summary.axes
    assert (
        "Not in the ranking, for want of 5 images with a score: Pointing game and Relevance mass accuracy."
        in support(summary)
    )


@pytest.mark.parametrize("images", [6, 40])
def test_few_images_are_a_warning(tmp_path: Path, images: int) -> None:
    root = write_study(tmp_path, images=images, size=16, methods=("cam", "saliency"))
    told = " ".join(support(summarise(load(root).groups[0])))
    assert ("intervals are rough" in told) == (images < 30)
