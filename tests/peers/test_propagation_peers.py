"""LRP against zennit, whose modules cannot look into functions: its canonisers know vgg and resnet."""

from copy import deepcopy

import pytest
import torch
from torch import nn
from torchvision import models

import vexbench as vb

zennit = pytest.importorskip("zennit", reason="zennit is not installed")
from zennit import attribution, canonizers, composites, rules, types  # noqa: E402
from zennit import torchvision as graphs  # noqa: E402

CANONISERS = {
    "small": canonizers.SequentialMergeBatchNorm,
    "vgg11_bn": graphs.VGGCanonizer,
    "resnet18": graphs.ResNetCanonizer,
}


def build(name: str) -> nn.Module:
    """torchvision's, the vgg with a head that is quick to compute; or a network without batch norm."""
    if name == "small":
        layers = [
            nn.Conv2d(3, 8, 3),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(8, 8, 3),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(2),
        ]
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(32, 16), nn.ReLU(), nn.Linear(16, 5))
    network = models.get_model(name, num_classes=5)
    if name == "vgg11_bn":
        network.classifier = nn.Sequential(nn.Linear(512 * 49, 16), nn.ReLU(inplace=True), nn.Linear(16, 5))
    return network


def peer(rule, classifier, canoniser):
    """The same rules by zennit's composites."""
    options = {"canonizers": [canoniser()]}
    if rule == "lrp_epsilon":
        everywhere = [((types.Convolution, nn.Linear), rules.Epsilon())]
        return composites.LayerMapComposite(composites.layer_map_base() + everywhere, **options)
    if rule == "lrp_epsilon_gamma_box":
        low, high = (classifier.normalise(torch.full((1, 3, 1, 1), end)).double() for end in (0.0, 1.0))
        return composites.EpsilonGammaBox(low=low, high=high, **options)
    kind = {"lrp_epsilon_plus_flat": "EpsilonPlusFlat", "lrp_alpha2_beta1": "EpsilonAlpha2Beta1"}[rule]
    return getattr(composites, kind)(**options)


@pytest.fixture(scope="module", params=CANONISERS)
def case(request):
    """In double precision, where small denominators are no matter of rounding."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        network = build(request.param).train()
        for _ in range(3):
            network(torch.randn(4, 3, 64, 64))
    network = network.double().eval()
    classifier = vb.Classifier(network, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225), class_names="abcde")
    return classifier, torch.rand(2, 3, 40, 40, generator=torch.Generator().manual_seed(1)), CANONISERS[request.param]


@pytest.mark.parametrize("rule", ["lrp_epsilon", "lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "lrp_alpha2_beta1"])
@pytest.mark.filterwarnings("ignore")
def test_zennit_gives_the_same(case, rule):
    classifier, images, canoniser = case
    targets = torch.tensor([0, 3])
    ours = vb.explain(classifier, images, targets, rule)
    network, normalised = deepcopy(classifier.module), classifier.normalise(images).double()
    seed = nn.functional.one_hot(targets, 5) * network(normalised).detach()
    with attribution.Gradient(network, peer(rule, classifier, canoniser)) as attribute:
        _, relevance = attribute(normalised, seed)
    theirs = relevance.sum(1).float()
    assert torch.corrcoef(torch.cat([ours, theirs]).flatten(1))[[0, 1], [2, 3]].min() >= 0.9999
    if canoniser is CANONISERS["small"]:
        # a batch norm that zennit has merged still divides by √(1 + 1e-5), and LRP-ε magnifies that to some thousandths
        assert ((ours - theirs).abs().amax((1, 2)) <= 1e-5 * theirs.abs().amax((1, 2))).all()
