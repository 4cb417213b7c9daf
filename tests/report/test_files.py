import json
import re
import tomllib
import xml.etree.ElementTree as ET
from pathlib import Path

import polars as pl
import pytest
import typer
from PIL import Image
from synthetic import write_study
from typer.testing import CliRunner

from vexbench.cli.report import report
from vexbench.cli.show import show
from vexbench.report import write_files
from vexbench.report.page import render
from vexbench.report.recipe import recipe
from vexbench.results.frame import load
from vexbench.results.store import write_json
from vexbench.stats.summary import Summary

app = typer.Typer()
app.command()(show)
app.command()(report)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    methods = ("saliency", "cam", "occlusion", "random")
    classes = ("buildings", "forest", "sea")
    return write_study(tmp_path_factory.mktemp("files"), images=6, size=16, class_names=classes, methods=methods)


def test_every_chart_and_table_is_a_file(small: Path) -> None:
    written = write_files(small)
    names = {path.relative_to(small).as_posix() for path in written}
    charts = ["ranking", "scores", "tradeoff", "taxonomy", "splits", "shares", "learning-curves"]
    charts += ["class-accuracy", "confusion", "agreement"]
    charts += [f"heatmaps-{pair}" for pair in ("1-buildings-and-forest", "2-sea")]
    tables = {f"tables/{name}.csv" for name in ("ranking", "scores", "predictions", "judges")}
    assert names == {f"figures/{name}.{kind}" for name in charts for kind in ("png", "svg")} | tables
    for path in written:
        match path.suffix:
            case ".png":
                with Image.open(path) as image:
                    assert image.convert("RGB").getcolors(maxcolors=3) is None, f"{path.name} is empty"
            case ".svg":
                root = ET.parse(path).getroot()
                assert root.tag.endswith("svg")
                assert "var(--" not in path.read_text()
            case ".csv":
                assert len(pl.read_csv(path)) > 0
    ranking = pl.read_csv(small / "tables/ranking.csv")
    assert ranking["method"][0] == "CAM"
    assert ranking["mean_rank"].is_sorted()
    assert len(pl.read_csv(small / "tables/scores.csv")) == 4 * 11


def test_names_alike_or_long_have_files_of_their_own(tmp_path: Path) -> None:
    root = write_study(
        tmp_path,
        images=6,
        size=8,
        class_names=("c#", "a", "c+", "a!", "名" * 121, "x" * 121),
        methods=("cam",),
        models=("net+", "net-"),
        bare_card=True,
    )
    written = write_files(root)
    assert len(set(written)) == len(written)
    assert sum(path.name.startswith("heatmaps-") for path in written) == 2 * 2 * 3


def test_terminal_table_fits_a_hundred_columns(small: Path, folder: Path) -> None:
    for study in (small, folder):
        result = CliRunner().invoke(app, ["show", str(study)])
        assert result.exit_code == 0, result.output
        assert max(len(line.rstrip()) for line in result.output.splitlines()) <= 100
        assert "…" not in result.output
        assert "\x1b" not in result.output
        assert "MPRT ↓" in result.output
        assert "not computed: FullGrad: this network has layers without a bias." in result.output


def test_show_speaks_json(folder: Path, summary: Summary) -> None:
    result = CliRunner().invoke(app, ["show", str(folder), "--json"])
    told = json.loads(result.stdout)["groups"][0]
    best = summary.order[0]
    assert told["ranking"][0]["method"] == summary.methods[best].name
    assert told["ranking"][0]["mean_rank"] == pytest.approx(summary.overall.mean[best])
    assert len(told["scores"]) == 11 * 11
    random = next(row for row in told["scores"] if row["method"] == "random" and row["metric"] == "mprt")
    assert random["mean"] is None
    assert random["defined"] == 0


def test_few_images_show_dashes_for_intervals_and_nothing_as_null(tmp_path: Path) -> None:
    root = write_study(tmp_path, images=1, size=16, methods=("cam", "saliency", "occlusion", "random"))
    result = CliRunner().invoke(app, ["show", str(root)])
    assert result.exit_code == 0, result.output
    assert "Our plain cnn on Drawn scenes, 1 image\nNo leader can be named from 1 image.\n" in result.output
    assert "nan" not in result.output.lower()
    assert re.search(r"Occlusion +\S+ +– +– ", result.output)
    assert "*" not in result.output.replace("* best", "")
    told = json.loads(CliRunner().invoke(app, ["show", str(root), "--json"]).stdout, parse_constant=pytest.fail)
    group = told["groups"][0]
    assert {row[name] for row in group["ranking"] for name in ("low", "high", "first")} == {None}
    assert {row[name] for row in group["scores"] for name in ("low", "high", "beats_random")} == {None}
    assert all("tradeoff" not in path.name for path in write_files(root))
    for name in ("ranking", "scores"):
        assert "nan" not in (root / f"tables/{name}.csv").read_text().lower()
    page = render(load(root))
    assert not re.search(r"\bnan\b", re.sub('data:image[^"]*', "", page), re.IGNORECASE)
    assert "Does it beat a random map?" not in page
    assert 'class="value best"' not in page


def test_report_prints_the_page(tmp_path: Path) -> None:
    write_json(tmp_path / "study.json", {})
    result = CliRunner().invoke(app, ["report", str(tmp_path), "--out", str(tmp_path / "page.html")])
    assert result.exit_code == 0, result.output
    assert result.stdout.strip() == str(tmp_path / "page.html")
    assert (tmp_path / "page.html").read_text().startswith("<!doctype html>")


def test_recipe_is_toml_that_says_the_same() -> None:
    config = {
        "title": 'A "study"\n\\ of ünïcode',
        "seed": 0,
        "datasets": [{"name": "intel", "root": "data/intel", "per_class": None}],
        "methods": [{"name": "occlusion", "patch": 15, "flag": True}, "cam"] * 4,
        "metrics": [],
        "odd key": 1.5,
        "device": None,
        "out": "somewhere",
    }
    again = tomllib.loads(recipe(config))
    assert again.pop("title") == config["title"]
    assert again["datasets"] == [{"name": "intel", "root": "data/intel"}]
    assert again["methods"] == config["methods"]
    assert again["odd key"] == 1.5
    assert "device" not in again
    assert "out" not in again
