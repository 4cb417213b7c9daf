"""How far propagation agrees with zennit and captum, and zennit's other methods with ours; in double precision.

    python benchmarks/agreement_propagation.py

In double precision, since small denominators magnify rounding. A table as agreement.py prints it; on modules batch norms
are fused into the convolutions in front of them, which is what zennit's canonisers do for the networks that they know.
"""

import operator
from collections.abc import Callable
from copy import deepcopy
from dataclasses import replace
from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from agreement_table import Case, Normalised, Pair, as_modules, asked, captum, cases, print_table, quiet
from torch import Tensor, fx, nn
from torch.nn import functional

import vexbench as vb
from vexbench import differences, relevance
from vexbench.methods.attention import POSITIVE
from vexbench.methods.propagation import PLAIN, alpha_beta
from vexbench.models.base import Classifier
from vexbench.perturb.noise import gaussian
from vexbench.perturb.references import references
from vexbench.relevance import Linear, Rules, handing_down


def canonisers(network: nn.Module) -> list[Any]:
    """What merges batch norms: zennit has one for each kind of network, and none for graphs, whose are merged."""
    from zennit import canonizers, torchvision

    if isinstance(network, fx.GraphModule):
        return []
    known = {"VGG": torchvision.VGGCanonizer, "ResNet": torchvision.ResNetCanonizer}
    return [known.get(type(network).__name__, canonizers.SequentialMergeBatchNorm)()]


def composite(kind: str, classifier: Classifier, **options: Any) -> Any:
    """A composite of zennit's; of ε alone it has none, but the parts."""
    from zennit import composites, rules, types

    options["canonizers"] = canonisers(classifier.module)
    if kind == "Epsilon":
        everywhere = [((types.Convolution, nn.Linear), rules.Epsilon())]
        return composites.LayerMapComposite(composites.layer_map_base() + everywhere, **options)
    if kind == "EpsilonGammaBox":
        for name, end in (("low", 0.0), ("high", 1.0)):
            options[name] = classifier.normalise(torch.full((1, 3, 1, 1), end)).to(classifier.dtype)
    return getattr(composites, kind)(**options)


def with_sums(network: nn.Module, sums: Callable[[], nn.Module]) -> nn.Module:
    """A graph's sums as a library's modules for sums."""
    if isinstance(network, fx.GraphModule):
        for number, node in enumerate(list(network.graph.nodes)):
            if node.target in (operator.add, operator.iadd):
                network.add_submodule(f"sum_{number}", sums())
                node.op, node.target = "call_module", f"sum_{number}"
        network.recompile()
    return network


class Sum(nn.Module):
    """zennit's, which adds up what is stacked."""

    def __init__(self) -> None:
        super().__init__()
        from zennit.layer import Sum

        self.sum = Sum()

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        return self.sum(torch.stack((first, second), -1))


def fresh(classifier: Classifier) -> nn.Module:
    """A copy of the network for zennit."""
    return with_sums(deepcopy(classifier.module).eval(), Sum)


def zennit_lrp(kind: str) -> Callable[..., Tensor]:
    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        from zennit.attribution import Gradient

        network, seen = fresh(classifier), classifier.normalise(images).to(classifier.dtype)
        with quiet(), Gradient(network, composite(kind, classifier)) as attribute:
            logits = network(seen).detach()
            seed = functional.one_hot(targets, logits.shape[1]) * logits
            return attribute(seen, seed)[1].sum(1).float()

    return maps


def zennit_signals(kind: str) -> Callable[..., Tensor]:
    """Guided backprop and DeconvNet."""

    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        from zennit import attribution, composites

        network = Normalised(classifier, images).eval()
        with quiet(), attribution.Gradient(network, getattr(composites, kind)()) as attribute:
            seed = functional.one_hot(targets, network(images).shape[1]).to(classifier.dtype)
            return attribute(images.to(classifier.dtype), seed)[1].sum(1).float()

    return maps


def zennit_excitation(classifier: Classifier, images: Tensor, targets: Tensor, *, layer: str = "") -> Tensor:
    """At the image, or at the target layer; biases win nothing."""
    from zennit.attribution import Gradient

    network, seen = fresh(classifier), classifier.normalise(images).to(classifier.dtype)
    signals: list[Tensor] = []

    def watch(_part: nn.Module, _inputs: Any, output: Tensor) -> None:
        output.register_hook(signals.append)

    kind = composite("ExcitationBackprop", classifier, zero_params="bias")
    with quiet(), Gradient(network, kind) as attribute:
        seed = functional.one_hot(targets, network(seen).shape[1]).to(seen)
        if layer != "input":
            network.get_submodule(classifier.layer(images)[0]).register_forward_hook(watch)
        _, there = attribute(seen, seed)
    return resize(signals[-1] if signals else there, images)


def resize(signals: Tensor, images: Tensor) -> Tensor:
    summed = signals.sum(1, keepdim=True).float()
    return functional.interpolate(summed, images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def zennit_gradient(kind: str, **options: Any) -> Callable[..., Any]:
    """An attributor that changes the input, as a function of a classifier, images, what it adds up, and settings."""

    def attributed(classifier: Classifier, images: Tensor, targets: Tensor, read: Any = None, **more: Any) -> Tensor:
        from zennit import attribution

        network, exact = Normalised(classifier, images).eval(), images.to(classifier.dtype)
        seed = functional.one_hot(targets, network(images).shape[1]).to(exact)
        attributor = getattr(attribution, kind)(network, **options, **more)
        return attributor(exact, seed if read is None else partial(read, seed))[1].detach().float()

    return attributed


def zennit_integrated(classifier: Classifier, images: Tensor, targets: Tensor, *, steps: int) -> Tensor:
    return zennit_gradient("IntegratedGradients")(classifier, images, targets, n_iter=steps).sum(1)


def right_ends(steps: int) -> Callable[[vb.Probe, Tensor], Tensor]:
    """The sum over the ends of the parts, where ours takes other points."""

    def maps(probe: vb.Probe, _theirs: Tensor) -> Tensor:
        path = (probe.images * end for end in torch.linspace(1 / steps, 1, steps))
        return (sum(probe.input_gradients(path)) * probe.images / steps).sum(1)

    return maps


def zennit_smooth(classifier: Classifier, images: Tensor, targets: Tensor, *, samples: int) -> Tensor:
    """Given our draws."""
    draws = gaussian(vb.Probe(classifier, images, targets), samples)
    with patch.object(torch, "randn_like", lambda values: next(draws).to(values)):
        found = zennit_gradient("SmoothGrad", noise_level=0.15)(classifier, images, targets, n_iter=samples)
    return found.abs().amax(1)


def last_is_clean(samples: int) -> Callable[[vb.Probe, Tensor], Tensor]:
    """One draw less, and the image itself."""

    def maps(probe: vb.Probe, _theirs: Tensor) -> Tensor:
        sigma = 0.15 * (probe.images.amax((1, 2, 3), keepdim=True) - probe.images.amin((1, 2, 3), keepdim=True))
        draws = list(gaussian(probe, samples))[:-1]
        copies = (probe.images + sigma * draw for draw in (*draws, torch.zeros_like(sigma)))
        return (sum(probe.input_gradients(copies)) / samples).abs().amax(1)

    return maps


def zennit_occlusion(classifier: Classifier, images: Tensor, targets: Tensor, *, patch: int, stride: int) -> Tensor:
    """It adds up what the score is with the patch; told to add up what is lost."""
    clean = classifier.logits(images).detach()

    def hidden(values: Tensor, mask: Tensor) -> Tensor:
        return values.where(~mask, 0.5)

    def lost(seed: Tensor, logits: Tensor) -> Tensor:
        return seed * (clean.to(logits) - logits)

    window = {"window": (patch, patch), "stride": (stride, stride), "occlusion_fn": hidden}
    with quiet():
        return zennit_gradient("Occlusion", **window)(classifier, images, targets, lost)[:, 0]


def captum_lrp(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
    """On modules sums are captum's module for sums."""
    from captum.attr import LRP
    from captum.attr._utils.custom_modules import Addition_Module

    network = with_sums(deepcopy(classifier.module).eval(), Addition_Module)
    seen = classifier.normalise(images).to(classifier.dtype)
    with quiet():
        found: Any = LRP(network).attribute(seen.requires_grad_(), target=targets)
    return found.sum(1).detach().float()


def norms_share(probe: vb.Probe, _theirs: Tensor) -> Tensor:
    """LRP-ε with ε = 1e-9, where a batch norm with no convolution in front is a layer, whose bias takes part."""
    case = Case(probe.classifier, probe.images, probe.targets)
    network: Any = as_modules(case, fused=True).classifier.module
    for name, norm in list(network.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            scale = norm.weight / (norm.running_var + norm.eps).sqrt()
            layer = nn.Conv2d(len(scale), len(scale), 1, groups=len(scale)).to(scale.dtype)
            layer.weight.data = scale.detach()[:, None, None, None].clone()
            layer.bias.data = (norm.bias - norm.running_mean * scale).detach()
            parent, _, own = name.rpartition(".")
            setattr(network.get_submodule(parent), own, layer)
    with patch.object(relevance, "STABILISER", 1e-9):
        return vb.explain(probe.classifier.around(network), *case[1:], "lrp_epsilon")


def both_signs(probe: vb.Probe, _theirs: Tensor) -> Tensor:
    """Excitation where negative inputs excite by negative weights, and terms of sums and averages may be negative.

    A batch norm with no convolution in front hands back its gradient.
    """
    known = Rules.batch_norm

    def batch_norm(rules: Rules, func: Any, values: Tensor, *rest: Any, **more: Any) -> Tensor:
        merged = rules._last is not None and rules._last[0] is values
        return known(rules, func, values, *rest, **more) if merged else func(values, *rest, **more)

    def share(layer: Linear, values: Tensor, signal: Tensor) -> Tensor:
        return alpha_beta(replace(layer, bias=None), values, signal, alpha=1.0, beta=0.0)

    rules = Rules("excitation_backprop", share, positive=False, activations=POSITIVE)
    with patch.object(Rules, "batch_norm", batch_norm):
        (signals,) = probe.input_gradients([probe.images], lambda: handing_down(rules))
    return signals.sum(1)


def captum_deep_lift(classifier: Classifier, images: Tensor, targets: Tensor, *, baseline: str) -> Tensor:
    exact = images.to(classifier.dtype)
    return captum("DeepLift", baselines=PLAIN[baseline])(classifier, exact, targets).sum(1).float()


def captum_deep_lift_shap(classifier: Classifier, images: Tensor, targets: Tensor, *, samples: int) -> Tensor:
    """With our baselines, one image at a time."""
    rows: list[Tensor] = []
    for image, target in zip(images.split(1), targets.split(1), strict=True):
        pool = references(vb.Probe(classifier, image, target), "scenes")
        chosen = pool[[place * len(pool) // samples for place in range(samples)]].to(classifier.dtype)
        rows.append(captum("DeepLiftShap", baselines=chosen)(classifier, image.to(classifier.dtype), target))
    return torch.cat(rows).sum(1).float()


def unpooled(method: str, **settings: Any) -> Callable[[vb.Probe, Tensor], Tensor]:
    """DeepLIFT where max pooling keeps one window's share of a place, and takes the first of the baseline's equals.

    Differences below 1e-10 count as none; 1e-6 with us.
    """

    def put(like: Tensor, places: Tensor, values: Tensor) -> Tensor:
        return torch.zeros_like(like).flatten(2).scatter(2, places.flatten(2), values.flatten(2)).view_as(like)

    def first(_before: Tensor, _there: Tensor, _now: Tensor, then: Tensor) -> Tensor:
        return then

    def maps(probe: vb.Probe, _theirs: Tensor) -> Tensor:
        with patch.multiple(differences, put=put, one_of_equals=first, NEAR=1e-10):
            return vb.explain(probe.classifier, probe.images, probe.targets, method, **settings)

    return maps


LRP = {
    "lrp_epsilon": "Epsilon",
    "lrp_epsilon_plus_flat": "EpsilonPlusFlat",
    "lrp_epsilon_gamma_box": "EpsilonGammaBox",
    "lrp_alpha2_beta1": "EpsilonAlpha2Beta1",
}
"""Our names, and zennit's of its composites."""

BLACK, GREY = {"baseline": "black"}, {"baseline": "grey"}
PAIRS = (
    *(Pair(method, "zennit", zennit_lrp(kind), fused=True) for method, kind in LRP.items()),
    Pair("lrp_epsilon", "captum", captum_lrp, fused=True, formula=norms_share),
    Pair("deep_lift", "captum", captum_deep_lift, BLACK, formula=unpooled("deep_lift", **BLACK)),
    Pair(
        "deep_lift",
        "captum",
        captum_deep_lift,
        GREY,
        formula=unpooled("deep_lift", **GREY),
        called="from grey",
    ),
    Pair(
        "deep_lift_shap",
        "captum",
        captum_deep_lift_shap,
        {"samples": 3},
        formula=unpooled("deep_lift_shap", samples=3),
    ),
    Pair("excitation_backprop", "zennit", zennit_excitation, fused=True),
    Pair(
        "excitation_backprop",
        "zennit",
        zennit_excitation,
        {"layer": "input"},
        called="at the image",
        fused=True,
        formula=both_signs,
    ),
    Pair("guided_backprop", "zennit", zennit_signals("GuidedBackprop")),
    Pair("deconvnet", "zennit", zennit_signals("DeconvNet")),
    Pair("integrated_gradients", "zennit", zennit_integrated, {"steps": 10}, formula=right_ends(10)),
    Pair("smooth_grad", "zennit", zennit_smooth, {"samples": 4}, formula=last_is_clean(4)),
    Pair("occlusion", "zennit", zennit_occlusion, {"patch": 16, "stride": 16}),
)


if __name__ == "__main__":
    arguments = asked(__doc__, side=64, count=2)
    print_table(PAIRS, cases(arguments, double=True), arguments.methods)
