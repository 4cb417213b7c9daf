"""Gradient-based methods that read the gradient at the input."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from typing import Any, Final

import torch
from torch import Tensor
from torch.nn import functional

from vexbench.errors import unknown
from vexbench.hooks import Rule, overriding
from vexbench.methods.cam import grad_cam
from vexbench.probe import Probe
from vexbench.registry import method
from vexbench.rules import gating
from vexbench.types import Maps


@method(family="gradient", title="Saliency", paper="Simonyan et al. 2013, arXiv:1312.6034")
def saliency(probe: Probe) -> Maps:
    """Size of the gradient, the largest over the colours.

    M = max_c |dy/dx_c|  (Simonyan et al. 2013, section 3)
    """
    (gradients,) = probe.input_gradients([probe.images])
    return gradients.abs().amax(1)


@method(family="gradient", title="Input × gradient", paper="Shrikumar et al. 2016, arXiv:1605.01713", signed=True)
def input_x_gradient(probe: Probe) -> Maps:
    """The image times the gradient: what each pixel adds to the logit where the network is linear.

    M = sum_c x_c · dy/dx_c  (Shrikumar et al. 2016, section 2), x in [0, 1]
    """
    (gradients,) = probe.input_gradients([probe.images])
    return (probe.images * gradients).sum(1)


@method(
    family="gradient",
    title="Guided backprop",
    paper="Springenberg et al. 2014, arXiv:1412.6806",
    signed=True,
    needs=("ReLUs",),
)
def guided_backprop(probe: Probe) -> Maps:
    """Gradient with what is negative stopped at every ReLU.

    R = max(R', 0) ⊙ [a > 0] at each ReLU a (Springenberg et al. 2014, section 3.4); M = sum_c R_c at the input.
    """
    (signals,) = probe.input_gradients([probe.images], lambda: gating(guided, "guided_backprop"))
    return signals.sum(1)


@method(
    family="gradient",
    title="Guided Grad-CAM",
    paper="Selvaraju et al. 2017, arXiv:1610.02391",
    signed=True,
    needs=("ReLUs",),
)
def guided_grad_cam(probe: Probe) -> Maps:
    """Guided backprop where Grad-CAM sees the class.

    M = U(L) ⊙ R, L Grad-CAM, U bilinear to the image, R guided backprop  (Selvaraju et al. 2017, section 3.2)
    """
    details = guided_backprop(probe)
    places = functional.interpolate(grad_cam(probe)[:, None], details.shape[1:], mode="bilinear", align_corners=False)
    return places[:, 0] * details


def guided(signal: Tensor, passed: Tensor) -> Tensor:
    """What is positive, where the ReLU passed its input on."""
    return signal.relu() * passed


@method(family="gradient", title="FullGrad", paper="Srinivas & Fleuret 2019, arXiv:1905.00780")
def full_grad(probe: Probe, *, rescaling: str = "channel") -> Maps:
    """Sizes of the input times its gradient and of all biases times theirs: for ReLUs, all that the logit is made of.

    y = sum_p x_p dy/dx_p + sum_lcp b_lc dy/dz_lcp; M = sum_c ψ(x_c ⊙ dy/dx_c) + sum_lc ψ(b_lc · dy/dz_lc), ψ: absolute
    value, rescaled to [0, 1], bilinear to the image  (Srinivas & Fleuret 2019, eq. 3 and 8)

    x is what the network gets, the normalised image; z what a convolution, linear layer or norm gives; b its bias, that
    of batch norm being β − γ·mean/σ. Biases behind the pooling have no place and are left out; so is a channel whose
    share is the same everywhere.

    Parameters
    ----------
    rescaling
        channel, each by its own minimum and maximum, as the equation has it; or layer, as in the authors' code.

    Raises
    ------
    VexbenchError
        A rescaling that does not exist.
    """
    if rescaling not in ("channel", "layer"):
        raise unknown("rescaling", rescaling, ("channel", "layer"))
    dims = (2, 3) if rescaling == "channel" else (1, 2, 3)

    def spread(shares: Tensor) -> Tensor:
        sizes, rounding = shares.float().abs(), 8 * torch.finfo(shares.dtype).eps
        low, high = sizes.amin(dims, keepdim=True), sizes.amax(dims, keepdim=True)
        varied = high - low > rounding * high  # or rounding errors would be blown up
        summed = ((sizes - low) / (high - low).where(varied, 1) * varied).sum(1, keepdim=True)
        return functional.interpolate(summed, probe.images.shape[2:], mode="bilinear", align_corners=False)[:, 0]

    totals: list[Tensor] = []  # of each pass; the backward pass, which fills them, comes when the context is left

    def watching() -> AbstractContextManager[None]:
        totals.append(probe.images.new_zeros(()))
        place = len(totals) - 1

        def add(shares: Tensor) -> None:
            if shares.ndim == 4:
                totals[place] = totals[place] + spread(shares)

        return bias_shares(add)

    (gradients,) = probe.input_gradients([probe.images], watching)
    mean = probe.images.new_tensor(probe.classifier.mean)[:, None, None]
    maps = spread((probe.images - mean) * gradients)
    return maps + torch.cat(totals)[: len(maps)] if all(total.ndim for total in totals) else maps


AFFINE: Final = {
    "conv2d": ("input", "weight", "bias"),
    "conv_transpose2d": ("input", "weight", "bias"),
    "linear": ("input", "weight", "bias"),
    "layer_norm": ("input", "normalized_shape", "weight", "bias"),
    "group_norm": ("input", "num_groups", "weight", "bias"),
    "instance_norm": ("input", "running_mean", "running_var", "weight", "bias"),
    "batch_norm": ("input", "running_mean", "running_var", "weight", "bias", "training", "momentum", "eps"),
}
"""Operations with a bias, and their arguments in order."""


@contextmanager
def bias_shares(told: Callable[[Tensor], None]) -> Iterator[None]:
    """Tell of each bias times its gradient, at every place, channels first, while a backward pass comes by."""

    def watched(func: Rule, *args: Any, **options: Any) -> Tensor:
        output: Tensor = func(*args, **options)
        names = AFFINE[func.__name__]
        if func is torch.batch_norm:
            names = ("input", "weight", "bias", "running_mean", "running_var", "training", "momentum", "eps")
        bias = bias_of(func.__name__, dict(zip(names, args, strict=False)) | options)
        if bias is None or not output.requires_grad:
            return output
        last = func.__name__ in ("linear", "layer_norm") and bias.ndim == 1 and output.ndim == 4
        constant = bias[:, None, None] if bias.ndim == 1 and output.ndim == 4 and not last else bias

        def tell(gradient: Tensor) -> None:
            shares = gradient * constant
            told(shares.movedim(-1, 1) if last else shares)

        output.register_hook(tell)  # of what the layer gave, also where an in-place ReLU follows
        return output

    with overriding(dict.fromkeys(AFFINE, watched)):
        yield


def bias_of(operation: str, given: Mapping[str, Any]) -> Tensor | None:
    """What an operation adds; for batch norm also what taking the mean off adds."""
    bias = given.get("bias")
    mean, variance = given.get("running_mean"), given.get("running_var")
    if operation == "batch_norm" and mean is not None and variance is not None and not given.get("training"):
        shift = mean * (variance + given.get("eps", 1e-5)).rsqrt()
        weight = given.get("weight")
        bias = (0 if bias is None else bias) - (shift if weight is None else weight * shift)
    return None if bias is None else bias.detach()
