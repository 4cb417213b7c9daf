"""What a classifier is known by, and what it refuses."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn
from torchvision import models

import vexbench as vb
from vexbench.errors import NotApplicable, VexbenchError
from vexbench.models.base import Classifier, head_weights


class Ended(nn.Module):
    """A network, and a function of its logits."""

    def __init__(self, network, end):
        super().__init__()
        self.network, self.end = network, end

    def forward(self, images):
        return self.end(self.network(images))


def test_the_digest_follows_weights_that_change_in_place(gap_network):
    classifier = Classifier(gap_network)
    before = classifier.digest
    assert classifier.digest == before
    with torch.no_grad():
        gap_network[0].weight[0, 0, 0, 0] += 1
    assert classifier.digest != before


def test_the_digest_knows_functions_that_a_network_keeps(gap_network):
    ends = [torch.tanh, torch.sigmoid, abs, *(lambda y: y * 2, lambda y: y * 3), lambda y: y + y]
    digests = [Classifier(Ended(gap_network, end), name="one").digest for end in ends]
    assert len(set(digests)) == len(ends)
    assert Classifier(Ended(gap_network, ends[-1]), name="one").digest == digests[-1]


def test_the_digest_knows_the_code_of_forward(gap_network):
    def of(factor):
        scope = {"Ended": Ended, "__name__": "study"}
        exec(f"class Scaled(Ended):\n    def forward(self, x): return {factor} * self.network(x)", scope)
        return Classifier(scope["Scaled"](gap_network, torch.tanh)).digest

    assert of(2) == of(2)
    assert of(2) != of(3)

    def written(factor):
        class Scaled(Ended):
            if factor == 2:

                def forward(self, images):
                    return 2 * self.network(images)
            else:

                def forward(self, images):
                    return 3 * self.network(images)

        return Classifier(Scaled(gap_network, torch.tanh)).digest

    assert written(2) == written(2)
    assert written(2) != written(3)


def test_the_digest_knows_a_released_networks_settings():
    torch.manual_seed(0)
    network = models.googlenet(weights=None, aux_logits=False, init_weights=False, num_classes=2)
    before = Classifier(network).digest
    network.transform_input = True
    assert Classifier(network).digest != before


def test_training_and_evaluation_have_one_digest(gap_network):
    network = Ended(gap_network, torch.tanh)
    assert Classifier(network.train()).digest == Classifier(network.eval()).digest


def test_the_digest_is_the_same_in_another_process():
    # sets of words have another order in each process
    code = (
        "import torch, vexbench as vb\n"
        "class One(torch.nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__(); self.end = lambda x: x if self.kind in {'a', 'b', 'c', 'd'} else -x\n"
        "    def forward(self, x): return (lambda y: y)(self.end(x))\n"
        "print(vb.Classifier(One()).digest)"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parents[2] / "src",
            env={"PYTHONHASHSEED": seed, "OMP_NUM_THREADS": "1"},
        ).stdout
        for seed in "12"
    }
    assert len(digests) == 1


def test_our_networks_keep_the_digest_that_their_cards_say():
    classifier = vb.demo_classifier()
    assert classifier.digest == classifier.card["digest"]


@pytest.mark.parametrize("std", [(float("nan"), 1.0, 1.0), (1.0, float("inf"), 1.0)])
def test_a_std_that_is_no_number_is_refused(gap_network, std):
    with pytest.raises(VexbenchError, match="three numbers each, std above zero"):
        Classifier(gap_network, std=std)


def test_a_network_made_in_inference_mode_is_refused(gap_network):
    with torch.inference_mode():
        made = nn.Conv2d(3, 2, 3)
        Classifier(gap_network)
    with pytest.raises(
        VexbenchError, match=r"'weight' was made in torch\.inference_mode\(\).*build the network outside"
    ):
        Classifier(made)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_cam_knows_its_head_in_half_precision(gap_network, images, dtype):
    expected = vb.explain(Classifier(gap_network), images, [1] * len(images), "cam")
    maps = vb.explain(Classifier(gap_network.to(dtype)), images, [1] * len(images), "cam")
    assert (maps - expected).abs().max() <= 8 * torch.finfo(dtype).eps * expected.abs().max()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_does_not_make_a_head_of_what_is_none(gap_network, images, dtype):
    class Other(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = gap_network[:6], gap_network[-1]

        def forward(self, images):
            features = self.features(images)
            return self.head(0.9 * features.mean((2, 3)) + 0.1 * features.amax((2, 3)))

    probe = vb.Probe(Classifier(Other().to(dtype), target_layer="features"), images)
    with pytest.raises(NotApplicable, match="global average pooling"):
        head_weights(probe.classifier, probe.trace.activations, probe.logits)
