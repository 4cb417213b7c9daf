"""Occlusion and SmoothGrad against closed forms and against loops."""

import pytest
import torch
from torch import nn

import vexbench as vb


@pytest.fixture
def zeros():
    return [0] * 9


def occlusion(classifier, images, targets, **params):
    return vb.explain(classifier, images, targets, "occlusion", **params)


def test_occlusion_recovers_the_weights_of_an_additive_network(score, weights):
    """White pixel against black, patch 1: the drop at a pixel is what the pixel adds."""
    additive = vb.Classifier(score(lambda x: (x * weights[:, :9, :11]).sum((1, 2, 3))))
    maps = occlusion(additive, torch.ones(1, 3, 9, 11), [0], patch=1, stride=1, baseline="black")
    torch.testing.assert_close(maps[0], weights[:, :9, :11].sum(0), atol=2e-5, rtol=0)


def test_occlusion_in_tiles_gives_each_pixel_its_tile(score, weights):
    additive = vb.Classifier(score(lambda x: (x * weights).sum((1, 2, 3))))
    maps = occlusion(additive, torch.ones(1, 3, 24, 36), [0], patch=6, stride=6, baseline="black")
    tiles = weights.sum(0).view(4, 6, 6, 6).sum((1, 3))
    torch.testing.assert_close(maps[0], tiles.repeat_interleave(6, 0).repeat_interleave(6, 1), atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("size", [(13, 17), (4, 18), (12, 5)])
@pytest.mark.parametrize(("patch", "stride"), [(5, 3), (5, 5), (4, 1), (30, 7)])
def test_occlusion_pixel_by_pixel(gap_network, images, size, patch, stride):
    """Patches start every `stride` pixels until one reaches the border; each pixel gets the mean of those on it."""
    images, targets = images[:2, :, : size[0], : size[1]], [3, 1]
    classifier = vb.Classifier(gap_network, mean=(0.5, 0.4, 0.3), std=(0.2, 0.3, 0.25))

    def covered(pixel, start):
        return start <= pixel < start + patch

    def first_pixels(length):
        found = [0]
        while not found[-1] + patch >= length:
            found.append(found[-1] + stride)
        return found

    def drop(index, top, left):
        hidden = images[index : index + 1].clone()
        for row in range(size[0]):
            for column in range(size[1]):
                if covered(row, top) and covered(column, left):
                    hidden[0, :, row, column] = 0.5
        with torch.no_grad():
            before, after = (classifier.logits(x)[0, targets[index]] for x in (images[index : index + 1], hidden))
        return float(before - after)

    expected = torch.zeros(2, *size)
    for index in range(2):
        drops = {(top, left): drop(index, top, left) for top in first_pixels(size[0]) for left in first_pixels(size[1])}
        for row in range(size[0]):
            for column in range(size[1]):
                on_it = [d for (top, left), d in drops.items() if covered(row, top) and covered(column, left)]
                expected[index, row, column] = sum(on_it) / len(on_it)
    maps = occlusion(classifier, images, targets, patch=patch, stride=stride)
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=1e-4)


def test_smooth_grad_of_a_linear_network_is_its_gradient(score, images, zeros, weights):
    linear = vb.Classifier(score(lambda x: (x * weights).sum((1, 2, 3))))
    maps = vb.explain(linear, images, zeros, "smooth_grad", samples=3)
    torch.testing.assert_close(maps, weights.abs().amax(0).expand(9, -1, -1))


def test_smooth_grad_without_noise_is_saliency(gap_network, images, targets):
    classifier = vb.Classifier(gap_network)
    still = vb.explain(classifier, images, targets, "smooth_grad", noise=0.0, samples=2)
    torch.testing.assert_close(still, vb.explain(classifier, images, targets, "saliency"))


def red(images):
    return images[:, 0]


@pytest.mark.parametrize("noise", [0.05, 0.1])
def test_noise_is_scaled_by_each_images_own_range(score, noise):
    """y = Σ red²/2: the gradient is the noisy red itself, here 1/2 plus noise; the other colours set the range."""
    quadratic = vb.Classifier(score(lambda x: red(x).square().sum((1, 2)) / 2))
    images = torch.full((3, 3, 48, 48), 0.5)
    ranges = torch.tensor([1.0, 0.5, 0.1])
    images[:, 1, 0, 0] -= ranges / 2
    images[:, 2, 5, 7] += ranges / 2
    maps = vb.explain(quadratic, images, [0] * 3, "smooth_grad", noise=noise, samples=1)
    torch.testing.assert_close(maps.std((1, 2)), noise * ranges, atol=0, rtol=0.05)
    torch.testing.assert_close(maps.mean((1, 2)), torch.full((3,), 0.5), atol=0.01, rtol=0)


def test_gradients_are_averaged_before_their_size_is_taken(score):
    """Noise of both signs cancels as 1/√samples; a mean of sizes would stay at 0.8 σ."""
    quadratic = vb.Classifier(score(lambda x: (red(x) - 0.5).square().sum((1, 2)) / 2))
    images = torch.full((1, 3, 48, 48), 0.5)
    images[:, 1, 0, 0], images[:, 2, 0, 0] = 0, 1
    maps = vb.explain(quadratic, images, [0], "smooth_grad", noise=0.1, samples=64)
    assert maps.mean() == pytest.approx(0.1 * (2 / torch.pi) ** 0.5 / 8, rel=0.05)


def test_noise_hangs_on_seed_and_image(gap_network, images, targets):
    classifier = vb.Classifier(gap_network)
    first, again, other = (vb.explain(classifier, images, targets, "smooth_grad", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert not torch.allclose(first, other, rtol=1e-3)


def test_masked_scores(functional_network, images, targets):
    """1 shows the image, 0 the baseline, and what is between blends them; K masks give (N, K)."""
    probe = vb.Probe(vb.Classifier(functional_network), images, targets, batch_size=4)
    grey = torch.full_like(images, 0.5)
    masks = [torch.ones(9, 24, 36), torch.zeros(9, 24, 36), torch.full((9, 24, 36), 0.25)]
    scores = probe.scores_masked(iter(masks), grey, "probability")
    with torch.no_grad():
        blends = (images, grey, 0.25 * images + 0.75 * grey)
        expected = torch.stack([functional_network(x).softmax(1)[range(9), targets] for x in blends], 1)
    torch.testing.assert_close(scores, expected)
    assert probe.passes.forward == 27


@pytest.mark.parametrize("output", ["logit", "probability", "log_probability"])
@pytest.mark.parametrize("batch_size", [1, 4, 9, 20, 64])
def test_scores_stand_in_the_place_of_their_images(functional_network, images, targets, output, batch_size):
    probe = vb.Probe(vb.Classifier(functional_network), images, targets, batch_size=batch_size)
    variants = [images * share for share in (1.0, 0.7, 0.3, 0.1, 0.0)]
    read = {"logit": nn.Identity(), "probability": nn.Softmax(1), "log_probability": nn.LogSoftmax(1)}[output]
    with torch.no_grad():
        expected = torch.stack([read(functional_network(x))[range(9), targets] for x in variants], 1)
    torch.testing.assert_close(probe.scores(iter(variants), output), expected)
    assert probe.scores(iter([]), output).shape == (9, 0)


def test_memory_is_bounded_by_the_batch(functional_network, images, targets):
    """Variants are taken from the stream as they are needed, and never more than a batch of images at once."""
    sizes, taken = [], []
    functional_network.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    probe = vb.Probe(vb.Classifier(functional_network, class_names="abcde"), images, targets, batch_size=20)

    def variants():
        for number in range(7):
            taken.append((number, sum(sizes)))
            yield images * (number / 7)

    probe.scores(variants())
    assert sizes == [20, 20, 20, 12]  # two variants of nine images, in fours
    assert taken == [(0, 0), (1, 0), (2, 20), (3, 20), (4, 40), (5, 40), (6, 60)]


def test_copies_that_fill_a_pass_up_are_not_counted(functional_network, images, targets):
    """Nine images in passes of at most five, which is eight: eight, then one and three copies of it."""
    sizes = []
    functional_network.register_forward_hook(lambda _module, inputs, _output: sizes.append(len(inputs[0])))
    probe = vb.Probe(vb.Classifier(functional_network, class_names="abcde"), images, targets, batch_size=5)
    assert probe.logits.shape == (9, 5)
    assert (sizes, probe.passes.forward) == ([8, 4], 9)
