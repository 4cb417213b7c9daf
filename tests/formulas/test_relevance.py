"""Relevance and excitation against matrices, and what they keep."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torchvision import models

import vexbench as vb
from vexbench.models.networks import AttentionCNN

CLASSES = "abcde"
RULES = ("lrp_epsilon", "lrp_epsilon_plus_flat", "lrp_epsilon_gamma_box", "lrp_alpha2_beta1")


class Tiny(nn.Module):
    """Convolution, ReLU, convolution, ReLU, linear, in double precision, on 6 × 6 pixels: small enough for matrices."""

    def __init__(self, bias: bool = True) -> None:
        super().__init__()
        self.first = nn.Conv2d(3, 4, 3, padding=1, stride=2, bias=bias)
        self.second = nn.Conv2d(4, 5, 2, bias=bias)
        self.head = nn.Linear(5 * 2 * 2, 5, bias=bias)
        for weight in self.parameters():
            nn.init.normal_(weight, std=0.5)

    def forward(self, images):
        return self.head(functional.relu(self.second(self.first(images).relu())).flatten(1))


@pytest.fixture
def tiny():
    with torch.random.fork_rng():
        torch.manual_seed(3)
        return Tiny().double().eval()


@pytest.fixture
def image():
    return torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(4))


def matrices(network, image):
    """Each layer as (inputs, weights (outputs × inputs), biases), for one image, all flat."""
    layers, values = [], image.double()
    for part in (network.first, network.second, network.head):
        if isinstance(part, nn.Linear):
            values = values.flatten(1)
        zero = torch.zeros_like(values)
        bias = part(zero).flatten()
        jacobian = torch.autograd.functional.jacobian(lambda v, part=part: part(v).flatten(), zero)
        layers.append((values.flatten(), jacobian.reshape(len(bias), -1), bias))
        values = part(values).relu()
    return layers


def pos(values):
    return values.clamp(min=0)


def neg(values):
    return values.clamp(max=0)


def shared(parts, bias, relevance):
    """Outputs × inputs parts of each output; 1e-6 away from zero."""
    total = parts.sum(1) + bias
    return parts.T @ (relevance / (total + 1e-6 * torch.where(total < 0, -1.0, 1.0)))


def by_matrix(rule, place, values, weight, bias, relevance):
    """One layer of a composite: `place` 0 is the first convolution, 1 the second, 2 the linear layer."""
    parts = weight * values
    if rule == "lrp_epsilon" or place == 2:
        return shared(parts, bias, relevance)
    if place == 0 and rule == "lrp_epsilon_plus_flat":
        inside = (weight != 0).double()  # weights of a window, drawn from a normal distribution, are not zero
        return inside.T @ (relevance / inside.sum(1))
    if place == 0 and rule == "lrp_epsilon_gamma_box":
        # the image is between 0 and 1, which is all that the range tells: l = 0, h = 1
        return shared(parts - neg(weight), bias - pos(bias) - neg(bias), relevance)
    if rule == "lrp_epsilon_plus_flat":
        return shared(pos(parts), pos(bias), relevance)
    if rule == "lrp_alpha2_beta1":
        return 2 * shared(pos(parts), pos(bias), relevance) - shared(neg(parts), neg(bias), relevance)
    up = parts.sum(1) + bias > 0
    rising = shared(parts + 0.25 * pos(parts), bias + 0.25 * pos(bias), relevance * up)
    return rising + shared(parts + 0.25 * neg(parts), bias + 0.25 * neg(bias), relevance * ~up)


@pytest.mark.parametrize("rule", RULES)
def test_relevance_is_what_matrices_give(tiny, image, rule):
    logits = tiny(image.double())
    relevance = functional.one_hot(torch.tensor(2), 5) * logits[0]
    for place, (values, weight, bias) in reversed(list(enumerate(matrices(tiny, image)))):
        relevance = by_matrix(rule, place, values, weight, bias, relevance)
    expected = relevance.view(3, 6, 6).sum(0)[None].float()
    maps = vb.explain(vb.Classifier(tiny), image, [2], rule)
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-5 * float(maps.abs().max()))


def test_excitation_is_what_matrices_give(tiny, image):
    winners = functional.one_hot(torch.tensor(2), 5).double()
    for values, weight, _ in reversed(matrices(tiny, image)):
        parts = pos(weight) * pos(values)
        winners = parts.T @ (winners / parts.sum(1).where(parts.sum(1) != 0, 1))
    expected = winners.view(3, 6, 6).sum(0)[None].float()
    maps = vb.explain(vb.Classifier(tiny), image, [2], "excitation_backprop", layer="input")
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-6)


def test_contrast_is_what_matrices_give(tiny, image):
    seed, layers = functional.one_hot(torch.tensor(2), 5).double(), matrices(tiny, image)
    signals = []
    for sign in (1, -1):
        winners = seed
        for values, weight, _ in reversed(layers):
            parts = pos(sign * weight if weight is layers[-1][1] else weight) * pos(values)
            winners = parts.T @ (winners / parts.sum(1).where(parts.sum(1) != 0, 1))
        signals.append(winners)
    expected = (signals[0] - signals[1]).view(3, 6, 6).sum(0)[None].float()
    maps = vb.explain(vb.Classifier(tiny), image, [2], "contrastive_excitation_backprop", layer="input")
    torch.testing.assert_close(maps, expected.detach(), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("rule", RULES)
def test_relevance_is_kept_where_there_is_no_bias(image, rule):
    """The logit is shared out to the last, stabilisers aside."""
    torch.manual_seed(3)
    classifier = vb.Classifier(Tiny(bias=False).double().eval())
    total = vb.explain(classifier, image, [1], rule).sum()
    torch.testing.assert_close(total, classifier.logits(image)[0, 1].detach(), rtol=1e-3, atol=0)


class Merged(nn.Module):
    """Convolution and batch norm, apart or as one."""

    def __init__(self, norm: nn.Module, convolution: nn.Conv2d) -> None:
        super().__init__()
        self.convolution, self.norm, self.head = convolution, norm, nn.Linear(4, 5)

    def forward(self, images):
        return self.head(torch.relu_(self.norm(self.convolution(images))).mean((2, 3)))


@pytest.mark.parametrize("rule", [*RULES, "excitation_backprop", "contrastive_excitation_backprop"])
def test_a_batch_norm_belongs_to_its_convolution(images, rule):
    """Also where it turns the sign of a weight."""
    torch.manual_seed(5)
    norm = nn.BatchNorm2d(4)
    for values, low in ((norm.weight, -1.0), (norm.bias, -1.0), (norm.running_mean, -1.0), (norm.running_var, 0.5)):
        nn.init.uniform_(values, low, 1.0)
    apart = Merged(norm, nn.Conv2d(3, 4, 3)).eval()
    scale = norm.weight / (norm.running_var + norm.eps).sqrt()
    one = nn.Conv2d(3, 4, 3)
    with torch.no_grad():
        one.weight.copy_(apart.convolution.weight * scale[:, None, None, None])
        one.bias.copy_((apart.convolution.bias - norm.running_mean) * scale + norm.bias)
    together = Merged(nn.Identity(), one).eval()
    together.head.load_state_dict(apart.head.state_dict())
    options = {"layer": "input"} if "excitation" in rule else {}
    maps = [
        vb.explain(vb.Classifier(network.double()), images, [0] * 9, rule, **options) for network in (apart, together)
    ]
    torch.testing.assert_close(*maps, rtol=1e-4, atol=1e-5 * float(maps[0].abs().max()))


@pytest.mark.parametrize(
    ("name", "layer"),
    [
        ("vgg11_bn", "features.3"),
        ("resnet18", "maxpool"),
        ("densenet121", "features.pool0"),
        ("googlenet", "maxpool1"),
    ],
)
def test_winning_probabilities_sum_to_one(name, layer):
    """From the class down to the first features, whatever the graph."""
    torch.manual_seed(0)
    options = {"init_weights": False, "aux_logits": False} if name == "googlenet" else {}
    network = models.get_model(name, num_classes=5, **options)
    if name == "vgg11_bn":  # its own head has a hundred million weights
        network.classifier = nn.Sequential(nn.Linear(512 * 49, 16), nn.ReLU(inplace=True), nn.Linear(16, 5))
    classifier = vb.Classifier(network.eval(), class_names=CLASSES)
    images = torch.rand(2, 3, 64, 64)
    for place in (layer, ""):
        maps = vb.methods()["excitation_backprop"].function(vb.Probe(classifier, images, [0, 3]), layer=place)
        torch.testing.assert_close(maps.sum((1, 2)), torch.ones(2), rtol=0, atol=1e-5)
        assert maps.min() >= 0
        contrast = vb.methods()["contrastive_excitation_backprop"].function(
            vb.Probe(classifier, images, [0, 3]), layer=place
        )
        torch.testing.assert_close(contrast.sum((1, 2)), torch.zeros(2), rtol=0, atol=1e-5)
        assert contrast.min() < 0 < contrast.max()


class Odd(nn.Module):
    """One operation too many, in front of a linear layer."""

    def __init__(self, operation) -> None:
        super().__init__()
        self.operation, self.head = operation, nn.Linear(3 * 4 * 4, 5)

    def forward(self, images):
        return self.head(self.operation(images).flatten(1))


@pytest.mark.parametrize(
    ("operation", "named"),
    [
        (lambda x: functional.layer_norm(x, x.shape[1:]), "layer_norm"),
        (lambda x: x * x.flip(2), "a product of features"),
        (lambda x: x @ x, "a product of features"),
        (lambda x: x.exp(), "exp"),
        (lambda x: x.clone().sqrt_(), "sqrt"),
        (lambda x: 1 - x, "rsub"),
    ],
)
def test_operations_without_a_rule_are_named(operation, named):
    classifier = vb.Classifier(Odd(operation), class_names=CLASSES)
    with pytest.raises(vb.NotApplicable, match=f"lrp_epsilon has no rule for {named}"):
        vb.explain(classifier, torch.rand(1, 3, 4, 4), [0], "lrp_epsilon")


def test_operations_that_do_not_matter_need_no_rule():
    """What only decides where attention looks is taken as given."""
    operation = Odd(lambda x: (x.exp() @ x.exp()).softmax(-1) @ x)
    maps = vb.explain(vb.Classifier(operation, class_names=CLASSES), torch.rand(1, 3, 4, 4), [0], "lrp_epsilon")
    assert maps.abs().max() > 0


def test_excitation_refuses_activations_below_zero():
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.SiLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 5))
    with pytest.raises(vb.NotApplicable, match="excitation_backprop has no rule for silu"):
        vb.explain(vb.Classifier(network), torch.rand(1, 3, 8, 8), [0], "excitation_backprop")


@pytest.fixture
def attentive():
    torch.manual_seed(6)
    network = AttentionCNN(5, width=4).eval()
    nn.init.constant_(network.attention.gamma, 0.5)
    return network


def test_even_attention_gives_every_place_the_mean(attentive, images):
    for part in (attentive.attention.key, attentive.attention.query):
        nn.init.zeros_(part.weight)
        nn.init.zeros_(part.bias)
    probe = vb.Probe(vb.Classifier(attentive, target_layer="attention"), images[:, :, :24, :24], [0] * 9)
    guided, plain = (vb.methods()[name].function(probe) for name in ("sag_cam", "grad_cam"))
    torch.testing.assert_close(guided, plain.mean((1, 2), keepdim=True).expand_as(plain))
    looks = vb.methods()["attention_map"].function(probe)
    torch.testing.assert_close(looks, torch.full_like(looks, 1 / 9))


def test_attention_is_the_blocks_own(attentive, images):
    """Places that nobody looks at lose their evidence; the map is what the places looked at have."""
    network, images = attentive.double(), images[:, :, :24, :24]
    probe = vb.Probe(vb.Classifier(network, target_layer="attention"), images, [0] * 9)
    with torch.no_grad():
        affinity = network.attention.affinity(network.features(probe.classifier.normalise(images).double()))
    plain = vb.methods()["grad_cam"].function(probe)
    expected = torch.einsum("nji,ni->nj", affinity.float(), plain.flatten(1)).view_as(plain)
    torch.testing.assert_close(vb.methods()["sag_cam"].function(probe), expected)
    looks = vb.methods()["attention_map"].function(probe)
    torch.testing.assert_close(looks.sum((1, 2)), torch.ones(9))
    torch.testing.assert_close(looks.flatten(1), affinity.mean(1).float())


def test_without_attention_alike_features_share_evidence(gap_network, images):
    """Two halves of the image with features at right angles do not mix."""
    probe = vb.Probe(vb.Classifier(gap_network, target_layer="5"), images, [0] * 9)
    activations, _ = probe.trace
    places = functional.normalize(activations.flatten(2), dim=1)
    affinity = torch.einsum("nci,ncj->nij", places, places).clamp(min=0)
    affinity = affinity / affinity.sum(2, keepdim=True).clamp(min=1e-12)
    plain = vb.methods()["grad_cam"].function(probe)
    expected = torch.einsum("nij,nj->ni", affinity, plain.flatten(1)).view_as(plain)
    torch.testing.assert_close(vb.methods()["sag_cam"].function(probe), expected)
