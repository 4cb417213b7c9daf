"""Studies: resume to the last bit, record failures, refuse what cannot be."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import vexbench as vb
from vexbench.registry import METHODS, METRICS, MethodEntry
from vexbench.report.recipe import recipe
from vexbench.results import store as files

MEASURED = "seconds_ratio"
EACH = 20


def study(photographs: Path, classifier: vb.Classifier, out: Path, **changes) -> vb.StudyConfig:
    settings = {
        "datasets": [{"name": "folder", "root": str(photographs)}],
        "models": [classifier],
        "methods": [
            "cam",
            {"name": "smooth_grad", "samples": 3},
            "random",
            {"name": "occlusion", "patch": 10, "stride": 10},
        ],
        "metrics": [
            {"name": "deletion", "steps": 4},
            {"name": "max_sensitivity", "samples": 2},
            "sparseness",
            "passes",
            MEASURED,
        ],
        "out": out,
    }
    return vb.StudyConfig(**{**settings, **changes})


def test_frame_has_a_row_per_image_and_score(photographs, classifier, tmp_path):
    result = vb.run(study(photographs, classifier, tmp_path / "study"))
    frame = result.frame()
    assert frame.columns == [
        "dataset", "model", "method", "params", "metric", "image", "target", "predicted", "correct", "score", "note",
    ]  # fmt: skip
    assert len(frame) == 40 * 4 * 5
    assert frame["score"].is_finite().all()
    assert result.failures() == {}


def test_study_agrees_with_the_functions(photographs, classifier, tmp_path):
    config = study(photographs, classifier, tmp_path / "study", methods=["smooth_grad"], metrics=["deletion"])
    frame = vb.run(config).frame()
    names = frame.filter(metric="deletion")["image"]
    pixels = np.stack([np.asarray(Image.open(photographs / name)) for name in names])
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2) / 255
    maps = vb.explain(classifier, images, None, "smooth_grad")
    scores = vb.evaluate(classifier, images, None, maps, "deletion")
    assert frame.filter(metric="deletion")["score"].to_list() == pytest.approx(scores.tolist())


@pytest.mark.parametrize("stop", [1, 4, 11, 19, 25])
def test_interrupted_study_goes_on_to_the_same_bits(photographs, classifier, tmp_path, stop):
    whole = vb.run(study(photographs, classifier, tmp_path / "whole")).frame()
    seen = 0

    def interrupt(*_: object) -> None:
        nonlocal seen
        seen += 1
        if seen == stop:
            raise KeyboardInterrupt

    config = study(photographs, classifier, tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        vb.run(config, progress=interrupt)
    resumed = vb.run(config).frame()
    same = whole["metric"] != MEASURED
    assert resumed.filter(same).equals(whole.filter(same))


def test_finished_study_is_left_alone(photographs, classifier, tmp_path, monkeypatch):
    config = study(photographs, classifier, tmp_path / "study")
    vb.run(config)
    before = {path: path.stat().st_mtime_ns for path in config.out.rglob("*") if path.is_file()}
    monkeypatch.setattr("vexbench.bench.run.maps_of", lambda *_: pytest.fail("explained again"))
    vb.run(config)
    assert {path: path.stat().st_mtime_ns for path in config.out.rglob("*") if path.is_file()} == before


def test_study_may_grow(photographs, classifier, tmp_path):
    vb.run(study(photographs, classifier, tmp_path / "study", methods=["random"]))
    grown = vb.run(study(photographs, classifier, tmp_path / "study", methods=["random", "grad_cam"])).frame()
    assert set(grown["method"]) == {"random", "grad_cam"}


def test_study_may_not_shrink(photographs, classifier, tmp_path):
    """Else its folder would hold, and its page show, what nobody asked for."""
    config = study(photographs, classifier, tmp_path / "study", methods=["cam", {"name": "occlusion", "patch": 10}])
    vb.run(config)
    told = r"holds a study that has also methods occlusion\(patch=10\); choose another --out"
    with pytest.raises(vb.VexbenchError, match=told):
        vb.run(config.model_copy(update={"methods": config.methods[:1]}))
    other = [{"name": "folder", "root": str(photographs), "per_class": 2}]
    with pytest.raises(vb.VexbenchError, match="has also datasets folder"):
        vb.run(study(photographs, classifier, tmp_path / "study", datasets=other, methods=config.methods))


def test_failures_are_recorded_and_the_rest_goes_on(photographs, classifier, tmp_path, monkeypatch):
    def broken(probe: vb.Probe) -> torch.Tensor:
        """Fail."""
        raise RuntimeError("out of luck")

    entry = MethodEntry("broken", "Broken", "control", "none", broken)
    monkeypatch.setitem(METHODS._entries, "broken", entry)
    config = study(
        photographs, classifier, tmp_path, methods=["broken", "random"], metrics=["sparseness", "pointing_game"]
    )
    result = vb.run(config)
    assert result.failures() == {
        "RuntimeError: out of luck": ["broken"],
        "dataset 'folder' does not say where the evidence is.": ["random pointing_game"],
    }
    assert set(result.frame()["method"]) == {"random"}


def test_another_seed_needs_another_folder(photographs, classifier, tmp_path):
    vb.run(study(photographs, classifier, tmp_path / "study", methods=["random"], metrics=["sparseness"]))
    with pytest.raises(vb.VexbenchError, match="another seed"):
        vb.run(study(photographs, classifier, tmp_path / "study", seed=1))


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"methods": ["grad_can"]}, "unknown method 'grad_can'; did you mean grad_cam"),
        ({"metrics": ["deletoin"]}, "unknown metric 'deletoin'; did you mean deletion"),
        ({"methods": [{"name": "occlusion", "pach": 3}]}, "unknown parameter of occlusion 'pach'; did you mean patch"),
        ({"methods": [{"name": "occlusion", "patch": "big"}]}, "'patch' must be a whole number, not 'big'"),
        ({"datasets": ["intle"]}, "unknown dataset 'intle'; did you mean intel"),
        ({"models": ["no/such/checkpoint"]}, "no/such/checkpoint"),
        ({"device": "cuda:77"}, "device 'cuda:77' cannot be used here"),
        ({"metricz": []}, "unknown study setting 'metricz'; did you mean metrics"),
        ({"batch_size": 0}, "batch_size"),
    ],
)
def test_mistakes_are_named_before_anything_is_written(photographs, classifier, tmp_path, changes, words):
    with pytest.raises(vb.VexbenchError, match=words):
        vb.run(study(photographs, classifier, tmp_path / "study", **changes))
    assert not (tmp_path / "study").exists()


def test_model_of_other_classes_is_refused(photographs, classifier, tmp_path):
    other = vb.Classifier(classifier.module, class_names=["dog", "cat"], input_size=20)
    with pytest.raises(vb.VexbenchError, match="knows the classes dog, cat"):
        vb.run(study(photographs, classifier, tmp_path, models=[other]))


def test_many_classes_are_not_all_named(photographs, classifier, tmp_path):
    names = [f"breed{number}" for number in range(300)]
    other = vb.Classifier(classifier.module, class_names=names, input_size=20)
    with pytest.raises(vb.VexbenchError, match=r"breed0, breed1, breed2, breed3, breed4 and 295 more, but") as caught:
        vb.run(study(photographs, classifier, tmp_path, models=[other]))
    assert "breed5" not in str(caught.value)


def test_classes_that_differ_behind_the_first_few(tmp_path):
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 6))
    other = vb.Classifier(network, class_names=["buildings", "forest", "glacier", "mountain", "sea", "road"])
    config = vb.StudyConfig(datasets=[{"name": "scenes", "per_class": 1}], models=[other], out=tmp_path / "study")
    with pytest.raises(vb.VexbenchError, match=r"sea and 1 more \(class 5 is 'road' and 'street'\); use a model"):
        vb.run(config)


def test_two_settings_of_one_method_stay_apart(photographs, classifier, tmp_path):
    methods = [{"name": "occlusion", "patch": 5, "stride": 5}, {"name": "occlusion", "patch": 10, "stride": 10}]
    frame = vb.run(study(photographs, classifier, tmp_path, methods=methods, metrics=["sparseness"])).frame()
    assert frame["params"].n_unique() == 2
    assert len(frame) == 80


def test_study_file(tmp_path):
    (tmp_path / "study.toml").write_text(
        'title = "Mine"\nmodels = ["demo", "checkpoint"]\n[[datasets]]\nname = "folder"\nroot = "images"\n'
    )
    config = vb.StudyConfig.read(tmp_path / "study.toml", seed=3)
    assert (config.title, config.seed) == ("Mine", 3)
    assert config.models == ("demo", str(tmp_path / "checkpoint"))
    assert config.datasets[0].params == {"root": str(tmp_path / "images")}


@pytest.mark.parametrize(("text", "words"), [("title = ", "not a valid TOML"), (None, "cannot read the study file")])
def test_bad_study_file(tmp_path, text, words):
    if text is not None:
        (tmp_path / "study.toml").write_text(text)
    with pytest.raises(vb.VexbenchError, match=words):
        vb.StudyConfig.read(tmp_path / "study.toml")


def test_part_of_a_killed_write_is_swept(photographs, classifier, tmp_path):
    config = study(photographs, classifier, tmp_path / "study", methods=["random"], metrics=["sparseness"])
    vb.run(config)
    cell = next(config.out.rglob("sparseness-*.parquet"))
    temporary = cell.with_name(f".{cell.name}.1.tmp")
    temporary.write_bytes(b"half")
    vb.run(config)
    assert not temporary.exists()
    assert len(files.read_frame(cell)) == 40


def test_every_metric_has_been_registered():
    assert {"deletion", "mprt", "pointing_game", "seconds_ratio"} <= set(METRICS)


def test_folders_of_the_same_names_stay_apart(photographs, classifier, tmp_path):
    """Same classes, same file names, same sizes: what is in the files tells them apart."""
    for path in photographs.rglob("*.png"):
        pixels = np.asarray(Image.open(path))
        for name, shown in (("one", pixels), ("other", 255 - pixels)):
            (tmp_path / name / path.parent.name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(shown).save(tmp_path / name / path.parent.name / f"{path.stem}.bmp")
    roots = [{"name": "folder", "root": str(tmp_path / name)} for name in ("one", "other")]
    frame = vb.run(
        study(photographs, classifier, tmp_path / "study", datasets=roots, methods=["cam"], metrics=["sparseness"])
    ).frame()
    assert len(frame) == 80
    assert frame["dataset"].n_unique() == 2


def test_a_network_that_was_trained_on_is_another_network(photographs, tmp_path):
    torch.manual_seed(1)
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 2))
    classifier = vb.Classifier(network, class_names=["cat", "dog"], input_size=20)
    config = study(photographs, classifier, tmp_path / "study", methods=["cam"], metrics=["sparseness"])
    vb.run(config)
    with torch.no_grad():
        network[0].weight.neg_()
    with pytest.raises(vb.VexbenchError, match="holds a study that has also models Sequential@"):
        vb.run(config)


@pytest.mark.parametrize(
    "lost", ["images.zarr", "predictions.parquet", "maps.zarr", "choice.json", "sparseness-*.json"]
)
def test_what_is_deleted_is_made_again(photographs, classifier, tmp_path, lost):
    config = study(photographs, classifier, tmp_path / "study", methods=["cam"], metrics=["sparseness"])
    whole = vb.run(config).frame()
    victim = next(config.out.rglob(lost))
    before = contents(victim)
    shutil.rmtree(victim) if victim.is_dir() else victim.unlink()
    assert vb.run(config).frame().equals(whole)
    assert contents(victim) == before


def contents(path: Path) -> dict[str, bytes]:
    files = sorted(path.rglob("*")) if path.is_dir() else [path]
    return {file.name: file.read_bytes() for file in files if file.is_file()}


def test_regions_are_made_again(tmp_path):
    config = vb.StudyConfig(
        datasets=[{"name": "scenes", "per_class": 1}], methods=["cam"], metrics=["pointing_game"], out=tmp_path
    )
    whole = vb.run(config).frame()
    for victim in ("regions.zarr", "pointing_game-*.parquet"):
        path = next(tmp_path.rglob(victim))
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    assert vb.run(config).frame().equals(whole)


@pytest.mark.parametrize(
    "error",
    [MemoryError(), OSError(24, "Too many open files"), RuntimeError("DefaultCPUAllocator: can't allocate memory")],
)
@pytest.mark.parametrize("kind", ["method", "metric"])
def test_what_passes_is_tried_again(photographs, classifier, tmp_path, monkeypatch, error, kind):
    """A machine that gave out once says nothing of the method."""
    config = study(photographs, classifier, tmp_path / "study", methods=["cam"], metrics=["sparseness"])

    def give_out(*_: object, **__: object) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr(f"vexbench.bench.run.{'maps_of' if kind == 'method' else 'scores_of'}", give_out)
        with pytest.raises(vb.VexbenchError, match="run the same command again"):
            vb.run(config)
    result = vb.run(config)
    assert result.failures() == {}
    assert len(result.frame()) == 40


def test_a_network_of_other_classes_is_refused(photographs, tmp_path):
    """Without class names, the number of outputs tells."""
    network = nn.Sequential(nn.Conv2d(3, 6, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(6, 7))
    with pytest.raises(vb.VexbenchError, match="tells 7 classes apart, but dataset 'folder' has 2"):
        vb.run(study(photographs, vb.Classifier(network, input_size=20), tmp_path / "study"))


def test_labels_cannot_be_explained_where_there_are_none(photographs, classifier, tmp_path):
    loose = {"name": "folder", "root": str(photographs / "cat")}
    with pytest.raises(vb.VexbenchError, match="holds images without a label"):
        vb.run(study(photographs, classifier, tmp_path / "study", datasets=[loose], target="label"))


def test_what_is_named_twice_is_run_once(photographs, classifier, tmp_path):
    config = study(
        photographs, classifier, tmp_path, models=[classifier] * 2, methods=["cam"] * 2, metrics=["sparseness"] * 2
    )
    assert len(vb.run(config).frame()) == 40


def test_the_recipe_makes_the_study_again(photographs, classifier, tmp_path):
    config = vb.StudyConfig(
        datasets=[{"name": "scenes", "per_class": 1}], methods=["cam"], metrics=["sparseness"], out=tmp_path / "one"
    )
    whole = vb.run(config).frame()
    told = files.read_json(tmp_path / "one" / "study.json")["config"]
    (tmp_path / "study.toml").write_text(recipe(told), encoding="utf-8")
    again = vb.run(vb.StudyConfig.read(tmp_path / "study.toml", out=tmp_path / "two")).frame()
    assert again.equals(whole)


def test_cues_and_sure_images_reach_the_metrics_that_ask(tmp_path, monkeypatch):
    seen = {}

    def asks(maps, cues, references):
        seen["cues"], seen["references"] = cues.flatten(1).any(1), references
        return maps.new_zeros(len(maps))

    monkeypatch.setitem(METRICS._entries, "asks", vb.registry.MetricEntry(
        "asks", "Asks", "axiomatic", "here", asks, direction="higher", needs=("maps", "cues", "references")
    ))  # fmt: skip
    marked = {"name": "scenes", "per_class": 3, "variant": "shortcut"}
    plain = {"name": "scenes", "per_class": 1}
    result = vb.run(
        vb.StudyConfig(datasets=[marked, plain], methods=["random"], metrics=["asks"], out=tmp_path / "study")
    )
    assert seen["cues"].sum() in range(3, 16)
    images, targets = seen["references"]
    assert images.shape[1:] == (3, 96, 96)
    counts = targets.bincount()
    assert ((counts <= 3) & (counts.sum() == len(images))).all()
    assert list(result.failures()) == ["dataset 'scenes' plants no shortcut: use scenes with variant=\"shortcut\"."]


def test_the_two_embedded_networks_in_one_study(tmp_path):
    (tmp_path / "study.toml").write_text(
        'models = ["shortcut", "demo"]\nmethods = ["grad_cam", "random"]\nmetrics = ["shortcut_detection"]\n'
        '[[datasets]]\nname = "scenes"\nvariant = "shortcut"\nper_class = 2\n',
        encoding="utf-8",
    )
    config = vb.StudyConfig.read(tmp_path / "study.toml", out=tmp_path / "study")
    assert config.models == ("shortcut", "demo")
    result = vb.run(config)
    assert not result.failures()
    means = {key: rows["score"].mean() for key, rows in result.frame().group_by("model", "method")}
    (shortcut,) = (key for key in means if key[1] == "grad_cam" and means[key] == max(means.values()))
    assert len(means) == 4
    assert means[shortcut] > 3 * means[shortcut[0], "random"]
    assert vb.run(config).frame().equals(result.frame())


def test_what_failed_for_want_of_something_is_tried_again(photographs, classifier, tmp_path, monkeypatch):
    missing = [True]

    def fragile(maps):
        if missing:
            raise vb.VexbenchError("no such folder")
        return maps.new_ones(len(maps))

    def undefined(maps):
        raise vb.NotApplicable("not defined for this network")

    calls = []
    for name, function in (("fragile", fragile), ("undefined", lambda maps: calls.append(1) or undefined(maps))):
        entry = vb.registry.MetricEntry(name, name, "axiomatic", "here", function, needs=("maps",))
        monkeypatch.setitem(METRICS._entries, name, entry)
    config = study(photographs, classifier, tmp_path / "study", methods=["cam"], metrics=["fragile", "undefined"])
    assert list(vb.run(config).failures()) == ["no such folder", "not defined for this network"]
    missing.clear()
    before = len(calls)
    result = vb.run(config)
    assert list(result.failures()) == ["not defined for this network"]
    assert len(calls) == before
    assert result.frame().filter(metric="fragile")["score"].to_list() == [1.0] * 40
