"""Other libraries' methods in one line: captum's attributions and pytorch-grad-cam's CAMs as registered methods.

The peer gets a copy of the network that takes images in [0, 1] and gives float32 logits, in evaluation mode and with
gradients for all its weights, so that the caller's network is left alone whatever the peer does. It is given one image
after the other, which bounds the memory, and keeps an image's map from hanging on its company.
"""

import inspect
import random
import re
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout, suppress
from copy import deepcopy
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, packages_distributions, version
from io import StringIO
from typing import Any, cast, final

import numpy as np
import torch
from torch import Tensor, nn

from vexbench.errors import NotApplicable, VexbenchError
from vexbench.hooks import observing
from vexbench.models.base import Classifier
from vexbench.probe import Passes, Probe
from vexbench.readout import differentiating
from vexbench.registry import METHODS, MethodEntry
from vexbench.seeds import generator
from vexbench.types import Images, Logits, Maps

Attribute = Callable[["Network", Probe, Images, int, dict[str, Any]], Tensor]


@final
class Network(nn.Module):
    """A copy of a classifier's network with its normalisation inside, that counts the images it sees."""

    def __init__(self, classifier: Classifier, images: Images, passes: Passes) -> None:
        super().__init__()
        with torch.inference_mode(False):  # weights made in a caller's inference mode would take no gradients
            self.module = deepcopy(classifier.module).eval().requires_grad_(True)
        self.train(False)
        self.normalise, self.dtype, self.passes = classifier.normalise, classifier.dtype, passes
        self._find = lambda: classifier.layer(images)[0], images[:1]

    @cached_property
    def layer(self) -> nn.Module:
        """The target layer; not all peers need one, nor have all networks.

        Raises
        ------
        NotApplicable
            The layer is used several times in a pass: peers take the last use, whatever that is, for the features.
        """
        find, image = self._find
        layer = find()
        with torch.no_grad(), observing(self.module) as finished:
            self.module(self.normalise(image).to(self.dtype))
        if sum(name == layer for name, _, _ in finished) != 1:
            raise NotApplicable(
                f"the target layer '{layer}' is used several times, and other libraries see its last use only; "
                "give target_layer= another one."
            )
        return self.module.get_submodule(layer)

    def forward(self, images: Images) -> Logits:
        """Logits of images in [0, 1]."""
        self.passes.forward += len(images)
        return self.module(self.normalise(images).to(self.dtype)).float()


def from_captum(
    attribution: Callable[..., Any], name: str | None = None, *, signed: bool = True, **attribute_options: Any
) -> str:
    """Register a captum attribution as a method.

    Parameters
    ----------
    attribution
        The class, e.g. ``captum.attr.IntegratedGradients``, or any function of a network, and of a layer where it has
        a parameter `layer`, to an object with ``attribute(images, target=…)``.
    name
        The method's id; ``captum_integrated_gradients``, say, by default.
    signed
        Signed maps are sums over the colours or channels, M = Σ_c a_c; others are M = max_c |a_c|.
    attribute_options
        What ``attribute`` is given: numbers, names, booleans, or tuples of them. They become the method's parameters.

    Returns
    -------
    name
        The id.

    `passes` counts the images that the peer sends forward through the network; how often it goes back is its own
    affair. Random numbers that it draws from torch's, numpy's or Python's global generator are seeded by image.

    Raises
    ------
    VexbenchError
        An option that names no result, a function without a name, or a name that is taken.
    """

    def attribute(network: Network, probe: Probe, image: Images, target: int, options: dict[str, Any]) -> Tensor:
        layered = "layer" in inspect.signature(attribution).parameters
        method = attribution(network, network.layer) if layered else attribution(network)
        # else all steps of a path go through the network at once
        if "internal_batch_size" in inspect.signature(method.attribute).parameters:
            options = {"internal_batch_size": probe.batch_size, **options}
        found = method.attribute(image.clone().requires_grad_(), target=target, **options)
        if isinstance(found, tuple) and len(found) == 1:
            (found,) = found
        if not isinstance(found, Tensor) or found.ndim != 4:
            came = tuple(found.shape) if isinstance(found, Tensor) else type(found).__name__
            raise TypeError(f"it gave {came} where attributions (1, C, h, w) are needed")
        found = found.detach().float()
        return found.sum(1) if signed else found.abs().amax(1)

    return _register(attribution, name, "other", signed, attribute, attribute_options)


def from_pytorch_grad_cam(cam: Callable[..., Any], name: str | None = None, **options: Any) -> str:
    """Register a pytorch-grad-cam class as a method.

    Parameters
    ----------
    cam
        The class, e.g. ``pytorch_grad_cam.GradCAM``, or a function of a network and a list of layers to such an object.
    name
        The method's id; ``pytorch_grad_cam_grad_cam``, say, by default.
    options
        For the class where it knows them, else for the call (``eigen_smooth=True``): numbers, names, booleans, or
        tuples of them. They become the method's parameters.

    Returns
    -------
    name
        The id.

    The library scales each map to [0, 1] and resizes it to the image by itself. `passes` counts the images that it
    sends forward through the network; how often it goes back is its own affair.

    Raises
    ------
    VexbenchError
        An option that names no result, a function without a name, or a name that is taken.
    """

    def attribute(network: Network, probe: Probe, image: Images, target: int, options: dict[str, Any]) -> Tensor:
        def score(logits: Tensor) -> Tensor:
            return logits[..., target]

        known = inspect.signature(cam).parameters
        # not its context manager, which swallows an IndexError
        method = cam(network, [network.layer], **{key: value for key, value in options.items() if key in known})
        if hasattr(method, "batch_size"):
            method.batch_size = probe.batch_size
        rest = {key: value for key, value in options.items() if key not in known}
        maps = method(image.clone(), [score], **rest)
        if hasattr(method, "activations_and_grads"):
            method.activations_and_grads.release()  # the next image comes to the same copy
        return torch.from_numpy(np.array(maps, dtype=np.float32))

    return _register(cam, name, "cam", False, attribute, options)


def _register(
    peer: Callable[..., Any],
    name: str | None,
    family: str,
    signed: bool,
    attribute: Attribute,
    options: dict[str, Any],
) -> str:
    title, module = getattr(peer, "__name__", ""), getattr(peer, "__module__", "") or ""
    library = module.partition(".")[0]
    if name is None and not title.isidentifier():
        raise VexbenchError("a function without a name needs one as a method: give name=.")
    chosen = name or f"{library}_{snake(title)}"
    called = f"{title} ({library.replace('_', '-')})" if title.isidentifier() else chosen
    for option, value in options.items():
        if not _plain(value):
            raise VexbenchError(
                f"{chosen}: option {option} must be a number, a name, a boolean or a tuple of them, "
                f"not {type(value).__name__}; give a function that builds the peer with it instead."
            )

    def method(probe: Probe, **params: Any) -> Maps:
        network = Network(probe.classifier, probe.images, probe.passes)
        maps: list[Tensor] = []
        for image, target, key in zip(probe.images.split(1), probe.targets.tolist(), probe.fingerprints, strict=True):
            start = generator(probe.seed, chosen, key).initial_seed()
            try:
                with seeded(start, probe.images.device), differentiating(), quiet():
                    maps.append(attribute(network, probe, image, target, params))
            except NotApplicable:
                raise
            except Exception as error:  # whatever the peer raises, it is one line here
                told = " ".join(f"{error}".split("\n\n")[0].split()) or "no message"
                raise NotApplicable(f"{called} fails here: {type(error).__name__}: {told}") from error
        return torch.cat(maps).to(probe.images.device) if maps else probe.images[:, 0]

    asked = [inspect.Parameter(key, inspect.Parameter.KEYWORD_ONLY, default=value) for key, value in options.items()]
    first = inspect.Parameter("probe", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    described = cast("Any", method)  # functions take attributes
    described.__signature__ = inspect.Signature([first, *asked])
    described.__name__ = described.__qualname__ = chosen
    described.__module__ = module or __name__
    described.__doc__ = f"{called}, as {_version(library)} computes it."
    needs = ("what the library asks for",)
    METHODS.add(MethodEntry(chosen, called, family, _version(library), method, signed=signed, needs=needs))
    return chosen


@contextmanager
def quiet() -> Iterator[None]:
    """Keep what libraries say of how they themselves work, and their progress bars, out of ours."""
    with warnings.catch_warnings(action="ignore"), redirect_stdout(StringIO()), redirect_stderr(StringIO()):
        yield


@contextmanager
def seeded(seed: int, device: torch.device) -> Iterator[None]:
    """Seed the global generators of torch, numpy and Python, in single precision, and leave all as it was."""
    python, numpy, precision = random.getstate(), np.random.get_state(), torch.get_default_dtype()
    devices = [device] if device.type == "cuda" else []
    try:
        with torch.random.fork_rng(devices):
            torch.set_default_dtype(torch.float32)
            torch.manual_seed(seed)
            np.random.seed(seed % 2**32)
            random.seed(seed)
            yield
    finally:
        torch.set_default_dtype(precision)
        random.setstate(python)
        np.random.set_state(numpy)


def snake(name: str) -> str:
    """A class's name as an id.

    >>> snake("GradCAMPlusPlus"), snake("IntegratedGradients"), snake("XGradCAM"), snake("ScoreCAM")
    ('grad_cam_plus_plus', 'integrated_gradients', 'x_grad_cam', 'score_cam')
    """
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()


def _plain(value: object) -> bool:
    return all(map(_plain, value)) if isinstance(value, tuple) else isinstance(value, bool | int | float | str)


@cache  # who has which modules is asked of all that is installed
def _version(library: str) -> str:
    """A module's distribution with its version."""
    for distribution in (library, *packages_distributions().get(library, ())):
        with suppress(PackageNotFoundError, ValueError):
            return f"{distribution} {version(distribution)}"
    return library or "a function of one's own"
