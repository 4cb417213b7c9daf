"""Syntheses in a study: made once, resumed to the last bit, judged by another network, told of in the result."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.results.frame import load

QUICK = [{"name": "deep_dream", "steps": 2, "octaves": 2}, {"name": "feature_visualisation", "steps": 3}]
NAMES = ("buildings", "forest", "glacier", "mountain", "sea", "street")


def network(seed: int, names: tuple[str, ...] | None = NAMES) -> vb.Classifier:
    torch.manual_seed(seed)
    module = nn.Sequential(
        nn.Conv2d(3, 6, 5, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 6)
    )
    return vb.Classifier(module, class_names=names, input_size=24)


def study(out: Path, *models: object, **changes: object) -> vb.StudyConfig:
    settings = {
        "datasets": [{"name": "scenes", "per_class": 2}],
        "models": models or (network(0),),
        "methods": ["random"],
        "metrics": ["sparseness"],
        "syntheses": QUICK,
        "out": out,
    }
    return vb.StudyConfig(**{**settings, **changes})


def made(out: Path) -> list[tuple[str, object, np.ndarray]]:
    return [
        (one.key, one.scores, group.synthesised(one, range(len(one.scores))))
        for group in load(out).groups
        for one in group.syntheses
    ]


def same(one: list, other: list) -> bool:
    return [key for key, *_ in one] == [key for key, *_ in other] and all(
        a[1].equals(b[1]) and np.array_equal(a[2], b[2]) for a, b in zip(one, other, strict=True)
    )


def test_an_image_per_class_with_its_scores(tmp_path):
    model = network(0)
    config = study(tmp_path, model, network(1))
    vb.run(config)
    group = load(tmp_path).groups[0]
    dream, feature = group.syntheses
    assert (dream.id, feature.id) == ("deep_dream", "feature_visualisation")
    assert feature.params["steps"] == 3
    assert load(tmp_path).pending == ()
    scores = feature.scores
    first, second = load(tmp_path).groups
    mine = first if f"@{model.digest}" in str(first.directory) else second
    scores = next(one for one in mine.syntheses if one.id == "feature_visualisation").scores
    images = torch.from_numpy(mine.synthesised(feature, range(6))).permute(0, 3, 1, 2) / 255
    assert scores["target"].to_list() == list(range(6))
    assert scores["passes"].to_list() == [6.0] * 6
    alone = vb.synthesise(model, None, "feature_visualisation", steps=3)
    assert (images - alone).abs().max() <= 0.5 / 255 + 1e-6
    sure = vb.Probe(model, images, list(range(6))).logits.softmax(1).diagonal()
    assert scores["probability"].to_numpy() == pytest.approx(sure.numpy(), abs=1e-5)
    other = vb.Probe(network(1), images, list(range(6))).logits.softmax(1).diagonal()
    assert scores["transfer"].to_numpy() == pytest.approx(other.numpy(), abs=1e-5)
    pixels = torch.from_numpy(mine.images(list(range(12)))).permute(0, 3, 1, 2) / 255
    logits = vb.Probe(model, pixels, [0] * 12).logits
    best = logits.argmax(0)
    assert scores["real"].to_list() == [mine.predictions["image"][int(row)] for row in best]
    gain = vb.Probe(model, images, list(range(6))).logits.diagonal() - logits.amax(0)
    assert scores["activation_gain"].to_numpy() == pytest.approx(gain.numpy(), abs=1e-4)
    assert scores["naturalness"].is_finite().all()


@pytest.mark.parametrize("stop", [3, 5, 8, 10])
def test_interrupted_syntheses_go_on_to_the_same_bits(tmp_path, stop, monkeypatch):
    monkeypatch.setattr("vexbench.bench.syntheses.CHUNK", 4)
    vb.run(study(tmp_path / "whole"))
    seen = 0

    def interrupt(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == stop:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        vb.run(study(tmp_path / "parts"), progress=interrupt)
    assert load(tmp_path / "parts").pending
    vb.run(study(tmp_path / "parts"))
    assert same(made(tmp_path / "parts"), made(tmp_path / "whole"))
    assert not [*(tmp_path / "parts").rglob("*.parts")]


def test_finished_syntheses_are_left_alone(tmp_path, monkeypatch):
    vb.run(study(tmp_path))
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()}
    monkeypatch.setattr("vexbench.bench.syntheses.images_of", lambda *_: pytest.fail("made again"))
    told = []
    vb.run(study(tmp_path), progress=lambda *state: told.append(state))
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*") if path.is_file()} == before
    assert told[-1] == ("done", 3, 3, 1.0)


def test_all_parts_are_counted(tmp_path):
    told = []
    vb.run(study(tmp_path), progress=lambda *state: told.append(state))
    assert [done for _, done, *_ in told] == sorted(done for _, done, *_ in told)
    assert told[-1] == ("done", 3, 3, 1.0)


def test_none_by_default(tmp_path):
    vb.run(study(tmp_path, syntheses=[]))
    assert load(tmp_path).groups[0].syntheses == ()


def test_a_network_that_joins_becomes_the_judge(tmp_path):
    model = network(0)
    vb.run(study(tmp_path, model))
    (lone,) = load(tmp_path).groups
    assert {one.judge for one in lone.syntheses} == {"Plain CNN, small"}  # the embedded one knows these classes
    images = lone.synthesised(lone.syntheses[0], range(6))
    vb.run(study(tmp_path, model, network(1)))
    mine = next(group for group in load(tmp_path).groups if f"@{model.digest}" in str(group.directory))
    assert {one.judge for one in mine.syntheses} == {"Sequential"}
    assert np.array_equal(mine.synthesised(mine.syntheses[0], range(6)), images)


def test_no_judge_is_left_for_the_embedded_network_alone(tmp_path):
    vb.run(study(tmp_path, "demo", syntheses=QUICK[1:]))
    (one,) = load(tmp_path).groups[0].syntheses
    assert one.judge == ""
    assert one.scores["transfer"].is_nan().all()
    assert one.scores["activation_gain"].is_finite().all()


def test_failures_are_recorded_and_the_rest_goes_on(tmp_path):
    broken = [{"name": "deep_dream", "layer": "nowhere"}, *QUICK[1:]]
    result = vb.run(study(tmp_path, syntheses=broken))
    assert [*result.failures().values()] == [["deep_dream"]]
    group = load(tmp_path).groups[0]
    assert [(failure.method, failure.metric) for failure in group.failures] == [("DeepDream", "")]
    assert "layer 'nowhere'" in group.failures[0].reason
    assert [one.scores is None for one in group.syntheses] == [True, False]
    assert group.pending == ()


@pytest.mark.parametrize(
    ("syntheses", "words"),
    [
        (["deep_drem"], "unknown synthesis 'deep_drem'; did you mean deep_dream"),
        ([{"name": "deep_dream", "stps": 3}], "unknown parameter of deep_dream 'stps'; did you mean steps"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(tmp_path, syntheses, words):
    with pytest.raises(vb.VexbenchError, match=words):
        vb.run(study(tmp_path / "study", syntheses=syntheses))
    assert not (tmp_path / "study").exists()


def test_syntheses_may_join_a_study_but_not_leave(tmp_path):
    vb.run(study(tmp_path, syntheses=QUICK[:1]))
    vb.run(study(tmp_path))
    with pytest.raises(vb.VexbenchError, match=r"has also syntheses feature_visualisation\(steps=3\)"):
        vb.run(study(tmp_path, syntheses=QUICK[:1]))


def test_studies_from_before_have_none(tmp_path):
    """A study file that was written when there were no syntheses goes on."""
    from vexbench.results import store as files

    vb.run(study(tmp_path, syntheses=[]))
    described = files.read_json(tmp_path / "study.json")
    del described["config"]["syntheses"]
    files.write_json(tmp_path / "study.json", described)
    assert load(tmp_path).pending == ()
    vb.run(study(tmp_path, syntheses=QUICK[1:]))
    assert len(load(tmp_path).groups[0].syntheses) == 1
