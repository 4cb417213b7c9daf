"""The repaired forms of MPRT, other classes and other data: known answers, and what Adebayo et al. report."""

import numpy as np
import pytest
import torch
from scipy.stats import entropy
from torch import nn

from vexbench.datasets.scenes import scenes
from vexbench.errors import NotApplicable, VexbenchError
from vexbench.explaining import maps_of, reexplain
from vexbench.metrics.randomisation import (
    data_randomisation,
    efficient_mprt,
    histogram_entropy,
    mprt,
    mprt_curve,
    other_classes,
    random_logit,
    shipped,
    smooth_mprt,
)
from vexbench.metrics.similarity import ssim, unit
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier, load_classifier, save_checkpoint
from vexbench.models.masked import named_digest
from vexbench.models.surgery import cascade
from vexbench.perturb import noise
from vexbench.probe import Explain, Probe
from vexbench.registry import METHODS, METRICS


@pytest.fixture
def probe(classifier, images):
    return Probe(classifier, images, [0] * 6)


def weighted(probe):
    """A map that hangs on the image and on the network's first weights."""
    weight = next(probe.classifier.module.parameters())[0, :, 1, 1]
    return (probe.images * weight[:, None, None]).sum(1)


class TestCurve:
    @pytest.mark.parametrize("order", ["bottom_up", "top_down"])
    def test_mprt_is_its_mean(self, probe, order):
        explain = Explain(weighted)
        curve = mprt_curve(weighted(probe), probe, explain, order=order)
        assert curve.shape == (6, 4)
        assert torch.allclose(mprt(weighted(probe), probe, explain, order=order), curve.mean(1))

    def test_it_follows_the_layers_in_their_order(self, probe):
        """A map that only looks at the first convolution changes with it, first or last."""
        maps = weighted(probe)
        up = mprt_curve(maps, probe, Explain(weighted))
        assert (up < 0.999).all()
        down = mprt_curve(maps, probe, Explain(weighted), order="top_down")
        assert torch.allclose(down[:, :3], torch.ones(6, 3), atol=1e-6)
        assert torch.allclose(down[:, 3], up[:, 3])
        assert torch.allclose(mprt_curve(maps, probe, Explain(weighted), stages=1), up[:, 3:])

    def test_all_forms_share_the_networks_that_are_the_same(self, probe, maps):
        calls = []
        explain = Explain(lambda other: calls.append(other) or maps.roll(1, 1))
        mprt_curve(maps, probe, explain)
        assert len(calls) == 4
        mprt_curve(maps, probe, explain, similarity="spearman")
        mprt_curve(maps, probe, explain, stages=2)
        efficient_mprt(maps, probe, explain)
        assert len(calls) == 4
        mprt_curve(maps, probe, explain, order="top_down")
        assert len(calls) == 7  # the wholly random network is there


class TestSmooth:
    def test_the_mean_over_noisy_copies_is_compared(self, probe):
        """By hand: mean first, then similarity; not the mean of the similarities, and not of absolute values."""
        explain, spread = Explain(lambda other: weighted(other) - 0.1), 0.3
        reach = probe.images.amax((1, 2, 3), keepdim=True) - probe.images.amin((1, 2, 3), keepdim=True)
        copies = [(probe.images + spread * reach * draw).clamp(0, 1) for draw in noise.gaussian(probe, 3)]

        def mean(classifier):
            return torch.stack([explain(probe.of(images=copy, classifier=classifier)) for copy in copies]).mean(0)

        clean = mean(probe.classifier)
        expected = torch.stack(
            [
                ssim(unit(mean(network).abs()), unit(clean.abs()))
                for _, network in cascade(probe.classifier, probe.images, seed=0)
            ]
        ).mean(0)
        found = smooth_mprt(probe, explain, samples=3, noise=spread)
        assert torch.allclose(found, expected, atol=1e-5)
        assert not torch.allclose(found, mprt(explain(probe), probe, explain), atol=1e-3)

    def test_without_noise_it_is_mprt(self, probe):
        explain = Explain(weighted)
        for order in ("bottom_up", "top_down"):
            plain = mprt(weighted(probe), probe, explain, order=order, stages=2)
            smooth = smooth_mprt(probe, explain, samples=2, noise=0.0, order=order, stages=2)
            assert torch.allclose(smooth, plain, atol=1e-5)

    def test_noise_that_averages_out_no_longer_counts_as_change(self, probe):
        """The repair's point: a method's noise makes MPRT fall without any merit."""
        source = torch.Generator().manual_seed(0)
        still = unit(nn.functional.interpolate(torch.rand(6, 1, 4, 4, generator=source), (16, 16))[:, 0])
        explain = Explain(lambda other: still + 0.3 * torch.randn(6, 16, 16, generator=source))
        rough = mprt(explain(probe), probe, explain, stages=1)
        smooth = smooth_mprt(probe, explain, samples=40, stages=1)
        assert (smooth > rough + 0.2).all()

    @pytest.mark.parametrize("options", [{"samples": 0}, {"noise": -0.1}, {"noise": float("inf")}])
    def test_mistakes_are_told(self, probe, options):
        with pytest.raises(VexbenchError, match="samples must be 1 or more and noise 0 or more"):
            smooth_mprt(probe, Explain(weighted), **options)


class TestEfficient:
    def test_the_rise_of_entropy_is_relative_to_the_map_of_the_network_as_it_is(self, probe):
        """Half of the pixels lit is one bit; four levels are two: a rise of 1, and the other way round a fall of ½."""
        two = (torch.arange(256) % 2).float().view(1, 16, 16).expand(6, -1, -1)
        four = (torch.arange(256) % 4).float().view(1, 16, 16).expand(6, -1, -1)
        assert efficient_mprt(two, probe, Explain(lambda _: four)).tolist() == pytest.approx([1] * 6)
        assert efficient_mprt(four, probe, Explain(lambda _: two)).tolist() == pytest.approx([-0.5] * 6)
        assert efficient_mprt(two, probe, Explain(lambda _: 0 * two)).tolist() == [-1] * 6
        # signs are values here: −1, 0, 1 are three levels, not two
        signed = four.clamp(0, 2) - 1
        assert (efficient_mprt(two, probe, Explain(lambda _: signed)) > 0.4).all()

    def test_a_constant_map_has_no_entropy_to_rise_from(self, probe, maps):
        assert efficient_mprt(torch.ones(6, 16, 16), probe, Explain(lambda _: maps)).isnan().all()

    def test_only_the_wholly_random_network_is_asked(self, probe, maps):
        seen = []
        efficient_mprt(maps, probe, Explain(lambda other: seen.append(other.classifier.digest) or maps))
        *_, (_, last) = cascade(probe.classifier, probe.images, seed=0)
        assert seen == [last.digest]

    @pytest.mark.parametrize("bins", [2, 10, 100])
    def test_histogram_is_that_of_numpy(self, maps, bins):
        maps = torch.cat([maps, torch.full((1, 16, 16), 0.7), maps[:1].relu()])
        theirs = [entropy(np.histogram(row.double().numpy(), bins=bins)[0]) for row in maps]
        assert histogram_entropy(maps, bins).tolist() == pytest.approx(theirs, abs=1e-9)

    def test_mistakes_are_told(self, probe, maps):
        with pytest.raises(VexbenchError, match="bins must be 2 or more, not 1"):
            efficient_mprt(maps, probe, Explain(weighted), bins=1)


class TestRandomLogit:
    def test_the_other_class_is_never_the_target_and_each_is_as_likely(self, classifier):
        images = torch.rand(400, 3, 4, 4, generator=torch.Generator().manual_seed(3))
        probe = Probe(classifier, images, [2] * 400)
        drawn = other_classes(probe).bincount(minlength=4).tolist()
        assert drawn[2] == 0
        assert all(100 < count < 170 for count in drawn[:2] + drawn[3:])
        flipped = other_classes(Probe(classifier, images.flip(0), [2] * 400))
        assert flipped.equal(other_classes(probe).flip(0))
        assert not other_classes(Probe(classifier, images, [2] * 400, seed=1)).equal(other_classes(probe))

    def test_the_map_of_the_other_class_is_compared(self, probe):
        def stripe(other):
            maps = torch.zeros(len(other.images), 16, 16)
            for row, target in enumerate(other.targets.tolist()):
                maps[row, :, 4 * target : 4 * target + 4] = 1
            return maps

        passed = random_logit(stripe(probe), probe, Explain(stripe))
        expected = ssim(stripe(probe), stripe(Probe(probe.classifier, probe.images, other_classes(probe))))
        assert torch.allclose(passed, expected)
        assert (passed < 0.5).all()
        deaf = Explain(lambda other: other.images.mean(1))
        assert torch.allclose(random_logit(probe.images.mean(1), probe, deaf), torch.ones(6), atol=1e-6)

    def test_a_change_of_sign_is_no_change(self, classifier, images):
        probe = Probe(Classifier(nn.Sequential(classifier.module, nn.Linear(4, 2))), images, [0, 1] * 3)
        explain = Explain(lambda other: other.images.mean(1) * (2 * other.targets - 1)[:, None, None])
        assert other_classes(probe).tolist() == [1, 0] * 3
        assert torch.allclose(random_logit(explain(probe), probe, explain), torch.ones(6), atol=1e-6)

    def test_passes_are_counted_and_one_class_is_told(self, probe, images):
        before = probe.passes.forward
        random_logit(images.sum(1), probe, Explain(lambda other: [other.scores([other.images]), images.sum(1)][1]))
        assert probe.passes.forward == before + 6
        single = nn.Sequential(nn.Conv2d(3, 1, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        with pytest.raises(NotApplicable, match="one class"):
            random_logit(images.sum(1), Probe(Classifier(single), images, [0] * 6), Explain(weighted))


@pytest.fixture(scope="module")
def pictures():
    """One scene of each class, as the demo network sees them."""
    drawn = scenes(split="test", per_class=1, size=96)
    images = torch.stack([torch.from_numpy(drawn.image(index)) for index in range(6)])
    return images.permute(0, 3, 1, 2).float() / 255, list(drawn.labels)


@pytest.fixture(scope="module")
def demo(pictures):
    return Probe(demo_classifier(), *pictures)


def scored(metric, probe, method, **params):
    choice = METHODS[method].bind()
    return metric(maps_of(probe, choice), probe, reexplain(choice), **params)


class TestSanityChecks:
    """Adebayo et al. 2018, figures 2 to 4: guided backprop hardly moves as layers are randomised from the logits on."""

    def test_guided_backprop_fails_where_grad_cam_passes(self, demo):
        guided, cam, gradient = (
            scored(mprt_curve, demo, method, order="top_down").mean(0)
            for method in ("guided_backprop", "grad_cam", "saliency")
        )
        # the logits and the last of seven blocks are random, and the map is nearly the same
        assert guided[2] > 0.8
        assert cam[2] < 0.35
        assert guided.mean() > 0.55
        assert cam.mean() < 0.3
        assert guided.mean() > gradient.mean() + 0.25
        # only when the filters at the image are gone, too, is it another one
        assert guided[-1] < 0.45

    def test_guided_backprop_hardly_cares_which_class(self, demo):
        guided, cam = (scored(random_logit, demo, method).mean() for method in ("guided_backprop", "grad_cam"))
        assert guided > 0.75
        assert cam < 0.4

    def test_controls_do_not_look_at_the_network(self, demo):
        for metric in (mprt, random_logit, data_randomisation):
            assert torch.allclose(scored(metric, demo, "sobel_edges"), torch.ones(6), atol=1e-5)
        assert scored(efficient_mprt, demo, "sobel_edges").abs().max() < 1e-6


class TestDataRandomisation:
    def test_the_shipped_twin_is_one_of_the_demo_network(self):
        twin = shipped()
        # another twin changes scores: give data_randomisation another version
        assert twin.digest == twin.card["digest"] == "a0b49048"
        assert twin.card["shuffle_labels"] is True
        assert twin.card["training_accuracy"] > 0.95
        assert twin.card["test_accuracy"] < 2 / 6  # it knows nothing of the classes
        assert twin.name == demo_classifier().name

    def test_maps_of_the_twin_are_compared(self, demo):
        guided, gradient = (
            scored(data_randomisation, demo, method).mean() for method in ("guided_backprop", "saliency")
        )
        assert guided > gradient + 0.2
        method = METHODS["saliency"].bind()
        twin = maps_of(Probe(shipped(), demo.images, demo.targets), method)
        expected = ssim(unit(twin.abs()), unit(maps_of(demo, method).abs()))
        assert torch.allclose(scored(data_randomisation, demo, "saliency"), expected, atol=1e-5)

    def test_a_network_without_a_twin_is_told_how_to_make_one(self, probe, maps):
        with pytest.raises(NotApplicable, match=r"shipped twin.*vexbench train --shuffle-labels"):
            data_randomisation(maps, probe, Explain(weighted))

    def test_the_shipped_twin_is_one_of_the_demo_network_alone(self, demo):
        maps, given = demo.images.sum(1), demo.classifier
        other = demo_classifier()
        with torch.no_grad():
            other.module.classifier.bias[0] += 1
        shortcut = demo_classifier("shortcut")  # of the same structure and classes
        whitened = Classifier(given.module, mean=(0.5,) * 3, std=given.std, class_names=given.class_names)
        for network in (other, shortcut, whitened):
            with pytest.raises(
                NotApplicable, match=r"the shipped twin.*is not a twin of this network.*--shuffle-label"
            ):
                data_randomisation(maps, demo.of(classifier=network), Explain(lambda _: maps))
        layer = Classifier(given.module, mean=given.mean, std=given.std, class_names=given.class_names)
        assert data_randomisation(maps, demo.of(classifier=layer), Explain(lambda _: maps)).shape == (6,)

    def test_a_named_twin_saw_the_same_data_normalised_alike(self, demo, tmp_path):
        twin, maps = shipped(), demo.images.sum(1)

        def score(**changes):
            save_checkpoint(tmp_path / "twin", twin.module, {**twin.card, **changes})
            name = f"{tmp_path / 'twin'}@{named_digest(load_classifier(tmp_path / 'twin'))}"
            return data_randomisation(maps, demo, Explain(lambda _: maps), twin=name)

        for changes in ({"mean": (0.4, 0.5, 0.5)}, {"std": (0.3, 0.2, 0.2)}, {"data": {"name": "intel"}}):
            with pytest.raises(NotApplicable, match=r"the twin .* is not a twin of this network"):
                score(**changes)
        # statistics of fewer images; a card that does not tell its data
        for changes in ({}, {"mean": [value + 0.01 for value in twin.mean]}, {"data": None}):
            assert score(**changes).shape == (6,)

    def test_a_twin_is_named_with_its_digest(self, demo, tmp_path):
        twin = shipped()
        folder, maps = tmp_path / "twin", demo.images.sum(1)
        explain = Explain(lambda other: other.images.sum(1) * (1 if other.classifier is demo.classifier else -1))

        def score(name):
            return data_randomisation(maps, demo, explain, twin=name)

        save_checkpoint(folder, twin.module, twin.card)
        with pytest.raises(VexbenchError, match=f"give the digest.*@{named_digest(twin)}"):
            score(str(folder))
        with pytest.raises(VexbenchError, match=f"give the digest.*@{named_digest(twin)}"):
            score(f"{folder}@00000000")
        assert torch.allclose(score(f"{folder}@{named_digest(twin)}"), torch.ones(6), atol=1e-5)
        # other weights in the same folder are another twin, and never pass for this one
        with torch.no_grad():
            twin.module.classifier.bias[0] += 1
        save_checkpoint(folder, twin.module, twin.card)
        with pytest.raises(VexbenchError, match="give the digest"):
            score(f"{folder}@a0b49048")
        assert score(f"{folder}@{named_digest(twin)}").shape == (6,)
        # nor does a card that says something else of the same weights
        save_checkpoint(folder, twin.module, {**twin.card, "training_accuracy": 0.97})
        with pytest.raises(VexbenchError, match="give the digest"):
            score(f"{folder}@{named_digest(twin)}")

    def test_a_twin_that_proves_nothing_is_refused(self, demo, tmp_path):
        twin, maps = shipped(), demo.images.sum(1)

        def score(**changes):
            save_checkpoint(tmp_path / "twin", twin.module, {**twin.card, **changes})
            name = f"{tmp_path / 'twin'}@{named_digest(load_classifier(tmp_path / 'twin'))}"
            return data_randomisation(maps, demo, Explain(lambda _: maps), twin=name)

        with pytest.raises(NotApplicable, match=r"gets 45% of its shuffled labels right, and should have learnt 90%"):
            score(training_accuracy=0.45)
        with pytest.raises(VexbenchError, match="trained on true labels"):
            score(shuffle_labels=False)
        plain = demo_classifier()
        save_checkpoint(tmp_path / "plain", plain.module, plain.card)
        with pytest.raises(VexbenchError, match="trained on true labels"):
            data_randomisation(maps, demo, Explain(lambda _: maps), twin=f"{tmp_path / 'plain'}@{plain.digest}")
        with pytest.raises(VexbenchError, match="no such file or folder"):
            data_randomisation(maps, demo, Explain(lambda _: maps), twin="nowhere@b006e097")


@pytest.mark.parametrize("name", ["mprt", "smooth_mprt", "random_logit", "data_randomisation"])
def test_an_unknown_similarity_is_told(probe, maps, name):
    given = {"maps": maps, "probe": probe, "explain": Explain(weighted)}
    entry = METRICS[name]
    with pytest.raises(VexbenchError, match="did you mean spearman"):
        entry.function(*(given[need] for need in entry.needs), similarity="spaerman")
