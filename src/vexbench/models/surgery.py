"""Networks like a given one, with parts of what it learnt taken away."""

from collections.abc import Iterator
from copy import deepcopy

import torch
from torch import nn

from vexbench.errors import VexbenchError, unknown
from vexbench.hooks import observing
from vexbench.models.base import Classifier
from vexbench.seeds import generator
from vexbench.types import Images

ORDERS = ("bottom_up", "top_down")


def cascade(
    classifier: Classifier, images: Images, *, seed: int, order: str = "bottom_up", stages: int = 0
) -> Iterator[tuple[frozenset[str], Classifier]]:
    """Randomise one layer after the other, each staying random, in a copy; yield the network after each layer.

    With it the names of the layers that are random by then, which say all that makes it: whatever the order and the
    number of stages, networks with the same layers randomised are the same network.

    The copy is one and the same and changes as the iteration goes on, so that memory holds one network more, whatever
    the depth; what is yielded must be used before the next is asked for. The random weights depend on the seed and on
    the layer's name alone: every caller meets the same networks.

    Parameters
    ----------
    classifier
        Left as it is, as is torch's global generator.
    images
        The first one is passed through the network to see the order of the layers.
    order
        ``bottom_up``: from the image on; ``top_down``: from the logits on.
    stages
        0 yields after every layer; k at k evenly spaced points, the last of them with all layers random.

    Raises
    ------
    VexbenchError
        An order that does not exist, or a negative number of stages.
    """
    if order not in ORDERS:
        raise unknown("order", order, ORDERS)
    if stages < 0:
        raise VexbenchError(f"stages must be 0 (after every layer) or more, not {stages}.")
    # this pass also replaces activations that the network may keep and that hang on their graph, which cannot be copied
    steps = layers(classifier, images)
    with torch.inference_mode(False):
        copy = classifier.around(deepcopy(classifier.module))
    if order == "top_down":
        steps = steps[::-1]
    stages = min(stages, len(steps)) or len(steps)
    stops = {round(stop * len(steps) / stages) for stop in range(1, stages + 1)}
    names = [name for name, _ in steps]
    for done, name in enumerate(names, start=1):
        randomise(copy.module.get_submodule(name), generator(seed, "randomised", name))
        if done in stops:
            yield frozenset(names[:done]), copy


def layers(classifier: Classifier, images: Images) -> list[tuple[str, nn.Module]]:
    """Parts of the network with parameters or running statistics of their own, in the order in which they finish.

    A part that is not seen to finish (it gives no tensor, or its parent uses its weights directly) stands behind the
    one defined before it.
    """
    with torch.no_grad(), observing(classifier.module) as finished:
        classifier.logits(images[:1])
    seen: dict[str, int] = {}
    for place, (name, _, _) in enumerate(finished):
        seen.setdefault(name, place)
    places, last = dict[str, int](), -1
    for name, part in classifier.module.named_modules():
        if next(part.parameters(recurse=False), None) is not None or learns_statistics(part):
            last = places[name] = seen.get(name, last)
    # sorted is stable: definition decides where the place is the same
    return [(name, classifier.module.get_submodule(name)) for name in sorted(places, key=places.__getitem__)]


def learns_statistics(layer: nn.Module) -> bool:
    """Whether a layer keeps what it saw in training, as batch normalisation does, and can forget it."""
    named = (name for name, _ in layer.named_buffers(recurse=False))
    return hasattr(layer, "reset_parameters") and any(name.startswith("running_") for name in named)


def randomise(layer: nn.Module, source: torch.Generator) -> None:
    """Draw a layer's own parameters anew, in place, by its own initialisation, as if it had never been trained.

    Running statistics are forgotten with them, also where there are no parameters.

    Parameters that this does not reach (a bare `nn.Parameter`, weight normalisation) are drawn from a normal
    distribution around 0 of the size that they had.
    """
    own = list(layer.parameters(recurse=False))
    before = [parameter.detach().clone() for parameter in own]
    reset = getattr(layer, "reset_parameters", None)
    with torch.no_grad():
        if reset is not None:
            device = next(iter((*own, *layer.buffers(recurse=False)))).device
            # initialisations draw from the global generator of the device: lend them the CPU's, so that they draw the
            # same numbers everywhere; torch.manual_seed would reseed the GPUs' for good
            with torch.random.fork_rng(devices=[]):
                torch.default_generator.set_state(source.get_state())
                layer.cpu()
                reset()
                layer.to(device)
        for parameter, old in zip(own, before, strict=True):
            # a bias or a scale may well have its initial value still; a matrix of weights has been missed
            if reset is None or (parameter.ndim > 1 and torch.equal(parameter, old)):
                size = old.square().mean().sqrt().cpu()
                parameter.copy_(torch.randn(old.shape, generator=source) * size)
