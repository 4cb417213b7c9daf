"""Networks of our own: small, VGG-like, with a head that makes CAM exact."""

from itertools import pairwise
from typing import final, no_type_check

import torch
from jaxtyping import Float
from torch import Tensor, nn

from vexbench.types import Features, Images, Logits

STAGES = ((1,), (2,), (4, 6), (8, 12, 16))
"""Channels of each 3×3 convolution in multiples of the width; between stages the features are halved."""


def conv_stages(width: int) -> nn.Sequential:
    """Stages of (convolution, batch norm, ReLU) with max pooling between them: (N, 3, H, W) to (N, 16·width, H/8, W/8).

    Most channels sit where the features are small: 170 million multiplications for an image of 96 pixels at width 16.
    """
    layers: list[nn.Module] = []
    channels = [3, *(width * multiple for stage in STAGES for multiple in stage)]
    pairs = pairwise(channels)
    for number, stage in enumerate(STAGES):
        if number:
            layers.append(nn.MaxPool2d(2))
        for _ in stage:
            before, after = next(pairs)
            layers += [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers)


@final
class PlainCNN(nn.Module):
    """The paper's "our CNN": VGG-like features, global average pooling, one linear layer.

    Width 16 has 0.85 million parameters. The last features are H/8 × W/8 (12 × 12 for 96 pixels).

    >>> PlainCNN(6, width=4)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 6])
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.features = conv_stages(width)
        self.classifier = nn.Linear(16 * width, num_classes)

    @no_type_check  # torch.fx follows a stand-in for the images, which is no tensor
    def forward(self, images: Images) -> Logits:
        """Logits of the images."""
        return self.classifier(self.features(images).mean((2, 3)))


@final
class SelfAttention(nn.Module):
    """Spatial self-attention with a residual: y = x + γ·(β h(x)), β = softmax_i(f(x_i)ᵀ g(x_j)).

    γ starts at 0, so that the block starts as the identity (Zhang et al. 2019, eq. 1-3).
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.key = nn.Conv2d(channels, channels // 8, 1)
        self.query = nn.Conv2d(channels, channels // 8, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.gamma = nn.Parameter(torch.zeros(()))

    def affinity(self, features: Features) -> Float[Tensor, "N hw hw"]:
        """β: row j says from which positions i the position j gathers; rows sum to one."""
        query, key = self.query(features).flatten(2), self.key(features).flatten(2)
        return (query.transpose(1, 2) @ key).softmax(-1)

    @no_type_check  # torch.fx follows a stand-in for the images, which is no tensor
    def forward(self, features: Features) -> Features:
        """Add to each position what it gathers from all others."""
        gathered = self.value(features).flatten(2) @ self.affinity(features).transpose(1, 2)
        return features + self.gamma * gathered.unflatten(2, features.shape[2:])


@final
class AttentionCNN(nn.Module):
    """The plain CNN with spatial self-attention on its last features.

    >>> AttentionCNN(6, width=4)(torch.rand(2, 3, 32, 32)).shape
    torch.Size([2, 6])
    """

    def __init__(self, num_classes: int, width: int = 16) -> None:
        super().__init__()
        self.features = conv_stages(width)
        self.attention = SelfAttention(16 * width)
        self.classifier = nn.Linear(16 * width, num_classes)

    @no_type_check  # torch.fx follows a stand-in for the images, which is no tensor
    def forward(self, images: Images) -> Logits:
        """Logits of the images."""
        return self.classifier(self.attention(self.features(images)).mean((2, 3)))
