"""A network that has been explained is the network that it was."""

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from torch import nn

import vexbench as vb
from vexbench.registry import METHODS

HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


def in_use(module):
    """A network in the middle of its owner's work: mixed modes, a frozen layer, gradients at hand, a hook."""
    module.train()
    convolutions = [part for part in module.modules() if isinstance(part, nn.Conv2d)]
    convolutions[0].eval().requires_grad_(False)
    for weight in convolutions[-1].parameters():
        weight.grad = torch.full_like(weight, 0.5)
    convolutions[-1].register_forward_hook(lambda _module, _inputs, _output: None)
    return module


def state(module):
    """Everything about a network and the random generators that explaining could change."""
    parts = dict(module.named_modules())
    weights = dict(module.named_parameters())
    return {
        "hooks": {(name, kind): list(getattr(part, kind)) for name, part in parts.items() for kind in HOOKS},
        "forward": {name: "forward" in vars(part) for name, part in parts.items()},
        "training": {name: part.training for name, part in parts.items()},
        "requires_grad": {name: weight.requires_grad for name, weight in weights.items()},
        "grad": {
            name: None if weight.grad is None else weight.grad.numpy().tobytes() for name, weight in weights.items()
        },
        "weights": {name: value.numpy().tobytes() for name, value in module.state_dict().items()},
        # not Python's own: beartype, on in these tests, draws from it
        "generators": (torch.get_rng_state().numpy().tobytes(), repr(np.random.get_state())),
    }


@pytest.fixture
def images(images):
    return images[:4]


@pytest.fixture
def targets(targets):
    return targets[:4]


def wrap(module):
    return vb.Classifier(module, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25), class_names="abcde")


def test_after_explaining(explain, network, images, targets, method):
    before = state(in_use(network))
    explain(wrap(network), images, targets, method)
    assert state(network) == before


def test_after_a_wrong_target(network, images, method):
    before = state(in_use(network))
    with pytest.raises(vb.VexbenchError, match="class index 99 does not exist"):
        vb.explain(wrap(network), images, [0, 0, 0, 99], method)
    assert state(network) == before


@pytest.mark.parametrize("fuse", [1, 2])
def test_after_an_error_inside_the_network(network, images, targets, method, fuse):
    """The last convolution fails when it is called for the first or for the second time."""
    last = [part for part in network.modules() if isinstance(part, nn.Conv2d)][-1]
    calls = iter(range(1, 1000))

    def burn(_module, _inputs):
        if next(calls) >= fuse:
            raise RuntimeError("fuse")

    last.register_forward_pre_hook(burn)
    before = state(in_use(network))
    asks_nothing = METHODS[method].family == "control" and method != "degraded"
    # a method may refuse the network before it burns
    expected = (RuntimeError, vb.NotApplicable) if METHODS[method].needs else RuntimeError
    with nullcontext() if asks_nothing else pytest.raises(expected):
        vb.explain(wrap(network), images.repeat(2, 1, 1, 1), targets.repeat(2), method, batch_size=4)
    assert state(network) == before


def test_images_are_not_written_to(explain, classifier, images, targets, method):
    before = images.clone()
    images.requires_grad_()
    maps = explain(classifier, images, targets, method)
    assert images.requires_grad
    assert images.grad is None
    assert not maps.requires_grad
    assert torch.equal(images, before)


def test_frozen_networks_are_explained(explain, network, images, targets, method):
    expected = explain(wrap(network), images, targets, method)
    network.requires_grad_(False)
    assert torch.equal(explain(wrap(network), images, targets, method), expected)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode], ids=["no_grad", "inference_mode"])
def test_callers_mode_does_not_matter(explain, network, images, targets, method, mode):
    """Also not for images and targets that were made there."""
    expected = explain(wrap(network), images, targets, method)
    with mode():
        assert torch.equal(explain(wrap(network), images, targets, method), expected)
        assert torch.equal(explain(wrap(network), images * 1, targets * 1, method), expected)
        assert explain(wrap(network), images[:1] * 1, None, method).isfinite().all()


def test_targets_are_not_kept(gap_network, images):
    """Changing one's targets afterwards changes no probe."""
    targets = torch.zeros(4, dtype=torch.int64)
    probe = vb.Probe(wrap(gap_network), images, targets)
    targets.fill_(3)
    assert probe.targets.eq(0).all()
