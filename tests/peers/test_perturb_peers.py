"""Path and perturbation methods against captum, with our draws and, where it has its own, with those."""

import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import pytest

import vexbench as vb

pytest.importorskip("captum")
pytest.importorskip("sklearn", reason="captum's surrogates are scikit-learn's")

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def load(name):
    if name not in sys.modules:
        spec = spec_from_file_location(name, BENCHMARKS / f"{name}.py")
        sys.modules[name] = module_from_spec(spec)
        spec.loader.exec_module(sys.modules[name])
    return sys.modules[name]


agreement = load("agreement")
perturb = load("agreement_perturb")


@pytest.fixture(scope="module", params=["resnet18", "small_vgg", "demo"])
def case(request):
    """A network, two images, and the classes it gives them."""
    makers = {"resnet18": agreement.resnet18, "small_vgg": perturb.small_vgg, "demo": vb.demo_classifier}
    classifier, images = makers[request.param](), agreement.blobs(2, 64)
    return classifier, images, classifier.logits(images).detach().argmax(1)


@pytest.mark.parametrize("pair", perturb.PAIRS, ids=lambda pair: pair.method)
def test_same_maps(case, pair):
    """Measured: 1 − 1e-9 at worst, mostly 1 − 1e-13, and 1e-5 of the maximum."""
    given = perturb.SETTINGS[pair.method]
    ours, theirs = vb.explain(*case, pair.method, **given), pair.maps(*case, **given)
    assert agreement.correlations(ours, theirs).min() >= 0.9999
    error = (ours - theirs).abs().flatten(1) / ours.abs().amax((1, 2))[:, None]
    assert error.median() <= 1e-4


@pytest.mark.parametrize("pair", perturb.SAMPLED, ids=lambda pair: pair.method)
def test_like_maps(pair):
    """Other draws, the same surrogate: 0.99 at worst with two thousand."""
    classifier, images = perturb.small_vgg(), agreement.blobs(2, 48)
    case = (classifier, images, classifier.logits(images).detach().argmax(1))
    given = {"samples": 1000, "segments": 20}
    ours, theirs = vb.explain(*case, pair.method, **given), pair.maps(*case, **given)
    assert agreement.correlations(ours, theirs).min() >= 0.95
