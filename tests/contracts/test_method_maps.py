"""Maps depend on the image, the class and the seed, and on nothing else."""

import pytest
import torch

import vexbench as vb
from vexbench import explaining
from vexbench.perturb.baselines import BASELINES
from vexbench.registry import METHODS

from .conftest import FEW


def close(left, right):
    """Equal to 1e-5 of each map's maximum."""
    return ((left - right).abs().amax((1, 2)) <= 1e-5 * right.abs().amax((1, 2))).all()


def test_shape_and_type(explain, classifier, images, targets, method):
    maps = explain(classifier, images, targets, method)
    assert maps.shape == (9, 24, 36)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
    assert not maps.requires_grad
    assert METHODS[method].signed or maps.min() >= 0


def test_batch_size_does_not_matter(explain, classifier, images, targets, method):
    expected = explain(classifier, images, targets, method, batch_size=64)
    assert close(explain(classifier, images, targets, method, batch_size=7), expected)
    assert close(explain(classifier, images[:2], targets[:2], method, batch_size=1), expected[:2])


def test_company_does_not_matter(explain, classifier, images, targets, method, monkeypatch):
    """An image's map is the same in a batch, alone, and where the images are explained in chunks."""
    expected = explain(classifier, images, targets, method)
    assert close(explain(classifier, images[3:4], targets[3:4], method), expected[3:4])
    monkeypatch.setattr(explaining, "CHUNK", 4)
    assert close(explain(classifier, images, targets, method), expected)


def test_order_does_not_matter(explain, classifier, images, targets, method):
    order = torch.tensor([4, 8, 0, 2, 6, 1, 3, 7, 5])
    expected = explain(classifier, images, targets, method)[order]
    assert close(explain(classifier, images[order], targets[order], method), expected)


def test_seed_repeats_to_the_bit(explain, classifier, images, targets, method):
    first = explain(classifier, images, targets, method, seed=3)
    torch.manual_seed(99)
    assert torch.equal(explain(classifier, images, targets, method, seed=3), first)


def test_copies_of_an_image_draw_what_the_image_draws(gap_network, images, targets, method):
    """Metrics of robustness would take another draw for a change of the map."""
    probe = vb.Probe(vb.Classifier(gap_network), images, targets)
    choice = METHODS[method].bind(**{name: value for name, value in FEW.items() if name in METHODS[method].parameters})
    try:
        maps, again = (explaining.maps_of(asked, choice) for asked in (probe, probe.of(images=images * (1 - 1e-6))))
    except vb.NotApplicable as refusal:
        pytest.skip(str(refusal))
    change = (again - maps).flatten(1).norm(dim=1) / maps.flatten(1).norm(dim=1)
    # of most images, since a unit may turn on by chance; the control is to be as unsteady as can be
    assert (change.median() > 0.5) if method == "random" else (change.nanmedian() < 0.01)


def test_predicted_classes_are_the_default(explain, classifier, images, method):
    predicted = classifier.logits(images).argmax(1)
    maps = explain(classifier, images, None, method)
    assert close(maps, explain(classifier, images, predicted, method))
    # a map that is the same everywhere would pass all other tests
    assert ((maps.amax((1, 2)) - maps.amin((1, 2))) > 0).float().mean() > 0.5


def test_no_images_give_no_maps(explain, classifier, images, method):
    assert explain(classifier, images[:0], [], method).shape == (0, 24, 36)


def test_several_methods_give_what_each_gives(classifier, images, targets):
    # those that take many passes share nothing, and are asked for elsewhere
    many = {"masks", "samples", "steps", "segments"}
    names = [name for name, entry in METHODS.items() if not entry.needs and not many & set(entry.parameters)]
    together = vb.explain(classifier, images[:2], targets[:2], names)
    assert list(together) == names
    for name in names:
        assert close(together[name], vb.explain(classifier, images[:2], targets[:2], name)), name


def test_what_is_asked_twice_is_computed_once(gap_network, images):
    classifier = vb.Classifier(gap_network)
    nine = vb.Choice.of("occlusion", patch=9)
    maps = vb.explain(classifier, images[:2], None, ["saliency", "saliency", nine, nine])
    assert list(maps) == ["saliency", "occlusion"]
    assert torch.equal(maps["occlusion"], vb.explain(classifier, images[:2], None, "occlusion", patch=9))


def test_a_choice_is_a_method(gap_network, images):
    classifier, nine = vb.Classifier(gap_network), vb.Choice.of("occlusion", patch=9)
    expected = vb.explain(classifier, images[:2], None, "occlusion", patch=9, stride=4)
    assert torch.equal(vb.explain(classifier, images[:2], None, nine, stride=4), expected)


def test_cam_is_refused_where_it_is_not_defined(inplace_network, functional_network, images, targets):
    """Behind the features there is a hidden layer in the one, a ReLU in the other."""
    for module in (inplace_network, functional_network):
        with pytest.raises(vb.NotApplicable, match="global average pooling and one linear layer"):
            vb.explain(vb.Classifier(module), images, targets, "cam")


def test_cam_methods_share_one_pass(gap_network, images, targets):
    probe = vb.Probe(vb.Classifier(gap_network), images, targets, batch_size=4)
    probe.classifier.layer(images)  # found once per classifier, not per probe
    for name in ("grad_cam", "hires_cam", "grad_cam_plus_plus", "cam"):
        explaining.maps_of(probe, METHODS[name].bind())
    count = len(images)
    assert (probe.passes.forward, probe.passes.backward, probe.passes.partial) == (count, 0, count)


def test_explaining_by_a_list_shares_passes(gap_network, images, targets):
    seen = []
    gap_network.register_forward_hook(lambda _module, inputs, _output: seen.append(len(inputs[0])))
    classifier = vb.Classifier(gap_network, target_layer="5", class_names="abcde")
    vb.explain(classifier, images, targets, ["grad_cam", "hires_cam", "grad_cam_plus_plus", "cam"])
    assert seen == [12]  # nine images, in fours


def test_networks_in_double_precision_are_explained(explain, network, images, targets, method):
    """Double precision has nothing to round away: ReLUs that flip aside, the maps of single precision are its maps."""
    single = explain(vb.Classifier(network), images, targets, method)
    double = explain(vb.Classifier(network.double()), images, targets, method)
    assert double.dtype == torch.float32
    same = (single - double).abs().amax((1, 2)) <= 1e-4 * single.abs().amax((1, 2))
    assert same.float().mean() > 0.5
    assert next(network.parameters()).dtype == torch.float64


@pytest.fixture
def default_double():
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


def test_the_default_precision_does_not_matter(explain, classifier, images, targets, method, request):
    expected = explain(classifier, images, targets, method)
    request.getfixturevalue("default_double")
    assert close(explain(classifier, images, targets, method), expected)


@pytest.mark.parametrize("baseline", BASELINES)
def test_nor_for_any_baseline(gap_network, images, targets, baseline, request):
    def explain():
        return vb.explain(vb.Classifier(gap_network), images, targets, "occlusion", baseline=baseline)

    expected = explain()
    request.getfixturevalue("default_double")
    assert close(explain(), expected)


def test_networks_in_bfloat16_are_explained(explain, network, images, targets, method):
    maps = explain(vb.Classifier(network.bfloat16()), images, targets, method)
    assert maps.dtype == torch.float32
    assert maps.isfinite().all()
