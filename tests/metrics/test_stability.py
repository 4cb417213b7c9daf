"""Attacks, corruptions, flips and shifts: known answers, and what an attack may not do."""

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from torch.multiprocessing.reductions import StorageWeakRef
from torch.nn import functional

from vexbench.errors import VexbenchError
from vexbench.explaining import reexplain
from vexbench.methods.gradient import input_x_gradient, saliency
from vexbench.metrics.similarity import top_k, unit
from vexbench.metrics.stability import adversarial_stability, corruption_stability, equivariance, shifted
from vexbench.models.base import Classifier
from vexbench.perturb import attacks, noise
from vexbench.perturb.corruptions import CORRUPTIONS, brightness
from vexbench.probe import Explain, Probe
from vexbench.readout import differentiating, of_target
from vexbench.rules import softened

EPSILON = 8 / 255


@pytest.fixture
def probe(classifier, images):
    probe = Probe(classifier, images)
    return Probe(classifier, images, probe.logits.argmax(1))


# ------------------------------------------------------------------------------------------------ gradients of maps


def test_softened_rounds_every_rectifier_off():
    values = torch.linspace(-3, 9, 50)
    expected = torch.log1p(torch.exp(5 * values.double())).float() / 5
    with softened(5.0):
        assert torch.allclose(torch.relu(values), expected, atol=1e-5)
        assert torch.allclose(values.clamp(min=0), expected, atol=1e-5)
        assert torch.allclose(nn.ReLU()(values), expected, atol=1e-5)
        given = values.clone()
        assert functional.relu(given, inplace=True) is given
        assert torch.allclose(given, expected, atol=1e-5)
        assert torch.allclose(nn.LeakyReLU(0.1)(values), 0.1 * values + 0.9 * expected, atol=1e-5)
        assert functional.relu6(torch.tensor([3.0])).item() == pytest.approx(3.0, abs=1e-5)
        assert functional.relu6(torch.tensor([6.0])).item() == pytest.approx(6 - np.log(2) / 5, abs=1e-5)
        assert functional.hardtanh(values).equal(torch.clamp(values, -1, 1))  # not a rectifier
    for clip in (functional.relu, functional.relu6, functional.leaky_relu, lambda given: given.clamp(min=0)):
        with softened(5.0):
            smooth = clip(values)
        assert 0.05 < (smooth - clip(values)).abs().max() < 0.15  # ln 2 / 5, between two of the values


@pytest.mark.parametrize("method", ["saliency", "input_x_gradient", "grad_cam", "layer_cam", "integrated_gradients"])
def test_the_gradient_of_a_map_is_that_of_finite_differences(method):
    """On a softened network, where the second derivative is what matters."""
    with torch.random.fork_rng():
        torch.manual_seed(3)
        module = nn.Sequential(
            nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(inplace=True), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.AvgPool2d(2),
            nn.Flatten(), nn.Linear(36, 3),
        )  # fmt: skip
        images, weights = 0.05 + 0.9 * torch.rand(1, 3, 8, 8), torch.rand(1, 8, 8)
    module[0].weight.data *= 3
    module[-1].weight.data.abs_()  # or Grad-CAM's map could be zero
    probe, explain = Probe(Classifier(module, target_layer="3"), images, [1]), reexplain(method)

    def value(images):
        return (explain(probe.differentiably(images, lambda: softened(3.0))).double() * weights).sum()

    with differentiating():
        leaf = probe.images.clone().requires_grad_()
        (found,) = torch.autograd.grad(value(leaf), leaf)
    way = found.sign() * 1e-3
    with torch.no_grad(), differentiating():
        slope = (value(probe.images + way) - value(probe.images - way)).item() / 2
    assert (found * way).sum().item() == pytest.approx(slope, rel=0.05)
    assert slope > 0


def test_maps_of_a_differentiable_probe_are_those_of_the_plain_one(probe):
    for method in ("saliency", "grad_cam", "smooth_grad", "occlusion", "score_cam", "ablation_cam"):
        explain = reexplain(method)
        with differentiating():
            connected = explain(probe.differentiably(probe.images.clone().requires_grad_()))
        assert connected.requires_grad
        assert torch.allclose(connected, explain(probe), atol=1e-6)
        assert not explain(probe).requires_grad


# ------------------------------------------------------------------------------------------------------------ attacks


@pytest.mark.parametrize("method", [saliency, lambda other: saliency(other).detach()], ids=["gradient", "random"])
def test_attacked_images_keep_to_the_rules(probe, method):
    maps = method(probe)
    images, changed = attacks.unlike(probe, method, maps, epsilon=EPSILON, steps=4, beta=10.0)
    assert (images - probe.images).abs().max() <= EPSILON + 1e-6
    assert (images - probe.images).abs().amax((1, 2, 3)).min() > EPSILON / 2
    assert images.min() >= 0
    assert images.max() <= 1
    kept = probe.of(images=images).logits.argmax(1) == probe.logits.argmax(1)
    assert kept.equal(attacks.withstood(probe, images, EPSILON))
    assert kept.sum() >= 4
    assert torch.allclose(changed, method(probe.of(images=images)), atol=1e-6)


def test_each_rule_of_an_attack_is_checked(probe):
    far = probe.images.clone()
    far[0] += 0.5 * EPSILON
    far[1, 0, 0, 0] = probe.images[1, 0, 0, 0] + (0.1 if probe.images[1, 0, 0, 0] < 0.5 else -0.1)
    far = far.clamp(0, 1)
    assert attacks.withstood(probe, far, EPSILON).tolist()[:2] == [True, False]
    flipped = probe.of(images=probe.images[[1, 0, 2, 3, 4, 5]])
    same = flipped.logits.argmax(1) == probe.logits.argmax(1)
    assert attacks.withstood(probe, flipped.images, 1.0).equal(same)


def test_a_gradient_finds_more_than_chance(classifier):
    images = torch.rand(4, 3, 16, 16, generator=torch.Generator().manual_seed(9))
    probe = Probe(classifier, images)
    maps = input_x_gradient(probe)

    def far(method, steps):
        changed = attacks.unlike(probe, method, maps, epsilon=EPSILON, steps=steps, beta=10.0).maps
        return attacks.distance(changed, maps)

    climbed = far(input_x_gradient, 8)
    assert (climbed > 1.1 * far(lambda other: input_x_gradient(other).detach(), 8)).all()
    assert (climbed >= far(input_x_gradient, 2) - 1e-6).float().mean() > 0.5


def test_a_map_that_does_not_look_cannot_be_moved_and_one_that_does_can(probe):
    still = torch.rand(6, 16, 16)
    fixed = adversarial_stability(still, probe, Explain(lambda _: still))
    told = fixed[~fixed.isnan()]
    assert len(told) >= 4
    assert torch.allclose(told, torch.ones_like(told))
    moved = adversarial_stability(saliency(probe), probe, Explain(saliency))
    assert (moved[~moved.isnan()] < 1).any()


def test_the_score_is_the_similarity_to_the_attacked_images_map(probe):
    maps, explain = saliency(probe), Explain(saliency)
    images, _ = attacks.unlike(probe, saliency, maps, epsilon=EPSILON, steps=3, beta=10.0)
    again = saliency(probe.of(images=images))
    expected = top_k(unit(again), unit(maps))
    score = adversarial_stability(maps, probe, explain, steps=3)
    told = attacks.withstood(probe, images, EPSILON)
    assert torch.allclose(score[told], expected[told], atol=1e-6)
    assert score[~told].isnan().all()


def test_similarities_share_one_attack(probe):
    calls = []
    explain = Explain(lambda other: calls.append(1) or saliency(other))
    maps = saliency(probe)
    first = adversarial_stability(maps, probe, explain, steps=2)
    paid = len(calls)
    assert paid == 1 + 2 * 2  # the start; and in each step the gradient and the map that counts
    for similarity in ("spearman", "ssim", "pearson", "cosine"):
        other = adversarial_stability(maps, probe, explain, steps=2, similarity=similarity)
        assert other.isnan().equal(first.isnan())
    assert len(calls) == paid


def test_no_more_graphs_are_held_than_fit(probe):
    """A method of 65 passes per image is searched at random, one of 20 is attacked four images at a time."""
    seen = []

    def of_passes(count):
        def method(other):
            if other.connected:
                seen.append(len(other.images))
            variants = (other.images * (1 - 0.001 * k) for k in range(count))
            return sum(gradients.abs().sum(1) for gradients in other.input_gradients(variants))

        return method

    for count in (65, 20):
        method = of_passes(count)
        attacks.unlike(probe, method, method(probe), epsilon=EPSILON, steps=1, beta=10.0)
        if count == 65:
            assert seen == []
    assert seen == [4, 2]


def answers(probe, leaf, asked):
    """Twelve of them for each image, in one tensor."""
    variants = [leaf * (1 - 0.01 * step) for step in range(12)]
    return probe.scores(variants) if asked == "scores" else torch.stack(list(probe.input_gradients(variants)))


@pytest.mark.parametrize("asked", ["scores", "gradients"])
def test_a_second_derivative_of_answers_is_refused_rather_than_wrong(probe, asked):
    with differentiating():
        leaf = probe.images.clone().requires_grad_()
        given = answers(probe.differentiably(leaf, lambda: softened(3.0)), leaf, asked)
        (found,) = torch.autograd.grad(given.square().sum(), leaf, create_graph=True)
        with pytest.raises(RuntimeError, match="not have been used"):
            torch.autograd.grad(found.sum(), leaf)


@pytest.mark.parametrize("asked", ["scores", "gradients"])
def test_answers_keep_no_graph_of_the_network(probe, asked):
    """What a convolution gave is gone when the answers are there, and comes again for few images at a time."""
    kept, sizes = [], []
    layer = next(part for part in probe.classifier.module.modules() if isinstance(part, nn.Conv2d))

    def note(_layer, _given, output):
        kept.append(StorageWeakRef(output.untyped_storage()))
        sizes.append(len(output))

    with differentiating(), layer.register_forward_hook(note):
        leaf = probe.images.clone().requires_grad_()
        given = answers(probe.differentiably(leaf, lambda: softened(3.0)), leaf, asked)
        assert kept
        assert all(storage.expired() for storage in kept)
        (found,) = torch.autograd.grad(given.square().sum(), leaf)
    assert max(sizes) == 8
    with differentiating():
        plain = probe.images.clone().requires_grad_()
        variants = torch.cat([plain * (1 - 0.01 * step) for step in range(12)])
        with softened(3.0):
            scores = of_target(probe.classifier.logits(variants), probe.targets.repeat(12))
        whole = scores
        if asked == "gradients":
            (whole,) = torch.autograd.grad(scores.sum(), variants, create_graph=True)
        (expected,) = torch.autograd.grad(whole.square().sum(), plain)
    torch.testing.assert_close(found, expected, atol=1e-4 * float(expected.abs().max()), rtol=1e-4)


@pytest.mark.parametrize(("channels", "climbed"), [(8, True), (80, False)])
def test_an_attack_hangs_on_no_batch(images, channels, climbed):
    """Ablation-CAM behind a head that is not linear asks about each channel: many of them are searched at random."""

    class Bent(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.head = nn.Conv2d(3, channels, 5, stride=3), nn.Linear(channels, 4)

        def forward(self, images):
            return self.head(self.features(images).relu().mean((2, 3)).square()).tanh()

    with torch.random.fork_rng():
        torch.manual_seed(0)
        classifier = Classifier(Bent(), target_layer="features")
    explain = reexplain("ablation_cam")
    seen = []

    def counted(other):
        seen.append(other.connected)
        return explain(other)

    def score(some, size):
        probe = Probe(classifier, some, [0] * len(some), batch_size=size)
        maps = explain(probe)
        return adversarial_stability(maps, probe, Explain(counted), steps=2)

    expected = score(images, 64)
    assert any(seen) is climbed
    for size in (4, 16):
        assert torch.allclose(score(images, size), expected, atol=1e-4, equal_nan=True)
    assert torch.allclose(score(images[:1], 64), expected[:1], atol=1e-4, equal_nan=True)


def test_one_image_without_a_gradient_leaves_it_to_the_others(probe):
    """The failure of one is not the failure of all, and its own path does not hang on the company."""

    def fragile(other):
        broken = (other.images[:, 0, 0, 0] - probe.images[2, 0, 0, 0]).abs() < 0.1
        if other.connected and broken.any():
            raise RuntimeError("one of the variables has been modified by an in-place operation")
        return saliency(other)

    maps = saliency(probe)
    together = attacks.unlike(probe, fragile, maps, epsilon=EPSILON, steps=2, beta=10.0)
    rows = torch.tensor([2])
    alone = attacks.unlike(attacks.chosen(probe, rows), fragile, maps[2:3], epsilon=EPSILON, steps=2, beta=10.0)
    assert torch.allclose(together.images[2:3], alone.images, atol=1e-6)


def test_attacks_on_the_prediction_lower_it(probe):
    """Where they make it fall there is no score."""
    before = probe.logits.softmax(1).amax(1)
    label, maps = probe.logits.argmax(1), saliency(probe)
    for attack, steps in (("fgsm", 1), ("pgd", 5)):
        images = attacks.pgd(probe, epsilon=EPSILON, steps=steps)
        assert (images - probe.images).abs().max() <= EPSILON + 1e-6
        other = probe.of(images=images)
        assert (other.logits.softmax(1).gather(1, label[:, None])[:, 0] < before).all()
        scores = adversarial_stability(maps, probe, Explain(saliency), attack=attack)
        assert scores.isnan().equal(other.logits.argmax(1) != label)
    strong = adversarial_stability(maps, probe, Explain(saliency), attack="pgd", epsilon=0.5)
    weak = adversarial_stability(maps, probe, Explain(saliency), attack="pgd", epsilon=1e-4)
    assert strong.isnan().all()
    assert not weak.isnan().any()


def test_fgsm_of_a_linear_network_is_a_step_against_the_weights(linear_probe):
    weights = torch.randn(8, 8, generator=torch.Generator().manual_seed(0))
    images = torch.full((1, 3, 8, 8), 0.5)
    probe = linear_probe(images, weights)
    up = 1 if probe.logits.argmax(1).item() == 0 else -1
    found = attacks.pgd(probe, epsilon=0.02, steps=1)
    assert torch.allclose(found, images - up * 0.02 * weights.sign(), atol=1e-6)


def test_a_constant_map_and_lost_classes_are_not_scored(probe):
    flat = torch.ones(6, 16, 16)
    assert adversarial_stability(flat, probe, Explain(saliency), steps=1).isnan().all()
    assert corruption_stability(flat, probe, Explain(saliency)).isnan().all()
    assert equivariance(flat * 0, probe, Explain(saliency)).isnan().all()
    assert equivariance(flat, probe, Explain(lambda _: flat), similarity="ssim").isnan().all()


@pytest.mark.parametrize(
    ("metric", "options", "message"),
    [
        (adversarial_stability, {"similarity": "spearmann"}, "did you mean spearman"),
        (adversarial_stability, {"attack": "fgms"}, "did you mean fgsm"),
        (adversarial_stability, {"steps": 0}, "steps must be 1 or more"),
        (adversarial_stability, {"epsilon": -0.1}, "epsilon in"),
        (adversarial_stability, {"beta": 0.0}, "beta above 0"),
        (corruption_stability, {"severity": 6}, "severity must be 1 to 5, not 6"),
        (corruption_stability, {"similarity": "sim"}, "unknown similarity"),
        (equivariance, {"similarity": "cos"}, "unknown similarity"),
        (equivariance, {"shift": -1}, "shift must be 0 or more, not -1"),
    ],
)
def test_mistakes_are_told(probe, metric, options, message):
    with pytest.raises(VexbenchError, match=message):
        metric(saliency(probe), probe, Explain(saliency), **options)


# -------------------------------------------------------------------------------------------------------- corruptions


def test_corruptions_are_those_of_the_paper(probe):
    images = probe.images
    (draw,) = noise.gaussian(probe, 1)
    assert torch.allclose(CORRUPTIONS["gaussian_noise"](probe, 2), (images + 0.12 * draw).clamp(0, 1))
    file = io.BytesIO()
    Image.fromarray((images[1] * 255).round().byte().permute(1, 2, 0).numpy()).save(file, "JPEG", quality=18)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    assert CORRUPTIONS["jpeg"](probe, 2)[1].equal(expected)
    blurred = CORRUPTIONS["blur"](probe, 1)
    assert torch.allclose(blurred.mean((2, 3)), images.mean((2, 3)), atol=1e-4)
    assert (blurred.std((2, 3)) < 0.5 * images.std((2, 3))).all()
    for name, corrupted in CORRUPTIONS.items():
        levels = [(corrupted(probe, severity) - images).square().mean() for severity in range(1, 6)]
        assert levels == sorted(levels), name
        for severity in range(1, 6):
            assert 0 <= corrupted(probe, severity).min() <= corrupted(probe, severity).max() <= 1


def test_brightness_raises_the_value_of_hsv(classifier):
    colours = torch.tensor([[0.2, 0.4, 0.1], [0.0, 0.0, 0.0], [1.0, 0.5, 0.25], [0.95, 0.19, 0.0]])
    pixels = colours[:, :, None, None].expand(-1, -1, 8, 8).contiguous()
    bright = brightness(Probe(classifier, pixels, [0] * 4), 1)[:, :, 0, 0]
    expected = torch.tensor([[0.25, 0.5, 0.125], [0.1, 0.1, 0.1], [1.0, 0.5, 0.25], [1.0, 0.2, 0.0]])
    assert torch.allclose(bright, expected, atol=1e-6)


def test_corruptions_that_change_the_class_do_not_count(linear_probe):
    """Brightness lifts a dark image over the boundary, and it alone moves this map."""
    weights = torch.full((16, 16), 1 / 768)
    images = 0.2 + 0.2 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    edge = linear_probe(images, weights, bias=-(images.mean().item() + 0.03))
    wide = linear_probe(images, weights, bias=-0.9)
    kind = {name: corrupted(edge, 1) for name, corrupted in CORRUPTIONS.items()}
    assert edge.of(images=kind["brightness"]).logits.argmax(1).tolist() == [0, 0]
    assert edge.of(images=kind["gaussian_noise"]).logits.argmax(1).tolist() == [1, 1]
    maps = torch.rand(2, 16, 16)

    def bright(other):
        return maps.flip(1) if other.images.mean() > images.mean() + 0.05 else maps

    assert torch.allclose(corruption_stability(maps, edge, Explain(bright)), torch.ones(2))
    some = corruption_stability(maps, wide, Explain(bright))
    assert torch.allclose(some, (3 + top_k(unit(maps.flip(1)), unit(maps))) / 4, atol=1e-6)


def test_more_severe_corruption_leaves_less_of_the_map(probe):
    maps = saliency(probe)
    mild, heavy = (
        corruption_stability(maps, probe, Explain(saliency), similarity="spearman", severity=k) for k in (1, 5)
    )
    both = ~(mild.isnan() | heavy.isnan())
    assert both.any()
    assert (heavy[both] <= mild[both] + 0.1).all()


# ------------------------------------------------------------------------------------------------------- equivariance


def at_the_pixels(other):
    """What goes along with the image, wherever it goes."""
    return other.images.sum(1) - 1.5


def test_what_goes_along_with_the_image_is_equivariant(probe):
    for similarity in ("cosine", "spearman", "ssim", "top_k"):
        scores = equivariance(at_the_pixels(probe), probe, Explain(at_the_pixels), similarity=similarity)
        assert torch.allclose(scores[~scores.isnan()], torch.ones(1), atol=1e-5)
        assert not scores.isnan().all()


def test_what_stays_in_place_is_not(classifier, images):
    """A map that is symmetric survives the flip, but not the shifts; each kind has its part in the mean."""
    probe = Probe(Classifier(nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), Weak())), images[:2], [0, 0])
    ramp = torch.arange(16.0).expand(2, 16, 16) - 7.5
    scores = equivariance(ramp, probe, Explain(lambda _: ramp), shift=4)
    a = torch.arange(16.0) - 7.5
    across = functional.cosine_similarity(a[4:], a[:-4], dim=0)
    expected = (-1 + 2 * across + 2) / 5  # the flip turns it over; up and down it does not matter
    assert torch.allclose(scores, expected.expand(2), atol=1e-5)
    unsigned = equivariance(ramp, probe, Explain(lambda _: ramp), shift=0)
    assert torch.allclose(unsigned, torch.tensor(-1.0).expand(2), atol=1e-5)
    spearman = equivariance(ramp, probe, Explain(lambda _: ramp), shift=0, similarity="spearman")
    assert torch.allclose(spearman, torch.ones(2), atol=1e-5)  # of absolute values


class Weak(nn.Module):
    """One class, whatever comes."""

    def forward(self, features):
        return torch.stack([1 + 0 * features.sum(1), 0 * features.sum(1)], 1)


def test_shifts_repeat_the_border_and_are_compared_where_both_have_pixels():
    images = torch.arange(5.0).expand(1, 3, 4, 5) / 10
    right, left = shifted(images, 0, 2)[0, 0, 0], shifted(images, 0, -2)[0, 0, 0]
    assert torch.allclose(right, torch.tensor([0, 0, 0, 1, 2]) / 10)
    assert torch.allclose(left, torch.tensor([2, 3, 4, 4, 4]) / 10)
    columns = images.transpose(2, 3)
    assert torch.allclose(shifted(columns, 1, 0)[0, 0, :, 0], torch.tensor([0, 0, 1, 2, 3]) / 10)
    assert torch.allclose(shifted(columns, -1, 0)[0, 0, :, 0], torch.tensor([1, 2, 3, 4, 4]) / 10)


def test_the_smallest_images(linear_probe):
    probe = linear_probe(torch.full((1, 3, 1, 1), 0.5), torch.ones(1, 1))
    maps = torch.ones(1, 1, 1)
    assert equivariance(maps, probe, Explain(lambda _: maps)).tolist() == [1]
    assert corruption_stability(maps, probe, Explain(lambda _: maps)).isnan().all()  # one pixel is constant
    assert adversarial_stability(maps, probe, Explain(lambda _: maps), steps=1).isnan().all()
