"""Class activation maps: weighted sums of the target layer's channels."""

from math import inf

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vexbench.errors import NotApplicable, VexbenchError, unknown
from vexbench.models.base import head_weights
from vexbench.probe import Probe
from vexbench.readout import differentiating, of_target
from vexbench.registry import method
from vexbench.types import Features, Logits, Maps, Scores, Targets


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


@method(family="cam", title="XGrad-CAM", paper="Fu et al. 2020, arXiv:2008.02312")
def xgrad_cam(probe: Probe) -> Maps:
    """Weight each channel by its mean gradient, places weighing as they are active.

    M = ReLU(sum_k w_k A_k), w_k = sum_ij g_kij A_kij / sum_ij A_kij, 0 where that sum is  (Fu et al. 2020, eq. 8)
    """
    activations, gradients = probe.trace
    total = activations.sum((2, 3), keepdim=True)
    slopes = (gradients * activations).sum((2, 3), keepdim=True)
    return weighted(slopes.where(total != 0, 0) / total.where(total != 0, 1), activations)


@method(family="cam", title="LayerCAM", paper="Jiang et al. 2021, doi:10.1109/TIP.2021.3089943")
def layer_cam(probe: Probe) -> Maps:
    """Weight each place of each channel by its own gradient where that is positive.

    M = ReLU(sum_k ReLU(g_k) ⊙ A_k)  (Jiang et al. 2021, eq. 5-7)
    """
    activations, gradients = probe.trace
    return weighted(gradients.relu(), activations)


@method(family="cam", title="Eigen-CAM", paper="Muhammad & Yeasin 2020, arXiv:2008.00299")
def eigen_cam(probe: Probe, *, centred: bool = True) -> Maps:
    """First principal component of the features, whatever the class.

    M = ReLU(O v), O the (h·w × C) matrix of A, v its first right singular vector  (Muhammad & Yeasin 2020, eq. 2-3)

    A singular vector has no sign of its own: it gets the one with which O v grows with the sum over the channels, that
    is, sum_k v_k > 0: high is where the features are strong.

    Parameters
    ----------
    centred
        Take the channels' means off before, as for a principal component; the paper's equation does not.
    """
    return first_component(probe.trace.activations, centred).relu()


@method(family="cam", title="Eigen-Grad-CAM", paper="Muhammad & Yeasin 2020, arXiv:2008.00299; pytorch-grad-cam")
def eigen_grad_cam(probe: Probe, *, centred: bool = True) -> Maps:
    """First principal component of the features times their gradients.

    M = ReLU(O v), O the (h·w × C) matrix of g ⊙ A, v its first right singular vector  (no paper: Eigen-CAM's eq. 2-3
    after HiResCAM's product)

    The sign is the one with which O v grows with the sum over the channels, here HiResCAM's evidence for the class.

    Parameters
    ----------
    centred
        Take the channels' means off before, as for a principal component.
    """
    activations, gradients = probe.trace
    return first_component(gradients * activations, centred).relu()


def first_component(features: Features, centred: bool) -> Maps:
    """Places along the direction in which the channels vary most, or are largest; its coordinates sum to 0 or more."""
    places = features.flatten(2).transpose(1, 2)
    if centred:
        places = places - places.mean(1, keepdim=True)
    places = places.double()
    # the first eigenvector of the smaller one of O Oᵀ and Oᵀ O: cheaper than all singular vectors
    wide = places.shape[1] < places.shape[2]
    first = torch.linalg.eigh(places @ places.mT if wide else places.mT @ places).eigenvectors[..., -1:]
    direction = functional.normalize(places.mT @ first if wide else first, dim=1)
    direction = direction * torch.where(direction.sum(1, keepdim=True) < 0, -1, 1)
    return (places @ direction)[..., 0].unflatten(1, features.shape[2:]).to(features.dtype)


@method(family="cam", title="Finer-CAM", paper="Zhang et al. 2025, arXiv:2501.11309")
def finer_cam(probe: Probe, *, classes: int = 3, strength: float = 0.6, weighting: str = "equal") -> Maps:
    """Grad-CAM of what sets the class apart from those most like it.

    M = ReLU(sum_k w_k A_k), w_k = mean_ij d(y − γ sum_d p_d y_d)/dA_kij, p_d = 1/D, over the D classes d whose logits
    are nearest to y  (Zhang et al. 2025, eq. 5-7). Behind global average pooling and a linear head, w_k follows from
    the head's weights, and no pass is needed.

    Parameters
    ----------
    classes
        D, or as many as there are.
    strength
        γ: 0 is Grad-CAM.
    weighting
        equal, or probability, as in the authors' code: p_d is the class's share of their probabilities, and is
        differentiated too.

    Raises
    ------
    VexbenchError
        Less than one class, a strength that is negative or not finite, or a weighting that does not exist.
    """
    if classes < 1 or not 0 <= strength < inf:
        raise VexbenchError(
            f"finer_cam: classes must be at least 1 and strength at least 0, not {classes} and {strength}."
        )
    if weighting not in ("equal", "probability"):
        raise unknown("weighting", weighting, ("equal", "probability"))

    def difference(logits: Logits, targets: Targets) -> Scores:
        own = of_target(logits, targets)
        distance = (logits.detach() - own.detach()[:, None]).abs().scatter(1, targets[:, None], inf)
        nearest = distance.topk(min(classes, logits.shape[1] - 1), largest=False).indices
        similar = logits.gather(1, nearest)
        shares = similar.softmax(1) if weighting == "probability" else 1 / max(similar.shape[1], 1)
        return own - strength * (shares * similar).sum(1)

    activations = probe.trace.activations
    try:
        heads = head_weights(probe.classifier, activations, probe.logits)
    except NotApplicable:
        ((activations, gradients),) = probe.traces([probe.images], difference)
        return weighted(gradients.mean((2, 3), keepdim=True), activations)
    with differentiating():
        logits = probe.logits if probe.connected else probe.logits.detach().clone().requires_grad_()
        total = difference(logits, probe.targets).sum()
        (slopes,) = torch.autograd.grad(total, logits, create_graph=probe.connected)
    return weighted((slopes @ heads / activations[0, 0].numel())[:, :, None, None], activations)
