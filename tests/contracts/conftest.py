"""What every method promises, asked of every registered method."""

import pytest

import vexbench as vb
from vexbench.registry import METHODS


@pytest.fixture(params=list(METHODS))
def method(request):
    """Each registered method in turn: a new one is tested by existing."""
    return request.param


@pytest.fixture
def explain():
    """`vb.explain` where the method is defined for the network; a method may only refuse where it declares a need."""

    def run(classifier, images, targets, method, **options):
        try:
            return vb.explain(classifier, images, targets, method, **options)
        except vb.NotApplicable as refusal:
            assert METHODS[method].needs, f"{method} refuses a network, but declares no needs"
            pytest.skip(str(refusal))

    return run
