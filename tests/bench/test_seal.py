"""A finished study is known as finished without a tensor library, and only while nothing has changed."""

import subprocess
import sys
from pathlib import Path

import pytest

import vexbench as vb
from vexbench.bench.seal import is_sealed, seal
from vexbench.models.checkpoint import save_checkpoint

SETTINGS = {"datasets": [{"name": "scenes", "per_class": 1}], "methods": ["cam"], "metrics": ["sparseness"]}


@pytest.fixture
def config(tmp_path) -> vb.StudyConfig:
    demo = vb.demo_classifier()
    weights = save_checkpoint(tmp_path / "weights", demo.module, demo.card)
    config = vb.StudyConfig(**SETTINGS, models=(str(weights),), out=tmp_path / "study")
    vb.run(config)
    assert not is_sealed(config)
    seal(config)
    assert is_sealed(config)
    return config


def change_weights(config: vb.StudyConfig) -> vb.StudyConfig:
    weights = Path(config.models[0]) / "model.safetensors"
    weights.write_bytes(weights.read_bytes())
    return config


def delete_scores(config: vb.StudyConfig) -> vb.StudyConfig:
    next(config.out.rglob("sparseness-*.parquet")).unlink()
    return config


def lose_part_of_the_maps(config: vb.StudyConfig) -> vb.StudyConfig:
    next(path for path in config.out.rglob("maps.zarr/c/**/*") if path.is_file()).unlink()
    return config


def another_setting(config: vb.StudyConfig) -> vb.StudyConfig:
    return config.model_copy(update={"batch_size": 7})


def more_images(config: vb.StudyConfig) -> vb.StudyConfig:
    return vb.StudyConfig(**SETTINGS | {"datasets": ["scenes"]}, models=config.models, out=config.out)


@pytest.mark.parametrize("change", [change_weights, delete_scores, lose_part_of_the_maps, another_setting, more_images])
def test_any_change_breaks_the_seal(config, change):
    assert not is_sealed(change(config))


def test_a_plug_in_might_bring_a_method(config, monkeypatch):
    monkeypatch.setattr("vexbench.bench.seal.entry_points", lambda group: ["one"])
    assert not is_sealed(config)


def test_a_finished_study_needs_no_tensor_library(tmp_path):
    command = ["run", "--data", "scenes", "--per-class", "1", "--methods", "cam", "--metrics", "sparseness"]
    script = "import sys; from vexbench.cli import main; main()"
    watched = f"import atexit, sys; atexit.register(lambda: print('torch' in sys.modules)); {script}"
    for expected in ("True", "False"):
        done = subprocess.run(
            [sys.executable, "-c", watched, *command, "--out", str(tmp_path / "study")],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
        assert done.stdout.split()[-1] == expected
    assert "nothing to do" in done.stderr


def test_a_mistake_in_the_data_is_told_as_everywhere(config):
    wrong = vb.StudyConfig(
        **SETTINGS | {"datasets": [{"name": "scenes", "per_clas": 1}]}, models=config.models, out=config.out
    )
    with pytest.raises(vb.VexbenchError, match="did you mean per_class"):
        is_sealed(wrong)
