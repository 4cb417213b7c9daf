"""The public interface, and what importing costs."""

import subprocess
import sys
from pathlib import Path

import pytest

import vexbench as vb
from vexbench.registry import Choice, MethodEntry, MetricEntry


def fresh(code: str) -> str:
    """What a new Python prints."""
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_public_names_are_all_sorted_and_there():
    assert vb.__all__ == sorted(vb.__all__)
    assert len(vb.__all__) <= 25
    assert all(getattr(vb, name).__name__ for name in vb.__all__)
    assert dir(vb) == vb.__all__


def test_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'explian'"):
        vb.explian  # noqa: B018


def test_lists_stay_callable_when_their_packages_are_imported():
    import vexbench.datasets
    import vexbench.methods
    import vexbench.metrics  # noqa: F401

    assert {"grad_cam", "occlusion", "random"} <= set(vb.methods())
    assert {"deletion", "mprt"} <= set(vb.metrics())
    assert {"scenes", "intel", "folder"} <= set(vb.datasets())


@pytest.mark.parametrize("what", ["vexbench", "vexbench.cli", "vexbench.report", "vexbench.stats", "vexbench.datasets"])
def test_importing_needs_no_torch(what):
    assert fresh(f"import sys, {what}; print('torch' in sys.modules)") == "False"


def test_help_needs_no_torch():
    code = "import sys; sys.argv = ['vexbench', '--help']\ntry:\n    from vexbench.cli import main; main()\n"
    code += "except SystemExit: pass\n"
    assert fresh(code + "print('torch' in sys.modules)").endswith("False")


def test_registry_entries_are_complete():
    for entry in [*vb.methods().values(), *vb.metrics().values(), *vb.datasets().values()]:
        assert entry.title
        assert entry.family
        assert entry.paper
        assert entry.summary.endswith(".")
        assert isinstance(entry.needs, tuple)
        assert isinstance(entry.parameters, dict)
        assert isinstance(entry.signed, bool) == isinstance(entry, MethodEntry)
        assert (entry.direction is not None) == (entry.range is not None) == isinstance(entry, MetricEntry)
    for metric in vb.metrics().values():
        assert metric.direction in ("higher", "lower")
        assert metric.range[0] < metric.range[1]


def test_choice_is_a_value():
    one = vb.methods()["occlusion"].bind(patch=9)
    assert one == vb.methods()["occlusion"].bind(patch=9.0, stride=8)
    assert one.digest != vb.methods()["occlusion"].bind(patch=10).digest
    assert eval(repr(one), {"Choice": Choice}) == one
    assert hash(one) == hash(vb.methods()["occlusion"].bind(patch=9))


@pytest.mark.parametrize(
    ("value", "words"), [(2.5, "a whole number"), (True, "a whole number"), ("3", "a whole number")]
)
def test_choice_refuses_another_type(value, words):
    with pytest.raises(vb.VexbenchError, match=words):
        vb.methods()["occlusion"].bind(patch=value)


def test_a_path_is_a_name(tmp_path):
    entry = vb.datasets()["folder"]
    assert entry.bind(root=tmp_path) == entry.bind(root=str(tmp_path))


def test_second_registration_elsewhere_is_refused():
    def grad_cam(probe: vb.Probe) -> object:
        """Clash."""

    with pytest.raises(vb.VexbenchError, match="registered twice"):
        vb.method(family="cam", title="Clash", paper="none")(grad_cam)


def test_readme_example_runs(capsys):
    text = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
    code = text.partition("```python\n")[2].partition("```")[0]
    exec(compile(code, "README.md", "exec"), {})
    printed = capsys.readouterr().out.split()
    assert printed[::2] == ["grad_cam", "occlusion"]
    assert all(0 <= float(score) <= 1 for score in printed[1::2])
