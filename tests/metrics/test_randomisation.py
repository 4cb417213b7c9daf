import pytest
import torch
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from vexbench.errors import VexbenchError
from vexbench.methods.cam import grad_cam, layer_cam
from vexbench.metrics.randomisation import mprt
from vexbench.metrics.similarity import spearman, ssim, unit
from vexbench.models.base import Classifier
from vexbench.models.surgery import cascade, layers
from vexbench.models.zoo import build
from vexbench.probe import Explain, Probe


def weights(module):
    return {name: parameter.detach().clone() for name, parameter in module.named_parameters()}


def changed(before, module):
    """The layers of which any parameter is not what it was."""
    now = dict(module.named_parameters())
    return {name.rpartition(".")[0] for name, old in before.items() if not torch.equal(old, now[name])}


@pytest.fixture
def probe(classifier, images):
    return Probe(classifier, images, [0] * 6)


class TestCascade:
    @pytest.mark.parametrize(("order", "names"), [("bottom_up", "0 1 3 7"), ("top_down", "7 3 1 0")])
    def test_each_step_randomises_one_layer_more(self, classifier, images, order, names):
        before, names = weights(classifier.module), names.split()
        steps = [changed(before, network.module) for _, network in cascade(classifier, images, seed=0, order=order)]
        assert steps == [set(names[:done]) for done in range(1, 5)]

    def test_stages_are_evenly_spaced_and_end_in_the_wholly_random_network(self, classifier, images):
        before = weights(classifier.module)
        for stages, sizes in {1: [4], 2: [2, 4], 3: [1, 3, 4], 4: [1, 2, 3, 4], 99: [1, 2, 3, 4]}.items():
            found = [len(changed(before, n.module)) for _, n in cascade(classifier, images, seed=0, stages=stages)]
            assert found == sizes

    def test_networks_depend_on_the_seed_only(self, classifier, images):
        def last(seed, order="bottom_up", stages=0):
            *_, (_, network) = cascade(classifier, images, seed=seed, order=order, stages=stages)
            return network.digest

        torch.manual_seed(5)
        first = last(0)
        torch.manual_seed(6)
        assert last(0) == first
        assert last(0, "top_down") == first
        assert last(0, stages=1) == first
        assert last(1) != first

    def test_layers_of_one_shape_get_different_weights(self, images):
        twins = nn.Sequential(nn.Flatten(), nn.Linear(768, 8), nn.Linear(8, 8), nn.Linear(8, 8))
        *_, (_, network) = cascade(Classifier(twins), images, seed=0)
        assert not torch.equal(network.module[2].weight, network.module[3].weight)

    def test_batch_norm_forgets_its_statistics_too(self, classifier, images):
        *_, (_, network) = cascade(classifier, images, seed=0)
        assert network.module[1].running_mean.eq(0).all()
        assert network.module[1].running_var.eq(1).all()
        assert network.module[1].weight.eq(1).all()

    def test_normalisation_layer_and_names_come_along(self, network, images):
        classifier = Classifier(
            network, mean=(0.1, 0.2, 0.3), std=(2.0, 3.0, 4.0), target_layer="2", class_names=list("abcd")
        )
        _, stage = next(cascade(classifier, images, seed=0))
        assert stage.normalise(images).equal(classifier.normalise(images))
        assert (stage.target_layer, stage.class_names, stage.name) == ("2", tuple("abcd"), classifier.name)

    def test_layers_stand_in_the_order_of_the_forward_pass(self, images):
        class Backwards(nn.Module):
            def __init__(self):
                super().__init__()
                self.head, self.features = nn.Linear(4, 2), nn.Conv2d(3, 4, 3)

            def forward(self, images):
                return self.head(self.features(images).mean((2, 3)))

        assert [name for name, _ in layers(Classifier(Backwards()), images)] == ["features", "head"]

    def test_resnet18_has_41_steps(self):
        steps = layers(Classifier(build("resnet18", 6)), torch.rand(1, 3, 32, 32))
        assert len(steps) == 41
        assert [name for name, _ in steps[:3]] == ["conv1", "bn1", "layer1.0.conv1"]
        assert steps[-1][0] == "fc"

    def test_weights_that_no_initialisation_reaches_are_drawn_anew(self, images):
        class Gated(nn.Module):
            def __init__(self):
                super().__init__()
                self.gate = nn.Parameter(torch.full((), 0.5))
                self.features = weight_norm(nn.Conv2d(3, 8, 3))
                self.attention = nn.MultiheadAttention(8, 2, batch_first=True)
                self.head = nn.Linear(8, 3)

            def forward(self, images):
                tokens = self.features(images).flatten(2).transpose(1, 2)
                return self.head((tokens + self.gate * self.attention(tokens, tokens, tokens)[0]).mean(1))

        network = Gated().requires_grad_(False)
        before = weights(network)
        *_, (_, last) = cascade(Classifier(network), images, seed=0)
        after = dict(last.module.named_parameters())
        same = {name for name, old in before.items() if torch.equal(old, after[name])}
        assert same <= {"attention.in_proj_bias", "attention.out_proj.bias"}
        assert last.module.gate.abs() < 5
        assert not changed(before, network)

    def test_mistakes_are_told(self, classifier, images):
        with pytest.raises(VexbenchError, match="did you mean top_down"):
            next(cascade(classifier, images, seed=0, order="topdown"))
        with pytest.raises(VexbenchError, match="stages must be 0"):
            next(cascade(classifier, images, seed=0, stages=-1))


def test_the_network_as_it_is_has_no_part_in_the_mean(probe, maps):
    calls = []

    def explain(other):
        calls.append(other.classifier.digest)
        return maps.roll(len(calls), 2)

    before = weights(probe.classifier.module)
    score = mprt(maps, probe, Explain(explain))
    clean = unit(maps.abs())
    expected = torch.stack([ssim(clean.roll(shift, 2), clean) for shift in (1, 2, 3, 4)]).mean(0)
    assert torch.allclose(score, expected, atol=1e-5)
    assert len(set(calls)) == 4
    assert probe.classifier.around(probe.classifier.module).digest not in calls
    assert not changed(before, probe.classifier.module)
    first, calls = calls, []
    mprt(maps, probe, Explain(lambda other: calls.append(other.classifier.digest) or maps))
    assert calls == first  # every method meets the same networks


def test_a_method_that_does_not_look_at_the_network_scores_one(probe, maps):
    for similarity in ("ssim", "spearman"):
        assert torch.allclose(
            mprt(maps, probe, Explain(lambda _: maps), similarity=similarity), torch.ones(6), atol=1e-6
        )
        # sign and scale are no difference
        scores = mprt(maps, probe, Explain(lambda _: -3 * maps), similarity=similarity)
        assert torch.allclose(scores, torch.ones(6), atol=1e-5)
    noise = torch.rand(maps.shape, generator=torch.Generator().manual_seed(9))
    assert (mprt(maps, probe, Explain(lambda _: noise)).abs() < 0.3).all()


def test_spearman_and_stages(probe, maps):
    other = maps.roll(1, 1)
    expected = spearman(maps.abs(), other.abs())
    assert torch.allclose(
        mprt(maps, probe, Explain(lambda _: other), similarity="spearman", stages=2), expected, atol=1e-5
    )


def test_maps_that_vanish_with_the_weights(probe, maps):
    zero = torch.zeros_like(maps)
    for similarity in ("ssim", "spearman"):
        assert (mprt(maps, probe, Explain(lambda _: zero), similarity=similarity) < 0.5).all()
        assert mprt(zero, probe, Explain(lambda _: zero), similarity=similarity).tolist() == [1] * 6


def test_grad_cam_looks_at_the_network(probe):
    def explain(other):
        return nn.functional.interpolate(grad_cam(other)[:, None], (16, 16), mode="bilinear")[:, 0]

    scores = mprt(explain(probe), probe, Explain(explain))
    assert scores.isfinite().all()
    assert (scores < 0.9).all()


def test_nothing_is_left_behind(network, images, maps):
    handle = network[0].register_forward_hook(lambda *_: None)
    network.eval()
    network[2].train()
    network[0].weight.requires_grad_(False)
    network[3].weight.grad = torch.ones_like(network[3].weight)
    state = {name: value.clone() for name, value in network.state_dict().items()}
    training = [part.training for part in network.modules()]
    torch.manual_seed(3)
    generator = torch.get_rng_state()

    probe = Probe(Classifier(network, target_layer="4"), images, [0] * 6)
    mprt(maps, probe, Explain(lambda other: other.images.sum(1)), order="top_down")

    assert all(torch.equal(value, state[name]) for name, value in network.state_dict().items())
    assert [part.training for part in network.modules()] == training
    assert torch.equal(torch.get_rng_state(), generator)
    assert [len(part._forward_hooks) for part in network.modules()] == [0, 1] + [0] * 7
    assert network[3].weight.grad.eq(1).all()
    assert [parameter.requires_grad for parameter in network.parameters()] == [False] + [True] * 7
    handle.remove()


def test_mistakes_are_told(probe, maps):
    with pytest.raises(VexbenchError, match="did you mean ssim"):
        mprt(maps, probe, Explain(lambda _: maps), similarity="sim")


def test_methods_that_look_at_one_layer_share_the_passes_of_random_networks(probe, monkeypatch):
    methods = grad_cam, layer_cam
    alone = [mprt(method(probe), Probe(probe.classifier, probe.images, [0] * 6), Explain(method)) for method in methods]
    maps, passes = [method(probe) for method in methods], []
    for method, own, expected in zip(methods, maps, alone, strict=True):
        before = probe.passes.forward
        assert torch.equal(mprt(own, probe, Explain(method)), expected)
        passes.append(probe.passes.forward - before)
    assert passes == [4 * 6, 0]
    monkeypatch.setattr("vexbench.probe.KEPT", 0)  # no room but for the first network's
    probe = Probe(probe.classifier, probe.images, [0] * 6)
    for method, own, expected in zip(methods, maps, alone, strict=True):
        before = probe.passes.forward
        assert torch.equal(mprt(own, probe, Explain(method)), expected)
        passes.append(probe.passes.forward - before)
    assert passes[2:] == [4 * 6, 3 * 6]
