"""Propagation: the logit is shared out, layer by layer, down to the image (LRP, Bach et al. 2015)."""

from collections.abc import Callable
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from vexbench.differences import Differences
from vexbench.errors import VexbenchError, unknown
from vexbench.perturb.references import references
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.relevance import Linear, Rules, Term, handing_down
from vexbench.types import Maps

Share = Callable[[Linear, Tensor, Tensor], Tensor]


def epsilon(layer: Linear, values: Tensor, signal: Tensor) -> Tensor:
    """R_i = Σ_j x_i w_ij / (z_j ± 1e-6) · R_j (Bach et al. 2015, eq. 58)."""
    return layer.share([layer.term(values)], signal)


def alpha_beta(layer: Linear, values: Tensor, signal: Tensor, *, alpha: float, beta: float) -> Tensor:
    """R_i = Σ_j (α z⁺_ij / z⁺_j − β z⁻_ij / z⁻_j) R_j, the bias in z_j (Bach et al. 2015, eq. 60)."""
    if layer.weight is None:
        return epsilon(layer, values, signal)
    result = alpha * layer.share(_signed(layer, values, 1), signal)
    return result - beta * layer.share(_signed(layer, values, -1), signal) if beta else result


def gamma(layer: Linear, values: Tensor, signal: Tensor, *, strength: float) -> Tensor:
    """Positive parts weigh 1 + γ where the output is positive, negative ones where it is negative.

    R_i = Σ_j (z_ij + γ z⁺_ij) / Σ_k (z_kj + γ z⁺_kj) · R_j for z_j > 0 (Montavon et al. 2019, section 10.2.3), and with
    z⁻ for z_j < 0 (Andéol et al. 2021).
    """
    weight, bias = layer.weight, layer.bias
    if weight is None:
        return epsilon(layer, values, signal)
    output = layer.run(values, weight, bias)
    total = torch.zeros_like(values)
    for sign, there in ((1, output > 0), (-1, output < 0)):
        terms = [
            Term(
                part.values,
                weight + strength * part.weight,  # pyright: ignore[reportOperatorIssue]
                None if bias is None or part.bias is None else bias + strength * part.bias,
            )
            for part in _signed(layer, values, sign)
        ]
        total = total + layer.share(terms, signal * there)
    return total


def flat(layer: Linear, values: Tensor, signal: Tensor) -> Tensor:
    """R_i = Σ_j R_j / (number of inputs of j): the window as a whole (Lapuschkin et al. 2019)."""
    assert layer.weight is not None
    return layer.share([Term(torch.ones_like(values), torch.ones_like(layer.weight), None)], signal)


def box(layer: Linear, values: Tensor, signal: Tensor, *, low: Tensor, high: Tensor) -> Tensor:
    """R_i = Σ_j (x_i w_ij − l_i w⁺_ij − h_i w⁻_ij) / Σ_k (…) · R_j, l ≤ x ≤ h (Montavon et al. 2017, section 4.1)."""
    assert layer.weight is not None
    terms = [
        layer.term(values),
        Term(
            low.to(values).expand_as(values),
            -layer.weight.clamp(min=0),
            None if layer.bias is None else -layer.bias.clamp(min=0),
        ),
        Term(
            high.to(values).expand_as(values),
            -layer.weight.clamp(max=0),
            None if layer.bias is None else -layer.bias.clamp(max=0),
        ),
    ]
    return layer.share(terms, signal)


def _signed(layer: Linear, values: Tensor, sign: int) -> list[Term]:
    """The parts of the output that are positive (sign 1) or negative (−1): z⁺ = x⁺w⁺ + x⁻w⁻ + b⁺."""
    assert layer.weight is not None
    same, other = (partial(torch.clamp, **{bound: 0}) for bound in (("min", "max") if sign > 0 else ("max", "min")))
    return [
        Term(values.clamp(min=0), same(layer.weight), None if layer.bias is None else same(layer.bias)),
        Term(values.clamp(max=0), other(layer.weight), None),
    ]


def composite(convolution: Share, first: Share | None = None) -> Share:
    """A rule for convolutions, another one for the first of them, and ε for linear layers and averages."""

    def share(layer: Linear, values: Tensor, signal: Tensor) -> Tensor:
        rule = epsilon if not layer.kind.startswith("conv") else first if first and layer.first else convolution
        return rule(layer, values, signal)

    return share


def relevance(probe: Probe, name: str, share: Share) -> Maps:
    """Start from the target's logit, and hand it down to the image; summed over the colours."""
    (shares,) = probe.input_gradients([probe.images], lambda: handing_down(Rules(name, share)))
    return shares.sum(1) * probe.logits.gather(1, probe.targets[:, None])[:, :, None]


def lrp(title: str, paper: str) -> Callable[[Callable[[Probe], Maps]], Callable[[Probe], Maps]]:
    """Register a method of this family."""
    needs = ("operations with a rule: convolutions, linear layers, batch norm, activations, pooling, sums",)
    return method(family="propagation", title=title, paper=paper, signed=True, needs=needs)


@lrp("LRP-ε", "Bach et al. 2015, doi:10.1371/journal.pone.0130140")
def lrp_epsilon(probe: Probe) -> Maps:
    """Every input gets the part of each output that it gave.

    R_i = Σ_j z_ij / (z_j ± 1e-6) R_j, z_ij = x_i w_ij, z_j = Σ_i z_ij + b_j, in all layers (Bach et al. 2015, eq. 58).
    The relevance that the biases have is lost to the map; without biases its sum is the logit.
    """
    return relevance(probe, "lrp_epsilon", epsilon)


@lrp("LRP-ε⁺ flat", "Kohlbrenner et al. 2020, arXiv:1910.09840; Lapuschkin et al. 2019, arXiv:1902.10178")
def lrp_epsilon_plus_flat(probe: Probe) -> Maps:
    """Only what speaks for an output counts in convolutions; the first one hands on to its window as a whole.

    ε in linear layers, z⁺ (α = 1, β = 0) in convolutions, flat in the first one (Kohlbrenner et al. 2020, section 2.3).
    """
    return relevance(probe, "lrp_epsilon_plus_flat", composite(partial(alpha_beta, alpha=1.0, beta=0.0), flat))


@lrp("LRP-ε-γ box", "Montavon et al. 2019, doi:10.1007/978-3-030-28954-6_10")
def lrp_epsilon_gamma_box(probe: Probe) -> Maps:
    """What speaks for an output counts more; the first convolution knows the range of pixels.

    ε in linear layers, γ = 0.25 in convolutions, z^B with the range [0, 1] in the first one (Montavon et al. 2019).
    """
    with torch.inference_mode(False):  # what a caller's inference mode makes takes no part in a backward pass
        low, high = (probe.classifier.normalise(probe.images.new_full((1, 3, 1, 1), end)) for end in (0.0, 1.0))
    share = composite(partial(gamma, strength=0.25), partial(box, low=low, high=high))
    return relevance(probe, "lrp_epsilon_gamma_box", share)


@lrp("LRP-α2β1", "Bach et al. 2015, doi:10.1371/journal.pone.0130140")
def lrp_alpha2_beta1(probe: Probe) -> Maps:
    """What speaks for an output counts double, what speaks against it counts against it.

    R_i = Σ_j (2 z⁺_ij / z⁺_j − z⁻_ij / z⁻_j) R_j in convolutions, ε in linear layers (Bach et al. 2015, eq. 60).
    """
    return relevance(probe, "lrp_alpha2_beta1", composite(partial(alpha_beta, alpha=2.0, beta=1.0)))


@method(
    family="propagation",
    title="DeepLIFT",
    paper="Shrikumar et al. 2017, arXiv:1704.02685",
    signed=True,
    needs=("operations with a rule: linear ones, activations, max pooling, products",),
)
def deep_lift(probe: Probe, *, baseline: str = "black") -> Maps:
    """Difference of the logit from a baseline's, handed back by the differences of all inputs on the way.

    M = sum_c (x − x₀)_c m_c, m the product of Δy/Δx (the rescale rule) at activations and of the weights at linear
    operations (Shrikumar et al. 2017, eq. 3 and section 3.5.1); its sum is y(x) − y(x₀).

    Parameters
    ----------
    baseline
        black, white or grey: the same for all images.

    Raises
    ------
    NotApplicable
        The network has an operation without a rule.
    VexbenchError
        Another baseline.
    """
    if baseline not in PLAIN:
        raise unknown("plain baseline", baseline, PLAIN)
    return differences(probe, "deep_lift", torch.full_like(probe.images[:1], PLAIN[baseline]))


PLAIN = {"black": 0.0, "white": 1.0, "grey": 0.5}


def differences(probe: Probe, name: str, start: Float[Tensor, "1 3 H W"]) -> Maps:
    """DeepLIFT from one baseline for all images: its run, then theirs, forward and backward."""
    rescale = Differences(name)
    with rescale.noting():
        Probe(probe.classifier, start, [0], seed=probe.seed).logits  # noqa: B018
    probe.passes.forward += len(start)
    (multipliers,) = probe.input_gradients([probe.images], rescale.comparing)
    return ((probe.images - start) * multipliers).sum(1)


@method(
    family="propagation",
    title="DeepLIFT SHAP",
    paper="Lundberg & Lee 2017, arXiv:1705.07874",
    signed=True,
    needs=("operations with a rule: linear ones, activations, max pooling, products",),
)
def deep_lift_shap(probe: Probe, *, samples: int = 8, data: str = "scenes") -> Maps:
    """DeepLIFT averaged over baselines drawn from data.

    M = mean_s M_DeepLIFT(x; x'_s), x'_s ~ D; its sum is y(x) − mean_s y(x'_s) (Lundberg & Lee 2017, section 4.2).

    Parameters
    ----------
    samples
        Baselines, the same for all images.
    data
        As for `expected_gradients`: drawn scenes, or a folder of images.

    Raises
    ------
    NotApplicable
        The network has an operation without a rule.
    VexbenchError
        Less than one sample, more samples than there are images, or a folder without images.
    """
    pool = references(probe, data)
    if not 1 <= samples <= len(pool):
        raise VexbenchError(f"deep_lift_shap: samples must be 1 to {len(pool)}, as many as there are, not {samples}.")
    total = torch.zeros_like(probe.images[:, 0])
    for place in range(samples):
        # the pool is sorted by class: every so many of it are of all classes
        start = pool[place * len(pool) // samples]
        total = total + differences(probe, "deep_lift_shap", start[None])
    return total / samples
