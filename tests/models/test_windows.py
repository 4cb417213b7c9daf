"""Folded graphs and windows give the logits that the whole network gives."""

from itertools import product

import pytest
import timm
import timm.layers as timm_layers
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

import vexbench as vb
from vexbench.models.graph import Rectified, traced
from vexbench.models.patches import logits_patched
from vexbench.models.windows import Sliding, Span, Windows, patched
from vexbench.models.zoo import build


def settled(module):
    """Batch norms whose statistics are not those of a fresh network, where folding would change nothing."""
    draw = torch.Generator().manual_seed(0)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(0.1 * torch.randn(part.num_features, generator=draw))
            part.running_var.copy_(0.5 + torch.rand(part.num_features, generator=draw))
    return module.eval()


def named(name):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        if name == "plain_cnn":
            return settled(build("plain_cnn", 6))
        return settled(timm.create_model(name) if name.startswith("tf_") else models.get_model(name))


class Branches(nn.Module):
    """What the graphs of the zoo have, in small: skips, joins, pooling, functions, a gate over the whole image."""

    def __init__(self, gated=False):
        super().__init__()
        self.first = nn.Conv2d(3, 8, 5, stride=2, padding=2, bias=False)
        self.norm = nn.BatchNorm2d(8)
        self.act = nn.ReLU(inplace=True)
        self.pool = nn.MaxPool2d(3, 2, 1)
        self.wide = nn.Conv2d(8, 8, 3, padding=2, dilation=2, groups=2)
        self.side = nn.Conv2d(8, 4, 1)
        self.last = nn.Conv2d(12, 6, 3, padding=1)
        self.gated = gated

    def forward(self, images):
        features = self.pool(self.act(self.norm(self.first(images))))
        features = features + functional.silu(self.wide(features))
        features = torch.cat([self.side(features), features], 1)
        if self.gated:
            features = features * features.mean((2, 3), keepdim=True).sigmoid()
        return torch.flatten(functional.relu(self.last(features)).mean((2, 3)), 1)


def whole(classifier, images, hidden, places, patch):
    rows = []
    for top, left in places:
        changed = images.clone()
        changed[:, :, top : top + patch, left : left + patch] = hidden[:, :, top : top + patch, left : left + patch]
        rows.append(classifier.logits(changed))
    return torch.cat(rows).detach()


@pytest.mark.parametrize("name", ["plain_cnn", "resnet18", "mobilenet_v3_small", "tf_efficientnet_lite0"])
def test_a_folded_graph_gives_the_network_s_logits(name):
    network = named(name)
    graph = traced(network)
    assert not any(isinstance(part, nn.BatchNorm2d) for part in graph.modules())
    assert functional.batch_norm not in {node.target for node in graph.graph.nodes}
    images = torch.rand(4, 3, 64, 64)
    with torch.no_grad():
        expected = network(images)
        assert (graph(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


@pytest.mark.parametrize("gated", [False, True])
def test_windows_give_the_logits_of_the_whole_image(gated):
    torch.manual_seed(0)
    network = settled(Branches(gated))
    images, hidden = torch.rand(3, 3, 45, 52), torch.rand(3, 3, 45, 52)
    places = [*product(range(0, 45, 6), range(0, 52, 7)), (1, 3), (44, 51), (39, 0)]
    expected = whole(vb.Classifier(network), images, hidden, places, 7)
    with torch.no_grad():
        rows = torch.cat(list(patched(Windows(traced(network), images), images, hidden, places, 7, 5)))
    assert (rows - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_windows_stay_windows_until_they_cover_most_of_the_features(monkeypatch):
    torch.manual_seed(0)
    network = settled(Branches())
    graph = traced(network)
    seen, slid = {}, Windows._slid

    def watched(self, slides, node, before, which):
        seen[node.name] = window = slid(self, slides, node, before, which)
        return window

    monkeypatch.setattr(Windows, "_slid", watched)
    with torch.no_grad():
        windows = Windows(graph, torch.rand(2, 3, 96, 96))
        windows.logits(torch.tensor([0, 1]), torch.rand(2, 3, 5, 5), Span((8, 40), 5), Span((16, 0), 5))
    # 96 pixels are 48 after the first convolution and 24 after pooling
    assert [seen[name].values.shape[2] for name in ("first", "pool", "wide")] == [5, 4, 8]


def test_which_outputs_a_window_reaches():
    conv = Sliding(kernel=3, stride=1, padding=1, dilation=1)
    assert conv.reached(Span((5,), 2), 20) == Span((4,), 4)
    assert conv.read(Span((4,), 4)) == Span((3,), 6)
    strided = Sliding(kernel=7, stride=2, padding=3, dilation=1)
    brute = [place for place in range(10) if set(range(2 * place - 3, 2 * place + 4)) & {7, 8}]
    assert strided.reached(Span((7,), 2), 10) == Span((brute[0],), len(brute))
    assert strided.reached(Span((0, 18), 2), 10) == Span((0, 7), 3)


@pytest.mark.parametrize("name", ["plain_cnn", "resnet18", "vgg11_bn", "mobilenet_v3_small", "tf_efficientnet_lite0"])
def test_windowed_occlusion_is_occlusion(name):
    images = torch.rand(2, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    classifier = vb.Classifier(named(name))
    fast = vb.explain(classifier, images, [1, 2], "occlusion", stride=15)
    assert classifier.graph(images) is not None
    classifier.folding = False
    plain = vb.explain(classifier, images, [1, 2], "occlusion", stride=15)
    logits = classifier.logits(images).abs().max()
    assert (fast - plain).abs().max() <= 1e-5 * logits


def multiply_in_place(network):
    with torch.no_grad():
        network.last.weight.mul_(2)


def through_data(network):
    network.last.weight.data = network.last.weight.data.flip(0)


def another_statistic(network):
    network.norm.running_var.mul_(4)


def another_module(network):
    network.act = nn.Tanh()


def another_attribute(network):
    network.gated = True


def a_hook(network):
    network.last.register_forward_hook(lambda _part, _given, output: 0 * output)


@pytest.mark.parametrize(
    "change", [multiply_in_place, through_data, another_statistic, another_module, another_attribute, a_hook]
)
def test_a_network_that_changes_is_scored_as_it_is_now(change):
    torch.manual_seed(0)
    network = settled(Branches())
    classifier, images = vb.Classifier(network), torch.rand(2, 3, 32, 32)
    before = vb.Probe(classifier, images, [0, 0]).scores([images])
    change(network)
    after = vb.Probe(classifier, images, [0, 0]).scores([images])[:, 0]
    assert (after - classifier.logits(images)[:, 0]).abs().max() < 1e-5
    assert (after - before[:, 0]).abs().max() > 1e-4


def test_what_cannot_be_followed_goes_the_plain_way():
    class Depends(Branches):
        def forward(self, images):
            return super().forward(images if images.mean() > 0.5 else 1 - images)

    images = torch.rand(2, 3, 32, 32)
    classifier = vb.Classifier(settled(Depends()))
    assert classifier.graph(images) is None
    classifier = vb.Classifier(settled(Branches()))
    classifier.module.act.register_forward_hook(lambda *_: None)
    assert classifier.graph(images) is None

    class Sized(Branches):
        """Right for the size that it was traced with only, as a graph."""

        def forward(self, images):
            return super().forward(images) + functional.interpolate(images, images.shape[2] // 2).mean()

    sized = vb.Classifier(settled(Sized()))
    assert vb.explain(sized, images, [0, 1], "occlusion").isfinite().all()


def rectified(graph):
    return [name for name, part in graph.named_modules() if isinstance(part, Rectified)]


def test_a_convolution_takes_the_relu_that_alone_reads_it_into_its_step():
    torch.manual_seed(0)

    class Read(Branches):
        """The first convolution's features are read twice."""

        def forward(self, images):
            features = self.norm(self.first(images))
            return self.last(torch.cat([self.act(features), features[:, :4]], 1)).relu().mean((2, 3))

    images = torch.rand(4, 3, 33, 40)
    for network, names in ((settled(Branches()), ["first", "last"]), (settled(Read()), ["last"])):
        graph = traced(network)
        assert rectified(graph) == names
        with torch.no_grad():
            expected = network(images)
            assert (graph(images) - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_an_activation_of_another_kind_is_no_relu_for_its_name():
    network = nn.Sequential()
    network.add_module("conv", nn.Conv2d(3, 4, 3))
    network.add_module("relu", nn.LeakyReLU())
    assert rectified(traced(network)) == []


def test_timm_s_norms_fold_and_windows_slide_over_its_padding():
    torch.manual_seed(0)
    network = settled(
        nn.Sequential(
            timm_layers.Conv2dSame(3, 8, 5, stride=2),
            timm_layers.BatchNormAct2d(8, act_layer=nn.ReLU6),
            nn.Conv2d(8, 6, 3, padding=1, bias=False),
            timm_layers.BatchNormAct2d(6, act_layer=nn.ReLU6),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
    )
    with torch.no_grad():
        network[3].weight.mul_(30)  # so that six is passed
    graph = traced(network)
    assert rectified(graph) == ["2"]
    images, hidden = torch.rand(3, 3, 45, 52), torch.rand(3, 3, 45, 52)
    places = [*product(range(0, 45, 6), range(0, 52, 7)), (1, 3), (44, 51)]
    with torch.no_grad():
        assert network[:4](images).max() == 6
        windows = Windows(graph, images)
        rows = torch.cat(list(patched(windows, images, hidden, places, 7, 5)))
    assert windows.share < 0.5
    expected = whole(vb.Classifier(network), images, hidden, places, 7)
    assert (rows - expected).abs().max() <= 1e-5 * expected.abs().max()


def test_scores_in_bf16_are_near_and_gradients_are_those_of_fp32():
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    network = named("plain_cnn")
    exact, coarse = vb.Classifier(network), vb.Classifier(network, precision="bf16")
    ours, theirs = (vb.Probe(classifier, images, [0, 1, 2, 3]) for classifier in (coarse, exact))
    apart = (ours.scores([images]) - theirs.scores([images])).abs().max() / theirs.logits.abs().max()
    assert 0 < apart < 0.02
    assert torch.equal(ours.logits, theirs.logits)
    assert all(map(torch.equal, ours.input_gradients([images]), theirs.input_gradients([images])))
    assert coarse.digest != exact.digest
    places = [(top, left) for top in range(0, 60, 6) for left in range(0, 60, 6)]
    patches = (ours.scores_patched(places, 7, 0 * images), theirs.scores_patched(places, 7, 0 * images))
    assert 0 < (patches[0] - patches[1]).abs().max() / theirs.logits.abs().max() < 0.02


class Steadied(nn.Module):
    """Averages in float32, whatever its features are in, as networks for half precision do."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), nn.Linear(8, 5)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.head(self.body(images).float().mean((2, 3)))


def test_a_network_that_takes_no_bf16_is_scored_in_fp32():
    images, network = torch.rand(4, 3, 32, 32), Steadied()
    exact, coarse = (vb.Probe(vb.Classifier(network, precision=kind), images, [0] * 4) for kind in ("fp32", "bf16"))
    assert torch.equal(coarse.scores([images]), exact.scores([images]))
    places = [(top, 8) for top in range(0, 24, 4)]
    found, expected = (probe.scores_patched(places, 7, 0 * images) for probe in (coarse, exact))
    assert torch.equal(found, expected)


def test_a_precision_that_does_not_exist_is_refused():
    with pytest.raises(vb.VexbenchError, match="fp16"):
        vb.Classifier(named("plain_cnn"), precision="fp16")


def test_windows_that_cover_nearly_all_of_the_features_are_left():
    classifier = vb.Classifier(named("mobilenet_v3_small"))
    images = torch.rand(4, 3, 64, 64, generator=torch.Generator().manual_seed(3))
    graph = classifier.graph(images)
    places = [(top, left) for top in range(0, 50, 10) for left in range(0, 50, 10)]
    assert graph is not None
    assert logits_patched(graph, images, 0 * images, places, 14, 4) is None
    assert graph.wide == {(images.shape[1:], 14)}
    images = torch.rand(4, 3, 128, 128, generator=torch.Generator().manual_seed(3))
    graph = vb.Classifier(named("plain_cnn")).graph(images)
    assert graph is not None
    assert logits_patched(graph, images, 0 * images, places, 4, 4) is not None
    assert logits_patched(graph, images, 0 * images, places[:2], 4, 4) is None  # whole images are asked of two anyway
    assert not graph.wide
