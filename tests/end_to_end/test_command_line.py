"""The command line on drawn scenes, as a person uses it."""

import contextlib
import errno
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import vexbench as vb
from vexbench.cli import main
from vexbench.results.frame import frame

STUDY = """
title = "Small"
models = ["demo"]
methods = ["grad_cam", "random", { name = "smooth_grad", samples = 3 }]
metrics = ["deletion", "sparseness", "pointing_game", { name = "mprt", stages = 2 }]
[[datasets]]
name = "scenes"
per_class = 12
"""


@pytest.fixture
def vexbench(monkeypatch, capsys):
    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["vexbench", *map(str, arguments)])
        code = 0
        try:
            main()
        except SystemExit as stop:
            code = int(stop.code or 0)
        out, err = capsys.readouterr()
        return code, out, err

    return call


@pytest.fixture(scope="module")
def study(tmp_path_factory) -> Path:
    """A finished study."""
    home = tmp_path_factory.mktemp("studies")
    (home / "study.toml").write_text(STUDY)
    vb.run(vb.StudyConfig.read(home / "study.toml", out=home / "study"))
    return home / "study"


def test_help_has_examples(vexbench):
    for command in ("run", "train", "explain", "report", "show", "list", "data"):
        code, out, _ = vexbench(command, "--help")
        assert code == 0
        assert f"vexbench {command}" in out.partition("Examples")[2]


def test_run_show_report(vexbench, study, tmp_path):
    code, out, _ = vexbench("run", study.parent / "study.toml", "--out", study)
    assert code == 0
    page = Path(out.strip().splitlines()[-1])
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")
    assert vexbench("report", study, "--out", tmp_path / "page.html")[0] == 0
    assert (tmp_path / "page.html").exists()
    code, out, _ = vexbench("show", study)
    assert code == 0
    assert "Grad-CAM" in out
    assert max(map(len, out.splitlines())) <= 100
    assert json.loads(vexbench("show", study, "--json")[1])


def test_killed_run_goes_on_to_the_same_bits(study, tmp_path):
    command = [
        sys.executable,
        "-m",
        "vexbench",
        "run",
        study.parent / "study.toml",
        "--out",
        tmp_path / "killed",
        "--no-report",
    ]
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    limit = time.monotonic() + 300
    try:
        while running.poll() is None and not list((tmp_path / "killed").glob("*@*/*@*/*-*/deletion*.parquet")):
            assert time.monotonic() < limit
            time.sleep(0.01)
    finally:
        running.send_signal(signal.SIGKILL)
        assert running.wait() == -signal.SIGKILL
    started = json.loads((tmp_path / "killed/study.json").read_text())["provenance"]
    assert not {"finished", "resumed"} & set(started)
    vb.run(vb.StudyConfig.read(study.parent / "study.toml", out=tmp_path / "killed"))
    assert json.loads((tmp_path / "killed/study.json").read_text())["provenance"]["resumed"]
    assert frame(tmp_path / "killed").equals(frame(study))


def test_the_study_file_says_where_it_goes(vexbench, monkeypatch, tmp_path):
    small = 'methods = ["random"]\nmetrics = ["sparseness"]\n[[datasets]]\nname = "scenes"\nper_class = 1\nsize = 32\n'
    (tmp_path / "studies").mkdir()
    (tmp_path / "studies" / "study.toml").write_text(f'out = "mine"\n{small}')
    monkeypatch.chdir(tmp_path)
    code, out, err = vexbench("run", "studies/study.toml", "--no-report")
    assert (code, out.strip()) == (0, str(Path("studies", "mine"))), err
    assert (tmp_path / "studies/mine/study.json").exists()
    assert vexbench("run", "studies/study.toml", "--no-report", "--out", "other")[1].strip() == "other"


@pytest.mark.parametrize("kind", ["methods", "metrics", "datasets", "models"])
def test_list(vexbench, kind):
    code, out, _ = vexbench("list", kind, "--json")
    rows = json.loads(out)
    assert code == 0
    assert {"methods": "grad_cam", "metrics": "deletion", "datasets": "scenes", "models": "plain_cnn"}[kind] in {
        row["id"] for row in rows
    }
    assert vexbench("list", kind)[0] == 0


def test_listings_are_json_of_one_form(vexbench):
    def refuse(constant: str) -> None:
        raise ValueError(f"{constant} is no JSON")

    listed = {
        kind: json.loads(vexbench("list", kind, "--json")[1], parse_constant=refuse)
        for kind in ("methods", "metrics", "datasets", "models")
    }
    keys = [list(row) for kind in ("methods", "metrics", "datasets") for row in listed[kind]]
    assert all(own == keys[0] for own in keys)
    ranges = {row["id"]: row["range"] for row in listed["metrics"]}
    assert (ranges["passes"], ranges["mprt"]) == ([0.0, None], [-1.0, 1.0])


def test_explain_writes_a_panel(vexbench, tmp_path):
    scenes = vb.datasets()["scenes"].function(per_class=1, size=96)
    (tmp_path / "sea").mkdir()
    Image.fromarray(scenes.image(4)).save(tmp_path / "sea" / "one.png")
    Image.fromarray(scenes.image(1)).save(tmp_path / "two.png")
    panel = tmp_path / "panel.png"
    arguments = [tmp_path / "sea/one.png", tmp_path / "two.png", "--methods", "grad_cam,occlusion", "--out", panel]
    code, out, err = vexbench("explain", *arguments)
    assert (code, out.strip()) == (0, str(panel)), err
    assert np.asarray(Image.open(panel)).std() > 10


@pytest.fixture
def drawing(tmp_path) -> Path:
    path = tmp_path / "drawing.png"
    Image.fromarray(vb.datasets()["scenes"].function(per_class=1, size=96).image(4)).save(path)
    return path


def test_explain_takes_spaces_repetitions_and_capitals(vexbench, drawing):
    panel = drawing.with_name("panel.PNG")
    code, out, err = vexbench("explain", drawing, "--methods", "cam, random,cam", "--out", panel)
    assert (code, out.strip()) == (0, str(panel)), err
    twice = drawing.with_name("twice.png")
    vexbench("explain", drawing, "--methods", "cam,random", "--out", twice)
    assert np.array_equal(Image.open(panel), Image.open(twice))


def test_explain_leaves_out_what_is_not_defined_for_the_network(vexbench, drawing):
    panel, plain = drawing.with_name("panel.png"), drawing.with_name("plain.png")
    code, _, err = vexbench("explain", drawing, "--methods", "cam,attention_map,random", "--out", panel)
    assert code == 0
    assert "without attention_map: this network has no attention block" in err
    vexbench("explain", drawing, "--methods", "cam,random", "--out", plain)
    assert np.array_equal(Image.open(panel), Image.open(plain))
    code, _, err = vexbench("explain", drawing, "--methods", "attention_map", "--out", drawing.with_name("none.png"))
    assert code == 1
    assert "no attention block" in err
    assert not drawing.with_name("none.png").exists()


def test_explain_an_image_whose_name_is_not_utf8(vexbench, drawing):
    try:
        odd = drawing.rename(os.fsdecode(os.fsencode(drawing.parent) + b"/caf\xe9.png"))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    code, _, err = vexbench("explain", odd, "--methods", "random", "--out", drawing.with_name("panel.png"))
    assert code == 0, err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--device", "foo"], "device 'foo' cannot be used here"),
        (["--device", "meta"], "device 'meta' cannot be used here"),
        (["--out", "folder.png"], "folder.png: is a folder"),
        (["--out", "full.png"], "error: No space left on device; make room and run the same command again"),
    ],
)
def test_explain_says_what_is_in_the_way(vexbench, monkeypatch, drawing, options, words):
    monkeypatch.chdir(drawing.parent)
    Path("folder.png").mkdir()
    if not Path("/dev/full").exists():
        pytest.skip("this system has no device that is always full")
    Path("full.png").symlink_to("/dev/full")
    code, _, err = vexbench("explain", drawing, "--methods", "random", *options)
    assert code == 1
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_an_error_of_the_system_is_one_line(vexbench, monkeypatch):
    def refuse(*_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied", "study/report.html")

    monkeypatch.setattr("vexbench.report.report", refuse)
    assert vexbench("report", "study") == (1, "", "error: Permission denied: study/report.html\n")


def test_a_reader_that_goes_away_is_no_error():
    listing = subprocess.Popen(
        [sys.executable, "-m", "vexbench", "list", "methods", "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    listing.stdout.close()
    assert listing.communicate()[1] == b""


def test_photographs_in_their_folders(vexbench, tmp_path):
    """Drawings as files, laid out like the Intel photographs."""
    assert vexbench("data", "scenes", "--per-class", 1, "--size", 32, "--out", tmp_path / "drawn")[0] == 0
    (tmp_path / "drawn/images").rename(tmp_path / "drawn/seg_test")
    choice = ["--methods", "cam", "--metrics", "sparseness, passes", "--out", tmp_path / "study", "--no-report"]
    code, out, err = vexbench("run", "--data", "intel", "--root", tmp_path / "drawn", "--per-class", 1, *choice)
    assert (code, out.strip()) == (0, str(tmp_path / "study")), err
    assert len(frame(tmp_path / "study")) == 6 * 2


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "no.toml"], "cannot read the study file no.toml"),
        (["run", "--data", "scenes", "--methods", "grad_can"], "did you mean grad_cam"),
        (["run", "--data", "folder", "--root", "nowhere"], "nowhere"),
        (["run", "--root", "somewhere"], "name it with --data"),
        (["run", "--model", "nowhere"], "nowhere: no such file"),
        (["run", "--model", "./demo"], "demo: no such file"),
        (["run", "--data", "scenes", "--methods", "random, grad_can"], "unknown method 'grad_can'"),
        (["explain", "nowhere.jpg"], "nowhere.jpg"),
        (["explain", "nowhere.jpg", "--methods", "cma"], "did you mean cam"),
        (["explain", "nowhere.jpg", "--out", "panel.gif"], ".png, .svg or .pdf"),
        (["explain", "nowhere.jpg", "--target", "see"], "did you mean street or sea"),
        (["show", "nowhere"], "holds no study"),
        (["report", "nowhere"], "holds no study"),
        (["run", "--variant", "shortcut"], "name it with --data"),
        (["run", "--data", "scenes", "--variant", "shortcuts"], "did you mean shortcut"),
        (["train", "--from", "old", "--shuffle-labels"], "leave out --shuffle-labels."),
        (["train", "--from", "old", "--pretrained", "--size", "96"], "leave out --size and --pretrained."),
        (["train", "--from", "old", "--model", "plain_cnn"], "leave out --model."),
        (["train", "--data", "scenes", "--masked-share", "0.1"], "name the checkpoint with --from"),
        (["train", "--data", "intel", "--root", "nowhere", "--out", "out"], "nowhere"),
        (["train", "--data", "scenes", "--model", "resnet81", "--out", "out"], "resnet"),
    ],
)
def test_mistakes_are_one_line_without_a_traceback(vexbench, monkeypatch, tmp_path, arguments, words):
    monkeypatch.chdir(tmp_path)
    code, _, err = vexbench(*arguments)
    message = err.strip().splitlines()[-1]
    assert code == 1
    assert words in message
    assert message.startswith("error: ")
    assert "Traceback" not in err


def test_interruption_says_how_to_go_on(vexbench, monkeypatch, tmp_path):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vexbench.bench.run.maps_of", interrupt)
    code, _, err = vexbench("run", "--data", "scenes", "--per-class", "1", "--out", tmp_path / "study")
    assert code == 130
    assert "the same command goes on from there" in err


@pytest.mark.parametrize(("option", "expected"), [(["--race"], 0.95), ([], 0.9)])
def test_race_may_be_asked_for_here_or_in_the_study_file(vexbench, tmp_path, monkeypatch, option, expected):
    (tmp_path / "study.toml").write_text(STUDY if option else f"race = 0.9\n{STUDY}")
    asked = []

    def stop(config: vb.StudyConfig, **_: object) -> None:
        asked.append(config.race)
        raise KeyboardInterrupt

    monkeypatch.setattr(vb, "run", stop)
    with contextlib.suppress(KeyboardInterrupt):
        vexbench("run", tmp_path / "study.toml", "--out", tmp_path / "study", *option)
    assert asked == [expected]
