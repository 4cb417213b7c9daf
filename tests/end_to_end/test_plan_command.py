"""The price of a study at the command line."""

import json

import pytest

from vexbench.cli import main

STUDY = """
models = ["demo"]
methods = ["grad_cam", "random", { name = "smooth_grad", samples = 3 }, { name = "smooth_grad", samples = 4 }]
metrics = ["sparseness", { name = "deletion", steps = 4 }, { name = "max_sensitivity", samples = 2 }, "pointing_game"]
[[datasets]]
name = "scenes"
per_class = 1
"""


@pytest.fixture
def vexbench(monkeypatch, capsys, tmp_path):
    (tmp_path / "study.toml").write_text(STUDY)

    def call(*arguments: str) -> str:
        monkeypatch.setattr("sys.argv", ["vexbench", "plan", str(tmp_path / "study.toml"), *arguments])
        with pytest.raises(SystemExit) as stop:
            main()
        assert not stop.value.code
        return capsys.readouterr().out

    return call


def test_what_is_dearest_comes_first_and_nothing_is_written(vexbench, tmp_path):
    told = vexbench()
    assert max(map(len, told.splitlines())) <= 100
    assert "6 images: about" in told
    for title in ("Dearest methods", "Dearest metrics", "Dearest results"):
        assert title in told
    cells = told[told.index("Dearest results") :].splitlines()
    assert cells[2].startswith("smooth_grad(noise=")
    assert "max_sensitivity" in cells[2]
    assert "and 4 others" in told
    assert [path.name for path in tmp_path.iterdir()] == ["study.toml"]


def test_for_machines(vexbench):
    told = json.loads(vexbench("--json", "--budget", "1d"))
    assert len(told["cells"]) == 16
    passes = {
        (cell["method"].partition("(")[0], cell["metric"]): cell["passes"]
        for cell in told["cells"]
        if "samples=3" not in cell["method"]
    }
    assert passes["smooth_grad", "max_sensitivity"] == 2 * 2 * 4  # twice four passes forward and back
    assert passes["random", "max_sensitivity"] == passes["grad_cam", "sparseness"] == 0
    assert told["seconds"] >= sum(cell["seconds"] for cell in told["cells"])
    assert list(told["methods"].values()) == sorted(told["methods"].values(), reverse=True)
    assert told["budget"]["over_budget"] == []
