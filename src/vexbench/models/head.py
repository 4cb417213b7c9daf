"""A network behind its target layer."""

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import final

import torch

from vexbench.hooks import cutting, replacing
from vexbench.models.base import Classifier
from vexbench.seeds import generator
from vexbench.types import Features, Images, Logits


@final
class Head:
    """Logits from features that stand in for those of the target layer.

    Whether they hang on the layer's last features alone is tried: with a stranger in front, some images' features must
    give those images' logits. What is found hangs on the network, not on the images.
    """

    def __init__(
        self, classifier: Classifier, images: Images, around: Callable[[], AbstractContextManager[object]]
    ) -> None:
        self._classifier = classifier
        self._stranger = torch.rand((1, *images.shape[1:]), generator=generator("stranger")).to(images)
        name, self._layer = classifier.layer(images)
        with torch.inference_mode(False), torch.enable_grad(), cutting(self._layer, name) as leaves, around():
            expected = classifier.logits(images).detach()
        self._uses = len(leaves)
        with around():
            self.alone = self._gives(expected, leaves[-1].detach())

    def logits(self, features: Features, images: Images | None = None) -> Logits:
        """Logits from features behind the images' own way to them, or behind a stranger's."""
        with replacing(self._layer, features, self._uses):
            return self._classifier.logits(self._stranger if images is None else images)

    def _gives(self, expected: Logits, features: Features) -> bool:
        with torch.no_grad():
            try:
                found = self.logits(features)
            except Exception:  # noqa: BLE001  sizes that do not fit, or what they lead to; other errors come again
                return False
        rounding = max(1e-5, torch.finfo(self._classifier.dtype).eps) * expected.abs().max()
        return found.shape == expected.shape and bool((found - expected).abs().max() <= rounding)
