"""Class activation maps: weighted sums of the target layer's channels."""

from jaxtyping import Float
from torch import Tensor

from vexbench.models.base import head_weights
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.types import Features, Maps


def weighted(weights: Float[Tensor, "N C #h #w"], activations: Features) -> Maps:
    """ReLU of the channels' weighted sum: only evidence for the class."""
    return (weights * activations).sum(1).relu()


@method(
    family="cam",
    title="CAM",
    paper="Zhou et al. 2016, arXiv:1512.04150",
    signed=True,
    needs=("global average pooling and a linear head",),
)
def cam(probe: Probe) -> Maps:
    """Weight each channel of the last features by the class's weight in the linear head.

    M = sum_k v_k A_k, with y = b + sum_k v_k mean(A_k)  (Zhou et al. 2016, eq. 2)

    Raises
    ------
    NotApplicable
        The network does not end in global average pooling and one linear layer.
    """
    activations = probe.trace.activations
    weights = head_weights(probe.classifier, activations, probe.logits)[probe.targets]
    return (weights[:, :, None, None] * activations).sum(1)


@method(family="cam", title="Grad-CAM", paper="Selvaraju et al. 2017, arXiv:1610.02391")
def grad_cam(probe: Probe) -> Maps:
    """Weight each channel by its mean gradient.

    M = ReLU(sum_k w_k A_k), w_k = mean_ij dy/dA_kij  (Selvaraju et al. 2017, eq. 1-2)
    """
    activations, gradients = probe.trace
    return weighted(gradients.mean((2, 3), keepdim=True), activations)


@method(family="cam", title="Grad-CAM++", paper="Chattopadhyay et al. 2018, arXiv:1710.11063")
def grad_cam_plus_plus(probe: Probe) -> Maps:
    """Weight each channel by its positive gradients, those that explain more weighing more.

    M = ReLU(sum_k w_k A_k), w_k = sum_ij α_kij ReLU(g_kij),
    α = g² / (2g² + (sum_ab A_kab) g³), 0 where g or the denominator is 0  (Chattopadhyay et al. 2018, eq. 19)

    The fraction is cancelled by g², so that it does not depend on the scale of the gradients.
    """
    activations, gradients = probe.trace
    denominator = 2 + activations.sum((2, 3), keepdim=True) * gradients
    defined = (gradients != 0) & (denominator != 0)
    alpha = defined / denominator.where(defined, 1)
    return weighted((alpha * gradients.relu()).sum((2, 3), keepdim=True), activations)


@method(family="cam", title="HiResCAM", paper="Draelos & Carin 2020, arXiv:2011.08891")
def hires_cam(probe: Probe) -> Maps:
    """Weight each place of each channel by its own gradient.

    M = ReLU(sum_k g_k ⊙ A_k)  (Draelos & Carin 2020, eq. 4)
    """
    activations, gradients = probe.trace
    return weighted(gradients, activations)
