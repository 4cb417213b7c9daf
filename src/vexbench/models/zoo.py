"""Networks by name: our own, torchvision's and timm's.

torchvision and timm take seconds to import, so they are imported where one of their names is asked for.
"""

from collections.abc import Callable
from functools import partial
from typing import Final

from torch import nn

from vexbench.errors import VexbenchError, unknown
from vexbench.models.networks import AttentionCNN, PlainCNN
from vexbench.models.pretrained import PACKAGED, load_packaged

OWN: Final[dict[str, Callable[[int], nn.Module]]] = {
    "plain_cnn": PlainCNN,
    "plain_cnn_small": partial(PlainCNN, width=8),
    "attention_cnn": AttentionCNN,
}
"""Our networks, by the number of classes."""

TARGET_LAYERS: Final = {"plain_cnn": "features", "plain_cnn_small": "features", "attention_cnn": "attention"}
"""The last features of our networks; those of the others are found when a method first asks."""

TITLES: Final = {
    "plain_cnn": "Plain CNN",
    "plain_cnn_small": "Plain CNN, small",
    "attention_cnn": "Attention CNN",
}

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)

AUXILIARY: Final = ("googlenet", "inception_v3")
"""torchvision's networks with auxiliary heads; their weights come from TensorFlow, with its normalisation."""


def architectures() -> dict[str, list[str]]:
    """Names that `build` knows without asking timm: our own, and torchvision's classifiers."""
    from torchvision import models

    return {"own": list(OWN), "torchvision": models.list_models(module=models)}


def build(architecture: str, num_classes: int, *, pretrained: bool = False) -> nn.Module:
    """Build a network that gives (N, num_classes) logits.

    Our own names come first, then torchvision's, then timm's; ``timm/NAME`` asks for timm's where both have one.
    `pretrained` takes ImageNet weights; the head is new unless there are 1000 classes.

    Raises
    ------
    VexbenchError
        No such network, no such weights, or the weights could not be downloaded.
    """
    if architecture in OWN:
        if pretrained:
            raise VexbenchError(f"{architecture} has no pretrained weights; leave out --pretrained or choose resnet18.")
        return OWN[architecture](num_classes)
    if architecture in architectures()["torchvision"]:
        return _from_torchvision(architecture, num_classes, pretrained)
    import timm

    name = architecture.removeprefix("timm/")
    if not timm.is_model(name):
        known = [*OWN, *architectures()["torchvision"], *timm.list_models()]
        raise unknown("network", architecture, known)
    if pretrained and name in PACKAGED:
        return load_packaged(name, num_classes)
    try:
        return timm.create_model(name, pretrained=pretrained, num_classes=num_classes)
    except (OSError, RuntimeError) as error:
        raise _unavailable(architecture, error) from error


def normalisation(
    architecture: str, *, pretrained: bool
) -> tuple[tuple[float, float, float], tuple[float, float, float]] | None:
    """Mean and std that the pretrained weights expect; None without such weights."""
    if not pretrained:
        return None
    import timm

    name = architecture.removeprefix("timm/")
    if architecture in AUXILIARY:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    if architecture in architectures()["torchvision"] or not timm.is_model(name):
        return IMAGENET_MEAN, IMAGENET_STD
    config = timm.get_pretrained_cfg(name)
    return (config.mean, config.std) if config else (IMAGENET_MEAN, IMAGENET_STD)  # pyright: ignore[reportReturnType]


def _from_torchvision(architecture: str, num_classes: int, pretrained: bool) -> nn.Module:
    from torchvision import models

    # auxiliary heads give tuples instead of logits
    options = {"aux_logits": False, "init_weights": not pretrained} if architecture in AUXILIARY else {}
    if not pretrained:
        return models.get_model(architecture, weights=None, num_classes=num_classes, **options)
    weights = models.get_model_weights(architecture)["DEFAULT"]
    try:
        if architecture in AUXILIARY:
            # given its weights, torchvision insists on the heads, and turns ImageNet's normalisation into TensorFlow's
            module = models.get_model(architecture, weights=None, **options)
            kept = weights.get_state_dict(progress=True, check_hash=True)
            module.load_state_dict({key: value for key, value in kept.items() if not key.lower().startswith("aux")})
        else:
            module = models.get_model(architecture, weights=weights)
    except (OSError, RuntimeError) as error:
        raise _unavailable(architecture, error) from error
    return module if num_classes == len(weights.meta["categories"]) else _new_head(module, num_classes)


def _new_head(module: nn.Module, num_classes: int) -> nn.Module:
    """Replace the last layer with weights, which gives the logits in all of torchvision's classifiers."""
    name, last = next(
        (name, part) for name, part in reversed(list(module.named_modules())) if isinstance(part, nn.Linear | nn.Conv2d)
    )
    if isinstance(last, nn.Linear):
        head: nn.Module = nn.Linear(last.in_features, num_classes, bias=last.bias is not None)
    else:
        head = nn.Conv2d(last.in_channels, num_classes, kernel_size=1)
    module.set_submodule(name, head)
    if hasattr(module, "num_classes"):
        module.num_classes = num_classes  # pyright: ignore[reportArgumentType]
    return module


def _unavailable(architecture: str, error: Exception) -> VexbenchError:
    reason = str(error).partition("\n")[0]
    return VexbenchError(
        f"pretrained weights of {architecture} could not be had ({reason}); check the network connection, "
        "or train without --pretrained."
    )
