"""Activation maximisation: an image of what the network looks for, per class or channel, instead of a map per image.

A synthesis starts from the probe's images and follows the gradients that the probe gives. It yields (share of the work
done, images) step by step; the last images are the result. Random numbers hang on the seed, the target and the step,
not on what else is asked for.
"""

from collections.abc import Callable, Iterator
from functools import partial
from math import inf, pi
from typing import Any, Final, final

import torch
from torch import Tensor, nn
from torch.nn import functional

from vexbench.errors import NotApplicable, VexbenchError, unknown
from vexbench.hooks import observing
from vexbench.models.base import Classifier
from vexbench.probe import Probe
from vexbench.readout import differentiating
from vexbench.registry import synthesis
from vexbench.seeds import generator
from vexbench.types import Features, Images, Targets

Steps = Iterator[tuple[float, Images]]

BANDS: Final = 4
"""Levels of the Laplacian pyramid over which gradients are evened out; else fine grain drowns everything."""


@synthesis(title="DeepDream", paper="Mordvintsev et al. 2015, Google Research: Inceptionism")
def deep_dream(
    probe: Probe,
    *,
    layer: str = "",
    evidence: bool = True,
    octaves: int = 4,
    zoom: float = 1.4,
    steps: int = 20,
    rate: float = 0.01,
    jitter: int = 8,
) -> Steps:
    """Let a layer see more of what it sees already.

    Ascend J(I) = ½‖A_l(I)‖² (Mordvintsev et al. 2015) by normalised steps, from the smallest octave of the image to
    the image itself; what was dreamt is enlarged and added to the next octave. With `evidence` channels count by what
    they say on the target: J = ½ Σ_k w_k|w_k|·‖relu(A_k)‖², w_k = mean_ij dy/dA_kij at the start (Grad-CAM's weights).

    Parameters
    ----------
    layer
        The layer's name; the classifier's target layer by default.
    evidence
        Whether the layer is seen as evidence for the target, or whole.
    octaves, zoom
        Sizes, and how much larger each is than the one before.
    steps, rate
        Steps per octave, and the mean change of a pixel in each.
    jitter
        The largest shift between image and network, in pixels; another one in each step.

    Raises
    ------
    VexbenchError
        An unknown layer, or a number out of its range.
    NotApplicable
        The network takes no smaller images.
    """
    check("deep_dream", least=1, octaves=octaves, steps=steps)
    check("deep_dream", least=0, rate=rate, jitter=jitter)
    if not 1 < zoom < inf:
        raise VexbenchError(f"deep_dream: zoom must be above 1, not {zoom}.")
    dreaming, full = _dreaming(probe, layer, evidence), list(probe.images.shape[2:])
    dreamt = torch.zeros_like(probe.images)
    for octave in range(octaves):
        size = [max(1, round(side / zoom ** (octaves - 1 - octave))) for side in full]
        seen, dreamt = _resized(probe.images, size), _resized(dreamt, size)
        for step in range(octave * steps, (octave + 1) * steps):
            images = (seen + dreamt).clamp(0, 1)
            try:
                gradients = _shaken(dreaming, images, jitter, probe.targets, step)
            except (RuntimeError, VexbenchError) as error:
                if size == full:
                    raise
                told = str(error).partition("\n")[0]
                raise NotApplicable(
                    f"this network takes no images of {size[0]} × {size[1]} pixels ({told}); use octaves=1."
                ) from error
            images = (images + rate * _unit(_evened(gradients))).clamp(0, 1)
            dreamt = images - seen
            yield (step + 1) / (octaves * steps), images


@synthesis(
    title="Class visualisation", paper="Simonyan et al. 2013, arXiv:1312.6034; Yosinski et al. 2015, arXiv:1506.06579"
)
def class_visualisation(
    probe: Probe,
    *,
    steps: int = 160,
    rate: float = 0.01,
    decay: float = 0.3,
    variation: float = 50.0,
    jitter: int = 8,
) -> Steps:
    """The image that the class scores highest, among those that are smooth and not far from the mean colour.

    argmax_I y_c(I) − λ‖I − m‖² − τ·TV(I)  (Simonyan et al. 2013, eq. 1), with m the mean of the network's normalisation
    and TV(I) = Σ (I_i+1,j − I_ij)² + (I_i,j+1 − I_ij)², both over the number of pixels; by Adam on the pixels.

    Parameters
    ----------
    steps, rate
        Steps, and about how far a pixel goes in each.
    decay, variation
        λ and τ.
    jitter
        The largest shift between image and network, in pixels; another one in each step.

    Raises
    ------
    VexbenchError
        A number out of its range.
    """
    check("class_visualisation", least=1, steps=steps)
    check("class_visualisation", least=0, rate=rate, decay=decay, variation=variation, jitter=jitter)
    middle = probe.images.new_tensor(probe.classifier.mean)[:, None, None]
    images, adam = probe.images, Adam(rate)
    for step in range(steps):
        penalty = 2 * (decay * (images - middle) + variation * _roughness(images)) / images[0, 0].numel()
        images = (images + adam(_evened(_shaken(probe, images, jitter, probe.targets, step) - penalty))).clamp(0, 1)
        yield (step + 1) / steps, images


@synthesis(title="Feature visualisation", paper="Olah et al. 2017, doi:10.23915/distill.00007")
def feature_visualisation(
    probe: Probe,
    *,
    steps: int = 160,
    rate: float = 0.05,
    jitter: int = 8,
    scale: float = 0.1,
    rotation: float = 5.0,
) -> Steps:
    """The image whose shifted, scaled and turned views the class scores highest, sought among its frequencies.

    argmax_F E_T y_c(T(I)), I = sigmoid(C · IFFT(F / f)): waves in proportion to their lengths, as in photographs, and
    colours along axes that are uncorrelated there (Olah et al. 2017, "Preconditioning and Parameterization"); by Adam.

    Parameters
    ----------
    steps, rate
        Steps, and how far a coefficient goes in each.
    jitter, scale, rotation
        The largest shift in pixels, change of size as a share, and turn in degrees; others in each step.

    Raises
    ------
    VexbenchError
        A number out of its range.
    """
    check("feature_visualisation", least=1, steps=steps)
    check("feature_visualisation", least=0, rate=rate, jitter=jitter, scale=scale, rotation=rotation)
    if not scale < 1:
        raise VexbenchError(f"feature_visualisation: scale must be below 1, not {scale}.")
    waves, adam = Waves(probe.images), Adam(rate)
    coefficients = waves.of(probe.images)
    for step in range(steps):
        with differentiating():
            leaf = coefficients.detach().clone().requires_grad_()
            views = viewed(waves.images(leaf), _places(probe, step, jitter, scale, rotation))
            (ascent,) = torch.autograd.grad(views, leaf, _gradients(probe, views))
        coefficients = coefficients + adam(ascent)
        yield (step + 1) / steps, waves.images(coefficients)


@final
class Reading(nn.Module):
    """A network whose outputs are read from the features of one of its layers, so that a probe can ask about these."""

    def __init__(self, network: nn.Module, layer: str, read: Callable[[Features], Tensor]) -> None:
        super().__init__()
        self.network, self.layer, self.read = network, layer, read

    def forward(self, images: Images) -> Tensor:
        """(N, outputs)."""
        with observing(self.network) as finished:
            self.network(images)
        found = [output for name, _, output in finished if name == self.layer and output.ndim == 4]
        if not found:
            raise VexbenchError(f"layer '{self.layer}' gives no features (N, C, h, w); choose a convolutional layer.")
        return self.read(found[-1])


def reading(classifier: Classifier, layer: str, read: Callable[[Features], Tensor]) -> Classifier:
    """The classifier with another output: what `read` makes of a layer's features.

    Raises
    ------
    VexbenchError
        There is no such layer.
    """
    layers = [name for name, _ in classifier.module.named_modules() if name]
    if layer not in layers:
        raise unknown("layer", layer, layers)
    module = Reading(classifier.module, layer, read)
    return Classifier(module, mean=classifier.mean, std=classifier.std, target_layer=f"network.{layer}")


def channels(classifier: Classifier, layer: str) -> Classifier:
    """The classifier whose classes are the channels of a layer, by their mean activation."""
    return reading(classifier, layer, lambda features: features.mean((2, 3)))


def check(method: str, *, least: int, **numbers: Any) -> None:
    """Refuse numbers that are less than the least, infinite or none."""
    for name, value in numbers.items():
        if not least <= value < inf:
            raise VexbenchError(f"{method}: {name} must be at least {least}, not {value}.")


def _dreaming(probe: Probe, layer: str, evidence: bool) -> Probe:
    """A probe whose scores are J: its t-th class is the evidence for the t-th image's target, or the whole layer."""
    classifier, places = probe.classifier, torch.zeros(len(probe.images), dtype=torch.int64)
    name = layer or classifier.layer(probe.images)[0]
    if evidence:
        seen = Classifier(classifier.module, mean=classifier.mean, std=classifier.std, target_layer=name)
        means = (probe.of(classifier=seen) if layer else probe).trace.gradients.mean((2, 3))
        shares = means / means.abs().amax(1, keepdim=True).clamp(min=torch.finfo(means.dtype).tiny)
        weights, places = (shares * shares.abs()).T / 2, torch.arange(len(probe.images))
        read = partial(_evidence, weights=weights)
    else:
        read = _size
    dreaming = Probe(
        reading(classifier, name, read), probe.images, places, seed=probe.seed, batch_size=probe.batch_size
    )
    dreaming.passes = probe.passes
    return dreaming


def _size(features: Features) -> Tensor:
    return features.square().sum((1, 2, 3))[:, None] / 2


def _evidence(features: Features, weights: Tensor) -> Tensor:
    return features.relu().square().sum((2, 3)) @ weights.to(features.dtype)


def _gradients(probe: Probe, images: Images) -> Images:
    (gradients,) = probe.input_gradients([images])
    return gradients


def _shaken(probe: Probe, images: Images, jitter: int, keys: Targets, step: int) -> Images:
    """Gradients as the network sees the images shifted, what goes out comes in at the other side; shifts by key."""
    shifts = [
        tuple(torch.randint(-jitter, jitter + 1, (2,), generator=generator(probe.seed, "jitter", key, step)).tolist())
        for key in keys.tolist()
    ]
    rolled = torch.stack([image.roll(shift, (1, 2)) for image, shift in zip(images, shifts, strict=True)])
    back = zip(_gradients(probe, rolled), shifts, strict=True)
    return torch.stack([gradient.roll((-down, -right), (1, 2)) for gradient, (down, right) in back])


def _unit(values: Images) -> Images:
    """Scaled to a mean size of one, image by image; all zero stays zero."""
    return values / values.abs().mean((1, 2, 3), keepdim=True).clamp(min=torch.finfo(values.dtype).tiny)


def _evened(gradients: Images) -> Images:
    """Every band of frequencies, from fine to coarse, with the same mean size, so that fine grain does not rule."""
    total, rest = torch.zeros_like(gradients), gradients
    size = list(gradients.shape[2:])
    for level in range(1, BANDS):
        coarse = _resized(_resized(gradients, [max(1, side >> level) for side in size]), size)
        total, rest = total + _unit(rest - coarse), coarse
    return total + _unit(rest)


def _resized(images: Tensor, size: list[int]) -> Tensor:
    return functional.interpolate(images, size, mode="bilinear", antialias=True, align_corners=False)


def _roughness(images: Images) -> Images:
    """Half the gradient of the total variation: what a pixel has above its neighbours."""
    inner = functional.pad(images, (1, 1, 1, 1), mode="replicate")
    around = inner[..., 2:, 1:-1] + inner[..., :-2, 1:-1] + inner[..., 1:-1, 2:] + inner[..., 1:-1, :-2]
    return 4 * images - around


@final
class Adam:
    """Steps of about one rate per number, whatever the gradients' scale (Kingma & Ba 2015, algorithm 1)."""

    def __init__(self, rate: float) -> None:
        self.rate, self.count = rate, 0
        self.mean, self.square = torch.zeros(()), torch.zeros(())

    def __call__(self, gradients: Tensor) -> Tensor:
        """The step that the gradients and those before them ask for."""
        self.count += 1
        self.mean = 0.9 * self.mean.to(gradients) + 0.1 * gradients
        self.square = 0.999 * self.square.to(gradients) + 0.001 * gradients.square()
        mean, square = self.mean / (1 - 0.9**self.count), self.square / (1 - 0.999**self.count)
        return self.rate * mean / (square.sqrt() + 1e-8)


@final
class Waves:
    """Images as waves: coefficients (N, 3, H, W/2 + 1, 2) per colour axis and frequency.

    A coefficient counts by the wave's length, as the spectrum of photographs falls with the frequency f as 1/f
    (Field 1987). The colour axes are light, red against blue, and green against both, which are hardly correlated in
    photographs, and vary less and less (Ruderman et al. 1998).
    """

    def __init__(self, images: Images) -> None:
        self.size = list(images.shape[2:])
        height, width = self.size
        down = torch.fft.fftfreq(height, dtype=torch.float32, device=images.device)
        across = torch.fft.rfftfreq(width, dtype=torch.float32, device=images.device)
        lengths = 1 / torch.hypot(down[:, None], across[None]).clamp(min=1 / max(height, width))
        self.lengths = lengths / lengths.square().mean().sqrt()
        axes = images.new_tensor([[1.0, 1.0, 1.0], [1.0, 0.0, -1.0], [-1.0, 2.0, -1.0]])
        spread = images.new_tensor([1.0, 0.35, 0.15])
        self.colours = spread[:, None] * axes / axes.norm(dim=1, keepdim=True)

    def images(self, coefficients: Tensor) -> Images:
        """Images in [0, 1]."""
        planes = torch.fft.irfft2(torch.view_as_complex(coefficients) * self.lengths, s=self.size, norm="ortho")
        return torch.einsum("nkhw,kc->nchw", planes, self.colours).sigmoid()

    def of(self, images: Images) -> Tensor:
        """Coefficients of images; what is black or white comes back as nearly so."""
        planes = torch.einsum("nchw,ck->nkhw", images.clamp(0.01, 0.99).logit(), torch.linalg.inv(self.colours))
        return torch.view_as_real(torch.fft.rfft2(planes, norm="ortho") / self.lengths)


def _places(probe: Probe, step: int, jitter: int, scale: float, rotation: float) -> Tensor:
    """(N, 2, 3): where a view's pixels lie in the image, from its middle, in halves of its sides."""
    height, width = probe.images.shape[2:]
    rows: list[Tensor] = []
    for target in probe.targets.tolist():
        draw = 2 * torch.rand(4, generator=generator(probe.seed, "view", target, step), dtype=torch.float32) - 1
        angle, size = draw[0] * rotation * pi / 180, 1 + scale * draw[1]
        cos, sin = angle.cos() / size, angle.sin() / size
        right, down = 2 * jitter * draw[2] / width, 2 * jitter * draw[3] / height
        rows.append(torch.stack([cos, -sin * height / width, right, sin * width / height, cos, down]).view(2, 3))
    return torch.stack(rows).to(probe.images.device)


def viewed(images: Images, places: Tensor) -> Images:
    """Each image through its own affine map, mirrored beyond its border."""
    grid = functional.affine_grid(places, list(images.shape), align_corners=False)
    return functional.grid_sample(images, grid, padding_mode="reflection", align_corners=False)
