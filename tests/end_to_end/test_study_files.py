"""What a study file says is what is run."""

from pathlib import Path

import pytest

import vexbench as vb


@pytest.fixture
def read(tmp_path, monkeypatch):
    """Read a study of this text, standing in its folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))

    def study(text: str, **settings: object) -> vb.StudyConfig:
        Path("study.toml").write_text(text, encoding="utf-8")
        return vb.StudyConfig.read(Path("study.toml"), **settings)

    return study


def test_a_checkpoint_named_demo_is_not_the_embedded_network(read, tmp_path):
    config = read('models = ["demo", "./demo", "runs/demo"]')
    assert config.models == ("demo", str(tmp_path / "demo"), str(tmp_path / "runs" / "demo"))


def test_the_home_folder_is_known(read, tmp_path):
    config = read('models = ["~/net"]\nout = "~/study"\n[[datasets]]\nname = "folder"\nroot = "~/images"')
    assert config.models == (str(tmp_path / "home/net"),)
    assert config.datasets[0].params == {"root": str(tmp_path / "home/images")}
    assert config.out == tmp_path / "home/study"


def test_out_is_relative_to_the_file_and_gives_way_to_a_setting(read, tmp_path, monkeypatch):
    read('out = "mine"')
    monkeypatch.chdir(tmp_path.parent)
    assert vb.StudyConfig.read(tmp_path / "study.toml").out == tmp_path / "mine"
    assert vb.StudyConfig.read(tmp_path / "study.toml", out=Path("other")).out == Path("other")


def test_a_byte_order_mark_is_no_setting(read):
    assert read("\ufefftitle = 'Mine'").title == "Mine"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("datasets = 5", "'datasets'.*got 5"),
        ("datasets = []", "'datasets' is empty; name at least one"),
        ("models = []", "'models' is empty; name at least one"),
        ('models = "demo"', "'models'.*got 'demo'"),
    ],
)
def test_settings_that_name_nothing_are_refused(read, text, words):
    with pytest.raises(vb.VexbenchError, match=words):
        read(text)
