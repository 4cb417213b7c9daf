"""Attention-based methods: where the network attends, by its own attention or by the winners of each layer."""

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from vexbench.errors import NotApplicable
from vexbench.hooks import recording
from vexbench.methods.cam import weighted
from vexbench.probe import Probe, Within
from vexbench.registry import method
from vexbench.relevance import Linear, Rules, Share, Term, defined, handing_down
from vexbench.types import Features, Maps

POSITIVE = frozenset(("relu", "relu6", "hardtanh", "clamp", "clamp_min", "sigmoid", "hardsigmoid", "softplus"))
"""Activations that give nothing below zero, which the probabilities of winning ask for."""

NEEDS = ("activations that are not negative, such as ReLU's",)


def excitation(layer: Linear, values: Tensor, signal: Tensor) -> Tensor:
    """P_i = Σ_j a_i w⁺_ij / Σ_k a_k w⁺_kj · P_j: inputs win by what they excite (Zhang et al. 2016, eq. 2-3)."""
    weight = None if layer.weight is None else layer.weight.clamp(min=0)
    return layer.share([Term(values.clamp(min=0), weight, None)], signal, defined)


class Contrast:
    """Excitation of the class minus that of its opposite: the weights of the last layer, negated."""

    def __init__(self) -> None:
        self.begun = False

    def __call__(self, layer: Linear, values: Tensor, signal: Tensor) -> Tensor:
        """P(W) − P(−W) in the layer that gives the logits, which comes first in the backward pass; then excitation."""
        told = excitation(layer, values, signal)
        if self.begun or layer.weight is None:
            return told
        self.begun = True
        opposite = Term(values.clamp(min=0), (-layer.weight).clamp(min=0), None)
        return told - layer.share([opposite], signal, defined)


@method(family="attention", title="Excitation backprop", paper="Zhang et al. 2016, arXiv:1608.00507", needs=NEEDS)
def excitation_backprop(probe: Probe, *, layer: str = "") -> Maps:
    """Probability that a neuron wins, when winners are drawn from the class down, each by what excites it.

    P(a_i) = Σ_j P(a_i|a_j) P(a_j), P(a_i|a_j) = a_i w⁺_ij / Σ_k a_k w⁺_kj (Zhang et al. 2016, eq. 1-3), from P = 1 for
    the class; summed over the channels. Over a layer that all ways pass they sum to one; some of it ends where nothing
    excites, as in the image, whose normalised values are partly negative.

    Parameters
    ----------
    layer
        Where winners are counted: a layer's name, ``input`` for the image, or nothing for the target layer.

    Raises
    ------
    NotApplicable
        The network has activations below zero, or operations without a rule.
    """
    return winners(probe, layer, lambda: handing_down(rules("excitation_backprop")))


@method(
    family="attention",
    title="Contrastive excitation",
    paper="Zhang et al. 2016, arXiv:1608.00507",
    signed=True,
    needs=NEEDS,
)
def contrastive_excitation_backprop(probe: Probe, *, layer: str = "") -> Maps:
    """Excitation of the class minus that of everything else.

    P(W) − P(−W), with the weights of the layer that gives the logits negated (Zhang et al. 2016, section 3.3).

    Parameters
    ----------
    layer
        As for `excitation_backprop`.

    Raises
    ------
    NotApplicable
        The network has activations below zero, or operations without a rule.
    """
    return winners(probe, layer, lambda: handing_down(rules("contrastive_excitation_backprop", Contrast())))


def rules(name: str, share: Share = excitation) -> Rules:
    """Excitation everywhere; sums by their positive parts."""
    return Rules(name, share, positive=True, activations=POSITIVE)


def winners(probe: Probe, layer: str, within: Within) -> Maps:
    """What arrives at a layer, or at the image, summed over the channels."""
    if layer != "input":
        (trace,) = probe.traces([probe.images], layer=layer, within=within)
        return trace.gradients.sum(1)
    (signals,) = probe.input_gradients([probe.images], within)
    return signals.sum(1)


@method(
    family="attention", title="SAG-CAM", paper="Lim & Eid 2023, doi:10.54216/JAIM.040103; cf. Wang et al. 2020, SEAM"
)
def sag_cam(probe: Probe) -> Maps:
    """Self-attention guided CAM: each place takes over the evidence of the places it attends to.

    M_j = Σ_i β_ji G_i, with G Grad-CAM's map and β the network's own spatial self-attention, G taken behind its last
    block; for a network without one, the affinity of the target layer's features, β_ji ∝ ReLU(cos(A_j, A_i)) as in SEAM
    (Wang et al. 2020, eq. 6). Rows of β sum to one. Lim & Eid 2023 describe the method in one sentence; this reading
    of it is explained in docs/decisions.
    """
    name, block = attention_block(probe)
    activations, gradients = probe.trace if not name else next(probe.traces([probe.images], layer=name))
    evidence = weighted(gradients.mean((2, 3), keepdim=True), activations)
    affinity = feature_affinity(activations) if block is None else own_affinity(block, passed_through(probe, block)[0])
    return (affinity @ evidence.flatten(1)[:, :, None]).view_as(evidence)


@method(
    family="attention",
    title="Attention map",
    paper="Zhang et al. 2019, arXiv:1805.08318; Woo et al. 2018, arXiv:1807.06521",
    needs=("a block of spatial self-attention (SAGAN) or a spatial gate (CBAM)",),
)
def attention_map(probe: Probe) -> Maps:
    """What the network's last attention block looks at, whatever the class.

    M_i = mean_j β_ji of a self-attention block (Zhang et al. 2019, eq. 1), or the factor by which a spatial gate lets a
    place through, Σ_c |y_c| / Σ_c |x_c| (Woo et al. 2018, eq. 5).

    Raises
    ------
    NotApplicable
        The network has neither.
    """
    _, block = attention_block(probe)
    if block is not None:
        before, _ = passed_through(probe, block)
        return own_affinity(block, before).mean(1).view(len(before), *before.shape[2:])
    gates = [part for part in probe.classifier.module.modules() if type(part).__name__ in GATES]
    if not gates:
        raise NotApplicable("this network has no attention block, whose map could be shown; use sag_cam or grad_cam.")
    before, after = passed_through(probe, gates[-1])
    return (after.abs().sum(1) / defined(before.abs().sum(1))).float()


GATES = ("SpatialAttn", "LightSpatialAttn", "SpatialAttention", "SpatialGate")
"""Spatial gates of CBAM, by the names of their classes in timm and elsewhere."""


def attention_block(probe: Probe) -> tuple[str, nn.Module | None]:
    """The last part of the network that tells its `affinity`, and its name."""
    blocks = [(name, part) for name, part in probe.classifier.module.named_modules() if hasattr(part, "affinity")]
    return blocks[-1] if blocks else ("", None)


def passed_through(probe: Probe, block: nn.Module) -> tuple[Features, Features]:
    """A block's input and output for the probe's images: one forward pass."""
    with recording(block) as seen:
        probe.scores([probe.images])
    # the last batch may be filled up
    before, after = (torch.cat(parts)[: len(probe.images)] for parts in zip(*seen, strict=True))
    return before, after


def own_affinity(block: nn.Module, features: Features) -> Float[Tensor, "N hw hw"]:
    """The block's own attention: row j says from which places i the place j gathers."""
    with torch.no_grad():
        return block.affinity(features).float()  # pyright: ignore[reportCallIssue]


def feature_affinity(features: Features) -> Float[Tensor, "N hw hw"]:
    """ReLU of the cosine between the features of any two places; rows sum to one."""
    places = functional.normalize(features.flatten(2), dim=1)
    affinity = (places.transpose(1, 2) @ places).relu()
    return affinity / defined(affinity.sum(2, keepdim=True))
