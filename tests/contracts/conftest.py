"""What every method promises, asked of every registered method."""

import pytest

import vexbench as vb
from vexbench.registry import METHODS

FEW = {"masks": 60, "samples": 8, "steps": 24, "segments": 9}
"""What methods that draw, or climb, are asked for: the contract holds for any number, and the tests are to be quick."""


@pytest.fixture(params=list(METHODS))
def method(request):
    """Each registered method in turn: a new one is tested by existing."""
    return request.param


@pytest.fixture
def explain():
    """`vb.explain` where the method is defined for the network; a method may only refuse where it declares a need."""

    def run(classifier, images, targets, method, **options):
        try:
            few = {name: value for name, value in FEW.items() if name in METHODS[method].parameters}
            return vb.explain(classifier, images, targets, method, **few | options)
        except vb.NotApplicable as refusal:
            assert METHODS[method].needs, f"{method} refuses a network, but declares no needs"
            pytest.skip(str(refusal))

    return run
