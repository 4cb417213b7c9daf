"""Gradient-based methods that read the gradient at the input."""

from torch import Tensor
from torch.nn import functional

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
