"""Curves and masks beside pytorch-grad-cam, torchcam and Quantus, at matched settings; each defect of theirs named.

Deletion, insertion, drop and increase beside torchcam: `test_metric_peers.py`.
"""

import numpy as np
import pytest
import torch
from torch import nn

from vexbench.metrics.faithfulness import average_drop, deletion, irof, morf_lerf_gap, road
from vexbench.models.base import Classifier
from vexbench.perturb.imputation import linear
from vexbench.perturb.segments import superpixels
from vexbench.probe import Probe

pytestmark = pytest.mark.filterwarnings("ignore")  # the peers' own

SPREAD = 2.0  # far from uniform probabilities
TARGETS = [0, 1, 2, 3, 0, 1]
PATHS = {"normalise": False, "disable_warnings": True}


class Grey(nn.Module):
    """The network for pictures of one colour, the only ones that some of Quantus takes."""

    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, pictures):
        return self.network(pictures.expand(-1, 3, -1, -1))


@pytest.fixture
def network(small_network):
    return small_network


@pytest.fixture
def pictures():
    return 0.1 + 0.8 * torch.rand(6, 1, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def colours():
    return 0.1 + 0.8 * torch.rand(6, 3, 16, 16, generator=torch.Generator().manual_seed(1))


@pytest.fixture
def grey_probe(network, pictures):
    return Probe(Classifier(network), pictures.expand(-1, 3, -1, -1), TARGETS)


@pytest.fixture
def probe(network, colours):
    return Probe(Classifier(network), colours, TARGETS)


@pytest.fixture
def maps():
    """Without ties."""
    source = torch.Generator().manual_seed(2)
    return torch.stack([torch.randperm(256, generator=source).view(16, 16) for _ in range(6)]) / 255


@pytest.fixture
def without_noise(monkeypatch):
    """pytorch-grad-cam draws it from the global generator, at a size that its metrics give no way to set."""
    gradcam_road = pytest.importorskip("pytorch_grad_cam.metrics.road")
    monkeypatch.setattr(gradcam_road.NoisyLinearImputer.__init__, "__defaults__", (0, gradcam_road.neighbors_weights))
    return gradcam_road


def of_gradcam(metric, probe, maps, network, kind="ClassifierOutputSoftmaxTarget", **options):
    outputs = pytest.importorskip("pytorch_grad_cam.utils.model_targets")
    wanted = [getattr(outputs, kind)(target) for target in TARGETS]
    return torch.from_numpy(np.asarray(metric(probe.images, maps.numpy(), wanted, network, **options)))


def of_quantus(name, network, images, maps, targets=TARGETS, batch_size=64, **options):
    quantus = pytest.importorskip("quantus")
    metric = getattr(quantus, name)(**PATHS, **options)
    given = (images.numpy(), np.array(targets), maps[:, None].numpy())
    x, y, a = (part.copy() for part in given)
    return metric(network, x, y, a_batch=a, batch_size=batch_size, softmax=True, device="cpu")


# pytorch-grad-cam


def test_imputation_is_that_of_pytorch_grad_cam(without_noise, probe, maps):
    for share in (0.1, 0.5, 0.9):
        masks = (maps >= share).float()
        theirs = [without_noise.NoisyLinearImputer()(*pair) for pair in zip(probe.images, masks)]
        assert torch.allclose(linear(probe.images, masks), torch.stack(theirs), atol=1e-5)


def test_road_is_that_of_pytorch_grad_cam(without_noise, probe, network, maps):
    """Half our gap; and for one order alone the difference to the whole image's probability."""
    percentiles = [80, 50, 25]  # of which 256 pixels less those below it are replaced
    shares = ",".join(str(100 * (256 - np.ceil(255 * p / 100)) / 256) for p in percentiles)
    options = {"shares": shares, "noise": 0.0}
    both = of_gradcam(without_noise.ROADCombined(percentiles), probe, maps, network)
    assert torch.allclose(road(maps, probe, **options) / 2, both, atol=1e-4)
    most = of_gradcam(without_noise.ROADMostRelevantFirstAverage(percentiles), probe, maps, network)
    whole = probe.logits.softmax(1).gather(1, probe.targets[:, None])[:, 0]
    assert torch.allclose(-road(maps, probe, order="morf", **options) - whole, most, atol=1e-4)
    assert most.abs().max() > 0.05


def test_road_of_pytorch_grad_cam_replaces_the_whole_image_where_most_of_the_map_is_zero(
    without_noise, probe, network, maps
):
    """DEFECT: with 60 % zeros the step of percentile 20 erases the whole image, since all that equals it goes together.

    Rong et al. 2022 replace a share of the pixels, here 80 %, whatever their values; likewise the least
    relevant 20 % are 60 % there.
    """
    sparse = (maps - 0.6).relu()

    def left(kind, percentile):
        remove = kind(percentile, lambda _, mask: mask)
        return [remove(image, row).mean().item() for image, row in zip(probe.images, sparse)]

    assert left(without_noise.RemoveMostRelevantFirst, 20) == [0] * 6
    assert left(without_noise.RemoveLeastRelevantFirst, 80) == pytest.approx([0.4] * 6, abs=0.01)
    # nothing is left to solve for: pytorch-grad-cam's score is that of whatever the singular system gives
    whole = probe.logits.softmax(1).gather(1, probe.targets[:, None])[:, 0]
    theirs = of_gradcam(without_noise.ROADMostRelevantFirst(20), probe, sparse, network)
    ours = -road(sparse, probe, shares="80", order="morf", noise=0.0) - whole
    assert ours.isfinite().all()
    assert not torch.allclose(ours, theirs, atol=0.01)


def test_drop_of_pytorch_grad_cam_is_a_difference_of_raw_logits(probe, network, maps):
    """DEFECT: by default logits are compared, not divided; Chattopadhyay et al. 2018 divide probabilities by y."""
    metrics = pytest.importorskip("pytorch_grad_cam.metrics.cam_mult_image")
    theirs = of_gradcam(metrics.DropInConfidence(), probe, maps[:, None], network, "ClassifierOutputTarget")
    shown = network(probe.images * maps[:, None]).detach()
    fall = (probe.logits - shown).gather(1, probe.targets[:, None])[:, 0].relu()
    assert torch.allclose(theirs, fall, atol=1e-5)
    assert not torch.allclose(theirs, average_drop(maps, probe), atol=0.1)


# Quantus


def test_pixel_flipping_is_deletion_without_its_first_point(network, pictures, grey_probe, maps):
    """DEFECT: Quantus' curve begins after the first step; f(x), k = 0 of the curve in Samek et al. 2017, is missing."""
    theirs = np.array(
        of_quantus("PixelFlipping", Grey(network).eval(), pictures, maps, features_in_step=32, perturb_baseline=0.0)
    )
    assert theirs.shape == (6, 8)  # nine points are eight steps
    whole = grey_probe.logits.softmax(1).gather(1, grey_probe.targets[:, None]).numpy()
    curve = np.concatenate([whole, theirs], 1)
    ours = deletion(maps, grey_probe, steps=8, baseline="black")
    assert ours.numpy() == pytest.approx(np.trapezoid(curve, dx=1 / 8, axis=1), abs=1e-5)
    lacking = np.trapezoid(theirs, dx=1 / 8, axis=1)
    assert np.abs(ours.numpy() - lacking).max() > 0.05


def test_the_mean_of_pixel_flipping_drifts(network, pictures, grey_probe, maps):
    """DEFECT: the mean is taken anew of the image already changed; Samek et al. replace values by ones that stay.

    On a picture that is bright where it is relevant the last image is far from the mean of the first.
    """
    bright = pictures * 0 + (0.1 + 0.8 * maps[:, None])
    seen = []

    class Watched(Grey):
        def forward(self, pictures):
            seen.append(pictures.detach().clone())
            return super().forward(pictures)

    of_quantus("PixelFlipping", Watched(network).eval(), bright, maps, features_in_step=32, perturb_baseline="mean")
    last, mean = seen[-1], bright.mean((2, 3), keepdim=True)
    assert last.std((2, 3)).min() > 0.03  # not one colour
    assert ((last - mean).mean((2, 3)) < -0.05).all()
    probe = grey_probe.of(images=bright.expand(-1, 3, -1, -1))
    ends = (network(images.expand(-1, 3, 16, 16)).softmax(1).detach() for images in (bright, mean))
    expected = sum(scores.gather(1, probe.targets[:, None])[:, 0] for scores in ends) / 2
    assert torch.allclose(deletion(maps, probe, steps=1, baseline="mean"), expected, atol=1e-5)


def test_normalisation_over_the_call_changes_no_curve(network, pictures, maps):
    """`normalise=True` divides by the maximum over the call: a curve hangs on the order alone, and stays."""
    quantus = pytest.importorskip("quantus")
    scaled = maps * torch.tensor([1.0, 100, 1, 1, 0.01, 1]).view(6, 1, 1)
    options = {"features_in_step": 32, "perturb_baseline": 0.0, "disable_warnings": True}
    results = [
        quantus.PixelFlipping(normalise=normalise, **options)(
            Grey(network).eval(), pictures.numpy(), np.array(TARGETS), a_batch=scaled[:, None].numpy(), device="cpu"
        )
        for normalise in (False, True)
    ]
    assert np.allclose(*results)


@pytest.mark.parametrize("colour", [False, True])
def test_the_gap_is_that_of_region_perturbation(network, pictures, colours, colour, grey_probe, probe, maps):
    images, asked, model = (colours, probe, network) if colour else (pictures, grey_probe, Grey(network).eval())
    maps = maps.sqrt()  # no two tiles alike
    falls = {
        order: np.array(
            of_quantus(
                "RegionPerturbation",
                model,
                images,
                maps,
                patch_size=4,
                order=order,
                regions_evaluation=16,
                perturb_baseline=0.0,
            )
        )
        for order in ("morf", "lerf")
    }
    between = np.pad(falls["morf"] - falls["lerf"], ((0, 0), (1, 0)))
    theirs = np.trapezoid(between, dx=1 / 16, axis=1)
    ours = morf_lerf_gap(maps, asked, patch=4, steps=16, baseline="black")
    assert ours.numpy() == pytest.approx(theirs, abs=1e-4)
    assert np.abs(theirs).max() > 0.01


def test_road_of_quantus_fails_on_colour_images(network, colours, maps):
    """DEFECT: maps are spread over the colours and flattened; the indices then reach beyond the image's pixels."""
    with pytest.raises(IndexError):
        of_quantus("ROAD", network, colours, maps, percentages=[50], noise=0.0)


def test_road_of_quantus_scores_only_the_first_batch(network, pictures, grey_probe, maps):
    """DEFECT: of the list of batches only the first is averaged; Rong et al. report the accuracy over all images."""
    options = {"percentages": [50], "noise": 0.0}
    with torch.no_grad():
        found = Grey(network).eval()(pictures).argmax(1)
    found = (found + torch.tensor([0, 0, 0, 1, 1, 1])) % 4  # of which half are not the predicted class
    probe = Probe(grey_probe.classifier, grey_probe.images, found)
    hits = -road(maps, probe, order="morf", output="accuracy", shares="50", noise=0.0)
    order = hits.argsort(stable=True)  # those that fail first
    rows = pictures[order], maps[order], found[order].tolist()
    whole, first = (
        of_quantus("ROAD", Grey(network).eval(), rows[0], rows[1], rows[2], batch_size=size, **options)[50]
        for size in (6, 2)
    )
    assert hits[order].mean().item() == pytest.approx(whole)
    assert hits[order][:2].mean().item() == pytest.approx(first)
    assert whole != first


def test_irof_of_quantus_fails_on_colour_images(network, colours, maps):
    """DEFECT: the mask of the segments has one colour, and is asserted to have the image's shape."""
    with pytest.raises(AssertionError):
        of_quantus("IROF", network, colours, maps, return_aggregate=False)


def test_irof_is_that_of_quantus_up_to_its_first_point_and_the_number_of_segments(network, pictures, maps, monkeypatch):
    """DEFECT: L − ∫ from l = 1, so that images of more segments weigh more; Rieger & Hansen's curve is l = 0 … L.

    DEFECT: in company of an image of more segments the curve is led on to zero, and half a step of it counts.
    DEFECT: it asks for numpy.trapz, which numpy 2.4 has no more.
    """
    utils = pytest.importorskip("quantus.helpers.utils")
    monkeypatch.setattr(np, "trapz", np.trapezoid, raising=False)
    soft = nn.functional.interpolate(pictures[:, :, :3, :3], (16, 16), mode="bilinear")
    probe = Probe(Classifier(network), soft.expand(-1, 3, -1, -1))
    labels = [superpixels(image, 9) for image in probe.images]
    count = np.array([int(label.max()) + 1 for label in labels])

    def theirs(rows):
        given = iter(labels[rows])
        monkeypatch.setattr(utils, "get_superpixel_segments", lambda **_: next(given).numpy())
        parts = soft[rows], maps[rows], probe.targets[rows].tolist()
        options = {"return_aggregate": False, "perturb_baseline": 0.0}
        return np.array(of_quantus("IROF", Grey(network).eval(), *parts, **options))

    alone = np.concatenate([theirs(slice(i, i + 1)) for i in range(6)])
    bare, whole = (
        network(images).softmax(1).detach().gather(1, probe.targets[:, None])[:, 0].numpy()
        for images in (torch.zeros_like(probe.images), probe.images)
    )
    first = []
    for label, row, image, target in zip(labels, maps, probe.images, probe.targets):
        best = max(range(int(label.max()) + 1), key=lambda cell: row[label == cell].mean().item())
        first.append(network(image[None] * (label != best)).softmax(1)[0, target].item())
    step = (whole + np.array(first)) / 2 / whole  # the trapezoid from l = 0 to l = 1
    ours = irof(maps, probe, segments=9, baseline="black").numpy()
    assert ours * count == pytest.approx(alone - step, abs=1e-4)
    fewer = count < count.max()
    assert 0 < fewer.sum() < 6
    assert alone - theirs(slice(None)) == pytest.approx(np.where(fewer, bare / whole / 2, 0), abs=1e-4)
    assert (bare / whole / 2)[fewer].max() > 1e-3
