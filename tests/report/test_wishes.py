"""What the network wants to see, on the page and as files."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from parsed import Page, parse
from synthetic import write_study
from test_page import NASTY, check_self_contained

from vexbench.registry import Choice
from vexbench.report import write_files
from vexbench.report.page import render
from vexbench.report.syntheses import MOST, wishes
from vexbench.results.frame import load
from vexbench.results.store import write_array, write_frame, write_json


def write_syntheses(
    root: Path, *, judge: str = "", images: bool = True, natural: float = 3.25, title: str = "DeepDream"
) -> Path:
    """Add a synthesis to every group of a study."""
    for group in load(root).groups:
        place = group.directory / f"deep_dream-{Choice.of('deep_dream', steps=9).digest}"
        count = len(group.class_names)
        described = {"name": "deep_dream", "title": title, "family": "synthesis", "params": {"steps": 9}}
        told = {"name": judge, "digest": "12345678"} if judge else None
        write_json(place / "synthesis.json", {**described, "judge": told, "scores": "scores-x.parquet"})
        if not images:
            continue
        source = np.random.default_rng(0)
        write_array(place / "images.zarr", source.integers(0, 256, (count, 16, 16, 3), dtype=np.uint8))
        scores = pl.DataFrame(
            {
                "target": range(count),
                "passes": [81.0] * count,
                "probability": np.linspace(0.5, 1, count),
                "activation_gain": np.linspace(-1, 3, count),
                "transfer": np.full(count, 0.25 if judge else np.nan),
                "naturalness": np.full(count, natural),
                "real": group.predictions["image"][:count] if len(group.predictions) >= count else ["gone"] * count,
            }
        )
        write_frame(place / "scores-x.parquet", scores)
    study = {"title": "Synthetic", "config": {"methods": ["cam"], "syntheses": ["deep_dream"]}, "provenance": {}}
    write_json(root / "study.json", study)
    return root


def page(tmp_path: Path, **options: object) -> Page:
    root = write_study(tmp_path, images=6, size=16, methods=("cam", "random"), bare_card=True)
    found = parse(render(load(write_syntheses(root, **options))))
    check_self_contained(found)
    return found


def test_every_class_has_its_picture_beside_a_real_one(tmp_path: Path) -> None:
    found = page(tmp_path, judge="Attention CNN")
    assert "What the network wants to see" in [e.text for e in found.all("h2")]
    alts = [e.attributes["alt"] for e in found.all("img")]
    made = [alt for alt in alts if alt.startswith("DeepDream of ")]
    assert len(made) == 6
    assert made[0].startswith("DeepDream of buildings, made by plain_cnn: network 50 %, other 25 %, gain ↑ -1")
    assert len([alt for alt in alts if "activates" in alt]) == 6
    assert "the other network, Attention CNN" in found.text
    cells = [e.text for e in found.all("td") if e.text[:1] == "+" or "%" in e.text or e.text in ("3.25", "81")]
    assert [cells[i : i + 5] for i in range(len(cells)) if cells[i : i + 2] == ["75 %", "25 %"]] == [
        ["75 %", "25 %", "+1.00", "3.25", "81"]
    ]


def test_without_another_network_or_enough_images_it_says_so(tmp_path: Path) -> None:
    found = page(tmp_path, natural=float("nan"))
    assert "has no other network that knows the same classes" in found.text
    assert "fewer than ten images" in found.text
    made = [e.attributes["alt"] for e in found.all("img") if e.attributes["alt"].startswith("DeepDream")]
    assert "other" not in made[0]
    assert "naturalness" not in made[0]


def test_images_that_are_still_being_made_are_missing(tmp_path: Path) -> None:
    found = page(tmp_path, images=False)
    assert "What the network wants to see" not in found.text
    assert "plain_cnn on scenes: DeepDream" in found.text


def test_a_failure_is_told(tmp_path: Path) -> None:
    root = write_study(tmp_path, images=6, size=16, methods=("cam", "random"), bare_card=True)
    place = next(iter(load(write_syntheses(root, images=False)).groups[0].directory.glob("deep_dream-*")))
    write_json(place / "failed.json", {"error": "VexbenchError", "reason": "unknown layer 'x'."})
    found = parse(render(load(root)))
    assert "unknown layer 'x'." in found.text
    assert "plain_cnn on scenes: DeepDream" not in found.text


def test_texts_are_escaped(tmp_path: Path) -> None:
    root = write_study(tmp_path, images=6, size=16, class_names=NASTY, methods=("cam",), bare_card=True)
    check_self_contained(parse(render(load(write_syntheses(root, judge=NASTY[1], title=NASTY[0])))))


def test_many_classes_are_cut(tmp_path: Path) -> None:
    names = tuple(f"class {i:03d}" for i in range(60))
    root = write_study(tmp_path, images=60, size=8, class_names=names, methods=("cam",), bare_card=True)
    group = load(write_syntheses(root)).groups[0]
    assert len(wishes(group)) == MOST
    assert f"The first {MOST} of 60 classes" in parse(render(load(root))).text


def test_files(tmp_path: Path) -> None:
    root = write_syntheses(write_study(tmp_path, images=6, size=16, methods=("cam",), bare_card=True))
    names = {path.name for path in write_files(root)}
    assert {"syntheses.png", "syntheses.svg", "syntheses.csv"} <= names
    table = pl.read_csv(tmp_path / "tables/syntheses.csv")
    assert table["class"].to_list() == list(load(root).groups[0].class_names)
    assert table["params"][0] == "steps=9"
    assert table["judge"].is_null().all()
    assert table["transfer"].is_null().all()
    assert table["activation_gain"].to_list() == pytest.approx(np.linspace(-1, 3, 6))
