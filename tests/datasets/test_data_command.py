"""``vexbench data``: what it prints, writes and refuses."""

import json
from pathlib import Path

import numpy as np
import pytest
import typer
from PIL import Image
from typer.testing import CliRunner, Result

from vexbench.cli.data import data
from vexbench.datasets import intel
from vexbench.datasets.folders import folder
from vexbench.datasets.scenes import scenes
from vexbench.errors import VexbenchError

app = typer.Typer()
app.command()(data)


def call(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two splits of two classes, the second with markup in its name; one image twice, one file corrupt."""
    for split in ("train", "test"):
        for k, name in enumerate(("ant", "[bold]bee")):
            path = tmp_path / split / name / "1.png"
            path.parent.mkdir(parents=True)
            Image.fromarray(np.full((8, 8, 3), 60 * k + 9 * len(split), np.uint8)).save(path)
    (tmp_path / "test" / "ant" / "2.png").write_bytes((tmp_path / "train" / "[bold]bee" / "1.png").read_bytes())
    (tmp_path / "train" / "ant" / "3.png").write_bytes(b"")
    return tmp_path


def test_the_tables_fit_a_page_and_escape_names(root: Path) -> None:
    result = call("folder", "--root", root)
    assert result.exit_code == 0, result.output
    assert max(map(len, result.stdout.splitlines())) <= 100
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    for line in (
        "class test train",
        "[bold]bee 1 1",
        "ant 2 2",
        "all 3 3",
        "corrupt files 1 train/ant/3.png",
        "groups of identical images 1",
    ):
        assert line in lines
    assert "under different labels 1 test/ant/2.png = train/[bold]bee/1.png" in lines


def test_json_holds_the_same(root: Path) -> None:
    report = json.loads(call("folder", "--root", root, "--json").stdout)
    assert report["counts"]["train"] == {"[bold]bee": 1, "ant": 2}
    assert report["conflicts"] == report["leaks"] == [["test/ant/2.png", "train/[bold]bee/1.png"]]
    assert [skip["id"] for skip in report["corrupt"]] == ["train/ant/3.png"]


def test_fetch_downloads_then_reports(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for split, name in (("seg_train", "train"), ("seg_test", "test")):
        for label in intel.CLASS_NAMES:
            path = root / "set" / split / label / f"{name}.png"
            path.parent.mkdir(parents=True)
            path.write_bytes((root / name / "[bold]bee" / "1.png").read_bytes())
    monkeypatch.setattr(intel, "fetch", lambda: root / "set")
    report = json.loads(call("intel", "--fetch", "--json").stdout)
    assert report["root"] == str(root / "set")
    assert report["counts"]["test"] == dict.fromkeys(intel.CLASS_NAMES, 1)


def test_scenes_are_written_with_their_masks(tmp_path: Path) -> None:
    out = tmp_path / "drawings"
    result = call("scenes", "--per-class", 1, "--size", 48, "--variant", "shortcut", "--out", out)
    assert result.exit_code == 0, result.output
    written, drawn = folder(root=str(out / "images")), scenes(per_class=1, size=48, variant="shortcut")
    assert written.class_names == drawn.class_names
    for index, name in enumerate(drawn.ids):
        np.testing.assert_array_equal(written.image(index), drawn.image(index))
        mask = np.asarray(Image.open(out / "masks" / f"{name}.png"))
        for target in range(6):
            np.testing.assert_array_equal(mask == target + 1, drawn.region(index, target, 48))
        np.testing.assert_array_equal(mask == 7, drawn.cue(index, 48))


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("intel",), "--root PATH or --fetch"),
        (("folder",), "--root PATH"),
        (("folder", "--fetch"), "vexbench data intel --fetch"),
        (("intel", "--fetch", "--root", "x"), "vexbench data intel --fetch"),
        (("intel", "--root", "nowhere"), "does not exist"),
        (("folder", "--root", "x", "--out", "y"), "--out belongs to scenes"),
        (("scenes",), "--out DIR"),
        (("scenes", "--out", "{full}"), "not an empty folder"),
    ],
)
def test_what_is_said_when_something_is_wrong(tmp_path: Path, arguments: tuple[str, ...], reason: str) -> None:
    (tmp_path / "file").touch()
    result = call(*(argument.replace("{full}", str(tmp_path)) for argument in arguments))
    assert isinstance(result.exception, VexbenchError)
    assert reason in str(result.exception)
