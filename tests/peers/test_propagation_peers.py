"""LRP against zennit, number by number, on a network without batch norm; see test_method_peers for torchvision's."""

import agreement_propagation
import agreement_table as table
import pytest
import torch
from torch import nn

import vexbench as vb

pytest.importorskip("zennit", reason="zennit is not installed")


@pytest.fixture(scope="module")
def case():
    with torch.random.fork_rng():
        torch.manual_seed(0)
        layers = [
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        ]
        network = nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))
    classifier = vb.Classifier(network.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    return table.case_of(classifier, torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1)), double=True)


@pytest.mark.parametrize("rule", agreement_propagation.LRP)
@pytest.mark.filterwarnings("ignore")
def test_zennit_gives_the_same_numbers(case, rule):
    theirs = agreement_propagation.zennit_lrp(agreement_propagation.LRP[rule])(*case)
    ours = vb.explain(*case, rule)
    assert ((ours - theirs).abs().amax((1, 2)) <= 1e-5 * theirs.abs().amax((1, 2))).all()


@pytest.mark.filterwarnings("ignore")
def test_zennit_divides_by_what_it_has_merged():
    """A batch norm that zennit has merged still divides by √(1 + 1e-5): by that factor its sums are off.

    What decides: merging leaves the network as it was. Where this fails zennit has been mended.
    """
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = nn.Sequential(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU(), nn.Flatten())
        network.append(nn.Linear(8 * 100, 3, bias=False))
    network = network.double().eval()
    images = torch.rand(2, 3, 12, 12, dtype=torch.float64)
    before = network(images)
    (canoniser,) = agreement_propagation.canonisers(network)
    instances = canoniser.apply(network)
    changed = network(images)
    for instance in instances:
        instance.remove()
    torch.testing.assert_close(changed * (1 + 1e-5) ** 0.5, before, rtol=1e-9, atol=0)
    assert not torch.allclose(changed, before, rtol=1e-7, atol=0)


@pytest.mark.filterwarnings("ignore")
def test_zennits_excitation_may_be_negative():
    """Where a sum has a negative term: and it is to be a probability (Zhang et al. 2016, eq. 2)."""

    class Sum(nn.Module):
        def __init__(self):
            super().__init__()
            self.first, self.second, self.head = nn.Conv2d(3, 6, 3), nn.Conv2d(3, 6, 3), nn.Linear(6, 4)

        def forward(self, images):
            return self.head((self.first(images) + self.second(images).relu()).relu().mean((2, 3)))

    with torch.random.fork_rng():
        torch.manual_seed(0)
        case = table.case_of(vb.Classifier(Sum().eval(), target_layer="first"), torch.rand(2, 3, 12, 12), double=True)
    theirs = agreement_propagation.zennit_excitation(*table.as_modules(case), layer="input")
    assert theirs.min() < 0
    assert vb.explain(*case, "excitation_backprop", layer="input").min() >= 0
