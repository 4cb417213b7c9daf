"""Faster ways change no result: a study of the network as it was written comes out the same."""

import contextlib
import sys

import numpy as np
import pytest
import torch

import vexbench as vb
from vexbench.cli import main
from vexbench.results.frame import load
from vexbench.stats.summary import summarise

METHODS = [
    "saliency",
    "grad_cam",
    "score_cam",
    {"name": "occlusion", "patch": 12, "stride": 6},
    {"name": "rise", "masks": 20},
    "random",
]
METRICS = [
    {"name": "deletion", "steps": 8},
    "average_drop",
    {"name": "faithfulness_correlation", "samples": 12},
    {"name": "max_sensitivity", "samples": 1},
    "sparseness",
    # of other networks, too
    {"name": "f_fidelity", "steps": 2, "samples": 1},
    "data_randomisation",
]


def study(folder, **settings):
    data = {"models": ["demo"], "datasets": [{"name": "scenes", "per_class": 1}]}
    return vb.run(vb.StudyConfig(**data, methods=METHODS, metrics=METRICS, out=folder, **settings))


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return study(tmp_path_factory.mktemp("studies") / "plain", reference=True)


def ranking(folder):
    (group,) = load(folder).groups
    summary = summarise(group)
    return [summary.methods[row].name for row in summary.order]


def test_a_study_comes_out_as_its_reference(plain, tmp_path, monkeypatch):
    asked, graph = [], vb.Classifier.graph
    monkeypatch.setattr(vb.Classifier, "graph", lambda *given: asked.append(graph(*given)) or asked[-1])
    fast = study(tmp_path / "fast")
    assert any(asked)
    keys = ["method", "metric", "image"]
    one, other = (found.frame().sort(keys) for found in (plain, fast))
    assert one.select(keys).equals(other.select(keys))
    for metric in one["metric"].unique():
        here, there = (frame.filter(metric=metric)["score"].to_numpy() for frame in (one, other))
        np.testing.assert_allclose(there, here, rtol=1e-4, atol=1e-4 * np.nanmax(np.abs(here)), err_msg=metric)
    assert ranking(fast.out) == ranking(plain.out)


def test_a_reference_asks_no_graph_and_joins_no_other_study(plain, monkeypatch):
    with pytest.raises(vb.VexbenchError, match=r"another reference \(reference True\)"):
        study(plain.out)
    monkeypatch.setattr("vexbench.models.base.traced", lambda _: pytest.fail("a reference was traced"))
    study(plain.out.parent / "again", reference=True)


def test_studies_of_two_precisions_hold_two_networks(tmp_path):
    for name in ("fp32", "bf16"):
        study(tmp_path / name, precision=name)
    assert len({path.parent.name for path in tmp_path.rglob("card.json")}) == 2
    with pytest.raises(vb.VexbenchError, match=r"another precision \(precision fp32\)"):
        study(tmp_path / "fp32", precision="bf16")
    with pytest.raises(vb.VexbenchError, match="the plain way in fp32"):
        vb.StudyConfig(reference=True, precision="bf16")


def test_a_network_of_another_precision_than_the_study_is_refused(tmp_path):
    torch.manual_seed(0)
    layers = [torch.nn.Conv2d(3, 4, 3), torch.nn.ReLU(), torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten()]
    network = vb.Classifier(torch.nn.Sequential(*layers, torch.nn.Linear(4, 6)), input_size=32, precision="bf16")
    given = {"models": [network], "datasets": [{"name": "scenes", "per_class": 1}]}
    with pytest.raises(vb.VexbenchError, match=r'scores in bf16, and the study in fp32; give .* precision = "bf16"'):
        vb.run(vb.StudyConfig(**given, methods=["random"], metrics=["sparseness"], out=tmp_path))
    vb.run(vb.StudyConfig(**given, methods=["random"], metrics=["sparseness"], out=tmp_path, precision="bf16"))


def asked(monkeypatch, *arguments):
    configs = []

    def stop(config, **_):
        configs.append(config)
        raise KeyboardInterrupt

    monkeypatch.setattr(vb, "run", stop)
    monkeypatch.setattr(sys, "argv", ["vexbench", "run", *map(str, arguments)])
    with contextlib.suppress(KeyboardInterrupt, SystemExit):
        main()
    return [(config.reference, config.precision) for config in configs]


def test_the_command_line_asks_for_a_reference_or_a_precision(tmp_path, monkeypatch, capsys):
    (tmp_path / "study.toml").write_text('precision = "bf16"\nmethods = ["random"]\nmetrics = ["sparseness"]\n')
    out = ("--out", tmp_path / "study")
    assert asked(monkeypatch, "--reference", *out) == [(True, "fp32")]
    assert asked(monkeypatch, "--precision", "bf16", *out) == [(False, "bf16")]
    assert asked(monkeypatch, tmp_path / "study.toml", *out) == [(False, "bf16")]
    assert asked(monkeypatch, tmp_path / "study.toml", "--precision", "fp32", *out) == [(False, "fp32")]
    assert asked(monkeypatch, "--precision", "fp8", *out) == []
    assert "fp8" in capsys.readouterr().err
