"""The how-to page's method, in a file of the user's own: registered by import, or by an installed package."""

import importlib
import re
import sys
from pathlib import Path

import pytest
import torch

import vexbench as vb
from vexbench.registry import METHODS

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-method.md"


def blocks():
    return re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


@pytest.fixture
def own_file(tmp_path, monkeypatch):
    """``my_methods.py`` somewhere on the path; afterwards the registry is what it was."""
    known = dict(METHODS)
    (tmp_path / "my_methods.py").write_text(blocks()[0], encoding="utf-8")
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    METHODS._entries.clear()
    METHODS._entries.update(known)
    sys.modules.pop("my_methods", None)


def test_a_method_is_less_than_fifteen_lines():
    assert len(blocks()[0].strip().splitlines()) < 15


def test_import_registers_it(own_file, gap_network, images, targets):
    assert "signed_grad_cam" not in vb.methods()
    __import__("my_methods")
    entry = vb.methods()["signed_grad_cam"]
    assert (entry.title, entry.family, entry.signed) == ("Signed Grad-CAM", "cam", True)
    maps = vb.explain(vb.Classifier(gap_network), images, targets, ["signed_grad_cam", "grad_cam", "cam"])
    assert maps["signed_grad_cam"].min() < 0
    # behind global average pooling a channel's mean gradient is its weight over the number of places
    torch.testing.assert_close(maps["signed_grad_cam"] * 6 * 9, maps["cam"], atol=1e-5, rtol=1e-4)


def test_results_of_an_edited_method_have_another_key(own_file):
    module = importlib.import_module("my_methods")
    before = METHODS["signed_grad_cam"].bind().digest
    importlib.reload(module)
    assert METHODS["signed_grad_cam"].bind().digest == before
    path = own_file / "my_methods.py"
    path.write_text(path.read_text(encoding="utf-8") + "\n\nOTHER = 1\n", encoding="utf-8")
    importlib.reload(module)
    assert METHODS["signed_grad_cam"].bind().digest == before  # no line of it
    path.write_text(path.read_text(encoding="utf-8").replace("return ", "return 2 * "), encoding="utf-8")
    importlib.reload(module)
    assert METHODS["signed_grad_cam"].bind().digest != before
    assert METHODS["grad_cam"].bind().source == ""


def test_an_installed_package_registers_it(own_file, gap_network, images, targets):
    """As pip would leave it: an entry point in the metadata, and nobody imports the module by hand."""
    metadata = own_file / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[vexbench.plugins]\nmine = my_methods\n")
    assert vb.explain(vb.Classifier(gap_network), images, targets, "signed_grad_cam").shape == (9, 24, 36)
    assert "signed_grad_cam" in vb.methods()


def test_a_broken_package_is_named_and_takes_nothing_with_it(own_file):
    metadata = own_file / "my_package-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    (metadata / "entry_points.txt").write_text("[vexbench.plugins]\nmine = my_methods\nother = not_there\n")
    with pytest.warns(UserWarning, match=r"the plug-in 'other' \(not_there\) cannot be loaded: ModuleNotFoundError"):
        assert {"signed_grad_cam", "grad_cam"} <= set(vb.methods())


def test_the_whole_page_runs(own_file):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile("\n".join(blocks()), PAGE.name, "exec"), {"__name__": "how_to_method"})
    assert {"signed_grad_cam", "bands"} <= set(vb.methods())
    assert METHODS["bands"].parameters == {"height": 8}


def test_one_id_has_one_method(own_file):
    """A name that is taken is refused, whoever comes second."""
    (own_file / "my_methods.py").write_text(blocks()[0].replace("signed_grad_cam", "grad_cam"), encoding="utf-8")
    with pytest.raises(vb.VexbenchError, match=r"'grad_cam' is registered twice, in .*\.cam and my_methods"):
        __import__("my_methods")
