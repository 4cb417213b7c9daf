"""``vexbench synthesise``, as a person uses it."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from vexbench.cli import main


@pytest.fixture
def vexbench(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vexbench", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        return code, *capsys.readouterr()

    return call


def test_a_sheet(vexbench, tmp_path):
    arguments = ["--method", "deep_dream", "--targets", "sea, street", "--size", 48, "--judge", "demo"]
    code, out, err = vexbench("synthesise", *arguments, "--out", "sheet.png")
    assert (code, out.strip()) == (0, "sheet.png"), err
    assert "DeepDream" in err
    sheet = np.asarray(Image.open(tmp_path / "sheet.png").convert("RGB"))
    assert sheet.std() > 10
    assert vexbench("synthesise", *arguments, "--out", "other.png", "--seed", 1)[0] == 0
    assert not np.array_equal(np.asarray(Image.open("other.png").convert("RGB")), sheet)


def test_help_has_examples(vexbench):
    assert "vexbench synthesise" in vexbench("synthesise", "--help")[1].partition("Examples")[2]


def test_listed(vexbench):
    rows = {row["id"]: row for row in json.loads(vexbench("list", "methods", "--json")[1])}
    dream = rows["deep_dream"]
    assert (dream["family"], dream["title"], dream["signed"]) == ("synthesis", "DeepDream", False)
    assert dream["parameters"]["octaves"] == 4
    assert "Mordvintsev" in dream["paper"]
    assert "feature_visualisation" in vexbench("list", "methods")[1]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["synthesise", "--method", "deep_drem"], "unknown synthesis 'deep_drem'; did you mean deep_dream"),
        (["synthesise", "--method", "grad_cam"], "unknown synthesis 'grad_cam'"),
        (["synthesise", "--targets", "sea,see"], "unknown class 'see'; did you mean"),
        (["synthesise", "--out", "sheet.gif"], ".png, .svg or .pdf"),
        (["synthesise", "--out", "nowhere/sheet.png"], "there is no folder"),
        (["synthesise", "--model", "nowhere"], "nowhere: no such file"),
        (["synthesise", "--judge", "nowhere"], "nowhere: no such file"),
        (["synthesise", "--device", "foo"], "device 'foo' cannot be used here"),
        (["run", "--data", "scenes", "--methods", "deep_dream"], "use vb.synthesise() or `vexbench synthesise`"),
        (["explain", "image.png", "--methods", "deep_dream"], "use vb.synthesise() or `vexbench synthesise`"),
    ],
)
def test_mistakes_are_one_line(vexbench, arguments, words):
    Image.new("RGB", (96, 96), "grey").save("image.png")
    code, _, err = vexbench(*arguments)
    assert code == 1
    message = err.strip().splitlines()[-1]
    assert message.startswith("error: ")
    assert words in message
    assert "Traceback" not in err
