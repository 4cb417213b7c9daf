"""Every method against those of pytorch-grad-cam, torchcam, captum and zennit; see docs/peers.md.

Small images, few samples. What differs must differ still, and its reason must reproduce the library's map.
"""

from functools import cache
from pathlib import Path

import agreement
import agreement_cams
import agreement_perturb
import agreement_propagation
import agreement_table as table
import pytest
import torch
from torch import nn

import vexbench as vb

DOCUMENT = Path(__file__).parents[2] / "docs/peers.md"
GRADIENTS = (*agreement.PAIRS, *agreement_cams.PAIRS, *agreement_perturb.PAIRS)
PAIRS = (*GRADIENTS, *agreement_propagation.PAIRS)
NETWORKS = ("resnet18", "vgg11_bn", "densenet121")
SMALL = {"integrated_gradients", "occlusion", "lime", "kernel_shap", "var_grad", "smooth_grad_squared"}
"""On the small network only, since they hang on the network's scores and gradients alone."""

FORMULA = {
    ("grad_cam_plus_plus", "torchcam"),
    ("smooth_grad_cam_plus_plus", "torchcam"),
    ("integrated_gradients", "zennit"),
    ("smooth_grad", "zennit"),
    ("excitation_backprop", "zennit at the image"),
    ("deep_lift", "captum"),
    ("deep_lift", "captum from grey"),
}
"""Another formula, on any network."""

OVERWRITTEN = {
    *(
        (method, library)
        for method in ("grad_cam", "xgrad_cam", "finer_cam")
        for library in ("pytorch-grad-cam", "torchcam")
    )
}
"""Their record of the target layer is overwritten by an in-place ReLU, which densenet121 has."""

BLIND = {
    *((method, "zennit") for method in agreement_propagation.LRP),
    ("excitation_backprop", "zennit"),
    ("lrp_epsilon", "captum"),
}
"""They do not see what is no module: the average of the demo, and densenet121 they cannot take at all."""

EITHER = {
    *((method, "pytorch-grad-cam") for method in ("eigen_cam", "eigen_grad_cam")),  # the sign is left to chance
    *((method, "pytorch-grad-cam") for method in ("grad_cam_plus_plus", "full_grad")),  # constants, near the bound
}
"""The library's map is ours for one image, and not for another."""

DIFFERS = {
    **{key: {*NETWORKS, "demo"} for key in FORMULA},
    **{key: {"densenet121"} for key in OVERWRITTEN},
    **{key: {"densenet121", "demo"} for key in BLIND},
    ("deep_lift_shap", "captum"): {"demo"},
}
"""Where a library fails or its map is not ours, until the reason is put in: on modules, or by its formula."""


def key(pair):
    return pair.method, f"{pair.library} {pair.called}".strip()


def named(case):
    return case if isinstance(case, str) else "-".join(key(case)).replace(" ", "_")


def installed(pair):
    module = table.LIBRARIES[pair.library]
    pytest.importorskip(module, reason=f"{pair.library} is not installed", exc_type=ImportError)


class Plain(nn.Module):
    """The demo's network without types, which the tests check and a trace cannot keep."""

    def __init__(self, network):
        super().__init__()
        self.features, self.classifier = network.features, network.classifier

    def forward(self, images):
        return self.classifier(self.features(images).mean((2, 3)))


@cache
def case_of(network, side, double=False):
    """Random weights, and one image; a head of VGG's that is quick to compute."""
    if network == "demo":
        demo = vb.demo_classifier()
        classifier = vb.Classifier(Plain(demo.module).eval(), mean=demo.mean, std=demo.std)
    else:
        classifier = table.random_weights(network, quick=True)
    return table.case_of(classifier, table.blobs(2 if network == "demo" else 1, side), double)


def checked(which, pair, case, **changes):
    """Our map is the library's, as it is or, where that is listed as another one, once the reason is put in."""
    found = table.compared(pair, case, **changes)
    plain, reached = found["as it is"], [*found.values()][-1]
    # which of equal places in a window is the largest is a matter of rounding
    assert reached >= (0.99 if pair.method == "deep_lift" else pair.least), found
    differs = isinstance(plain, Exception) or plain < pair.least
    assert key(pair) in EITHER or differs == (which in DIFFERS.get(key(pair), ())), found


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("which", NETWORKS)
@pytest.mark.parametrize("pair", [pair for pair in GRADIENTS if pair.method not in SMALL], ids=named)
def test_on_torchvisions_networks(which, pair):
    installed(pair)
    if pair.method == "cam" and which != "resnet18":
        with pytest.raises(vb.NotApplicable, match="global average pooling"):
            vb.explain(*case_of(which, 64), "cam")
        return
    checked(which, pair, case_of(which, 64), samples=2)


PROPAGATION = {
    "resnet18": {("lrp_epsilon_gamma_box", "zennit"), ("lrp_alpha2_beta1", "zennit"), ("deep_lift", "captum")},
    "vgg11_bn": {("lrp_epsilon", "zennit"), ("lrp_epsilon_plus_flat", "zennit"), ("lrp_epsilon", "captum")},
    "densenet121": {
        ("lrp_epsilon", "zennit"),
        ("lrp_epsilon", "captum"),
        ("excitation_backprop", "zennit at the image"),
        ("deconvnet", "zennit"),
    },
}
"""What takes seconds is asked of one network or two, each rule of the demo."""


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("pair", "which"),
    [(pair, which) for which in NETWORKS for pair in agreement_propagation.PAIRS if key(pair) in PROPAGATION[which]],
    ids=named,
)
def test_propagation_on_torchvisions_networks(which, pair):
    installed(pair)
    checked(which, pair, case_of(which, 40, double=True))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pair", PAIRS, ids=named)
def test_on_the_demo(pair):
    installed(pair)
    quick = {"patch": 16, "stride": 16} if pair.library == "zennit" else {"patch": 16, "stride": 8}
    if pair.called == "FeatureAblation" or pair.formula or (pair.method == "kernel_shap" and "exact" in pair.called):
        quick = {}
    case = case_of("demo", 48, double=pair in agreement_propagation.PAIRS)
    checked("demo", pair, case, **quick)


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pair", agreement_cams.MASKING, ids=named)
def test_many_passes(pair):
    """The demo has 128 channels, a pass each."""
    installed(pair)
    found = table.compared(pair, case_of("demo", 48))
    assert [*found.values()][-1] >= pair.least, found
    assert pair.method != "is_cam" or found["as it is"] < pair.least


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("pair", agreement_perturb.SAMPLED, ids=named)
def test_draws_of_their_own(pair):
    installed(pair)
    checked("demo", pair, case_of("demo", 48), samples=400, segments=9)


def test_modules_are_the_same_network():
    for which in (*NETWORKS, "demo"):
        case = case_of(which, 64)
        for fused in (False, True):
            torch.testing.assert_close(
                table.as_modules(case, fused).classifier.logits(case.images),
                case.classifier.logits(case.images),
                atol=1e-4,
                rtol=1e-3,
            )


def test_a_functional_relu_is_what_the_libraries_miss_on_densenet121():
    """Guided backprop and DeconvNet: the ReLU behind densenet's features is a function, which hooks do not see."""
    for pair in (*agreement_cams.PAIRS, *agreement_perturb.PAIRS):
        if pair.method in ("guided_backprop", "deconvnet") and pair.library == "captum":
            installed(pair)
            found = table.compared(pair, table.in_double(case_of("densenet121", 64)))
            assert found["as it is"] < 1 - 1e-6
            assert found["as modules"] > 1 - 1e-12


def test_cam_on_densenet121_is_that_of_its_rectified_features():
    """Ours refuses, since CAM is not exact on what a ReLU still changes; given the ReLU as target layer both agree.

    torchcam gets there without being told, since the in-place ReLU overwrites what it has recorded.
    """
    pair = agreement_cams.PAIRS[0]
    installed(pair)
    case = case_of("densenet121", 64)
    network = table.as_modules(case).classifier.module
    last = [name for name, part in network.named_modules() if isinstance(part, nn.ReLU)][-1]
    classifier = vb.Classifier(network, mean=case.classifier.mean, std=case.classifier.std, target_layer=last)
    rectified = case._replace(classifier=classifier)
    for other in (case, rectified):
        assert table.worst(vb.explain(*rectified, "cam"), pair.maps(*other)) >= pair.least


def test_expected_gradients_are_equal_but_for_the_rounding_of_points():
    """Points on the way, computed in another order, are other float32 numbers, and switch other ReLUs."""
    pair = agreement_perturb.PAIRS[0]
    installed(pair)
    case = table.in_double(case_of("densenet121", 64))
    theirs = pair.maps(*case, **pair.parameters)
    assert table.worst(pair.formula(vb.Probe(*case), theirs), theirs) > 1 - 1e-12


@pytest.fixture(scope="module")
def resnet():
    return table.case_of(table.resnet18(), table.blobs(2, 96))


def test_what_decides_grad_cam_plus_plus(resnet):
    """The same function with features in another unit: the paper's map stays, one with a constant beside g² changes.

    Where that constant outweighs g², as it does at 7 × 7 features and more, torchcam's map is what comes out.
    """
    classifier, images, targets = resnet
    other = agreement.rescaled(classifier, 100)
    torch.testing.assert_close(other.logits(images), classifier.logits(images), atol=1e-5, rtol=1e-4)
    maps = [vb.explain(network, images, targets, "grad_cam_plus_plus") for network in (classifier, other)]
    assert (maps[0] - maps[1]).abs().max() <= 1e-3 * maps[0].max()
    pair = next(pair for pair in agreement.PAIRS if key(pair) == ("grad_cam_plus_plus", "pytorch-grad-cam"))
    installed(pair)
    theirs = [pair.maps(network, images, targets) for network in (classifier, other)]
    assert table.correlations(*theirs).min() < 0.99
    cubed = agreement.plus_plus(vb.Probe(*resnet), agreement.cubed)
    assert table.correlations(theirs[1], cubed).min() > 0.9999


def test_grad_cam_plus_plus_is_the_papers(resnet):
    papers = agreement.plus_plus(vb.Probe(*resnet), agreement.with_epsilon(0))
    ours = vb.explain(*resnet, "grad_cam_plus_plus")
    assert (ours - papers).abs().max() <= 1e-5 * papers.max()


def test_every_comparison_is_in_the_documentation():
    lines = DOCUMENT.read_text(encoding="utf-8").splitlines()
    for pair in (*PAIRS, *agreement_cams.MASKING, *agreement_perturb.SAMPLED):
        assert any(line.startswith(f"| {pair.label} |") for line in lines), pair.label
