"""A classifier: a network with what is needed to ask it about images in [0, 1]."""

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from hashlib import sha256
from typing import Any, Final, final

import torch
from jaxtyping import Float
from torch import Tensor, fx, nn

from vexbench.errors import NotApplicable, VexbenchError, unknown
from vexbench.hooks import cutting, evaluating, observing
from vexbench.models.graph import Folded, hooked, traced
from vexbench.models.identity import describe
from vexbench.types import Images, Logits

PRECISIONS: Final = {"fp32": torch.float32, "bf16": torch.bfloat16}

WRONG_SIZE = ("shapes cannot be multiplied", "size is too small", "size can't be greater than")
"""How torch says that an image has not the size that a network takes."""


@final
class Classifier:
    """Any `torch.nn.Module` that gives logits, with its normalisation, layer names and class names.

    The normalisation lives here, so that methods, baselines and attacks all work on images in [0, 1].
    The network is used in evaluation mode and left as it was found. `card` is what training noted of it. `precision` is
    that of scores that nobody differentiates: bf16 takes half the time of fp32 on CPUs that know it, and moves logits
    by half a per cent; gradients, and networks that torch.fx cannot follow, stay in fp32.

    >>> network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    >>> Classifier(network, mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5)).logits(torch.rand(2, 3, 8, 8)).shape
    torch.Size([2, 2])

    Raises
    ------
    VexbenchError
        A mean or std of the wrong length or not finite, a std of zero, a layer or precision that does not exist, or
        weights that are not finite, or made in inference mode.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        mean: Sequence[float] = (0.0, 0.0, 0.0),
        std: Sequence[float] = (1.0, 1.0, 1.0),
        target_layer: str | None = None,
        class_names: Sequence[str] | None = None,
        input_size: int | None = None,
        name: str | None = None,
        card: Mapping[str, Any] | None = None,
        precision: str = "fp32",
    ) -> None:
        finite = all(map(math.isfinite, (*mean, *std)))
        if len(mean) != 3 or len(std) != 3 or not finite or any(value <= 0 for value in std):
            raise VexbenchError(f"mean and std must be three numbers each, std above zero; got {mean} and {std}.")
        for key, weight in module.state_dict().items():
            if weight.is_inference():
                raise VexbenchError(
                    f"weight '{key}' was made in torch.inference_mode() and takes no gradients; "
                    "build the network outside of it."
                )
            if weight.is_floating_point() and not bool(torch.isfinite(weight).all()):
                raise VexbenchError(
                    f"weight '{key}' holds NaN or infinite values; train again or use another checkpoint."
                )
        if precision not in PRECISIONS:
            raise unknown("precision", precision, PRECISIONS)
        layers = dict(module.named_modules())
        if target_layer is not None and target_layer not in layers:
            raise unknown("target layer", target_layer, (layer for layer in layers if layer))
        self.module = module
        self.mean, self.std = tuple(mean), tuple(std)
        self.target_layer = target_layer
        self.class_names = tuple(class_names) if class_names is not None else None
        self.input_size = input_size
        self.name = name or type(module).__name__
        self.card = dict(card or {})
        self.precision = precision

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((weight.device for weight in self.module.parameters()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """What the network calculates in; images come, and logits go, as float32."""
        return next((weight.dtype for weight in self.module.parameters()), torch.float32)

    @property
    def digest(self) -> str:
        """Eight characters that change with structure, code, any weight, normalisation, target layer or precision.

        Hashed at each call, since weights can change in place. Code counts by its source: logits, however rounded,
        differ between machines near a rounding's edge, and bytecode differs between Pythons.
        """
        digest = sha256(repr((self.module, self.mean, self.std, self.target_layer, self.input_size)).encode())
        if self.precision != "fp32":
            digest.update(self.precision.encode())
        for line in describe(self.module):
            digest.update(line.encode())
        for name, weight in sorted(self.module.state_dict().items()):
            digest.update(name.encode())
            digest.update(weight.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()[:8]

    def around(self, module: nn.Module) -> "Classifier":
        """The same normalisation, layer and class names around another network of the same structure."""
        other = Classifier(
            module,
            mean=self.mean,
            std=self.std,
            target_layer=self.target_layer,
            class_names=self.class_names,
            input_size=self.input_size,
            name=self.name,
            precision=self.precision,
        )
        other._classes, other._found, other.folding = self._classes, self._found, self.folding
        return other

    def normalise(self, images: Images) -> Images:
        """(images − mean) / std, per channel."""
        mean, std = (torch.tensor(values, device=images.device, dtype=images.dtype) for values in (self.mean, self.std))
        return (images - mean[:, None, None]) / std[:, None, None]

    def logits(self, images: Images) -> Float[Tensor, "rows classes"]:
        """Outputs for images in [0, 1], a row for each; differentiable where gradients are enabled.

        Raises
        ------
        VexbenchError
            The network's output is not one row of logits per image.
        """
        try:
            with evaluating(self.module):
                output = self.module(self.normalise(images).to(self.dtype))
        except RuntimeError as error:
            if not any(words in str(error) for words in WRONG_SIZE):
                raise
            size, reason = "×".join(map(str, images.shape[2:])), str(error).partition("\n")[0]
            raise VexbenchError(f"the network cannot take images of {size} pixels ({reason}); resize them.") from error
        if not isinstance(output, Tensor) or output.ndim != 2:
            came = tuple(output.shape) if isinstance(output, Tensor) else type(output).__name__
            raise VexbenchError(
                f"the network must give logits of shape (N, classes), not {came}; wrap it in a module that does."
            )
        if self.class_names is not None and len(self.class_names) != output.shape[1]:
            raise VexbenchError(
                f"the network gives {output.shape[1]} logits, but there are {len(self.class_names)} class names."
            )
        return output.float()

    def graph(self, images: Images) -> Folded | None:
        """The network as a folded graph that takes normalised images; its logits are the network's, to rounding.

        Asked anew for each question, since a network may have changed in any way: the graph must give the network's
        logits for these images now, in float32, whatever the precision of scores. None where torch.fx cannot follow the
        network's code, where it has hooks, in another precision than float32, and where `folding` is off.
        """
        if not self.folding or hooked(self.module) or self.dtype != torch.float32:
            return None
        state = (
            self.precision,
            *((id(value), value._version) for value in self.module.state_dict(keep_vars=True).values()),
        )
        if self._kept is not None and self._kept[0] == state:
            folded = self._kept[1]
            if folded is None or self._alike(folded.exact, images):
                return folded
        graph = traced(self.module)
        usable = graph is not None and self._alike(graph, images)
        self._kept = (state, self._folded(graph, images) if graph is not None and usable else None)
        return self._kept[1]

    def _folded(self, graph: fx.GraphModule, images: Images) -> Folded:
        """In the precision of scores; in float32 where the network's code takes no other."""
        folded = Folded(graph, PRECISIONS[self.precision])
        with suppress(Exception), torch.no_grad():  # whatever a step does that is given another precision
            folded(self.normalise(images))
            return folded
        return Folded(graph, torch.float32)

    def _alike(self, graph: fx.GraphModule, images: Images) -> bool:
        """Whether a graph gives the network's logits."""
        with torch.no_grad():
            expected = self.logits(images)
            try:
                found = graph(self.normalise(images).contiguous(memory_format=torch.channels_last))
            except Exception:  # noqa: BLE001  whatever a graph does that was traced for other sizes
                return False
        alike = isinstance(found, Tensor) and found.shape == expected.shape
        return alike and bool((found - expected).abs().max() <= 1e-5 * expected.abs().max())

    folding: bool = True
    """Whether scores may come from the folded graph; off, all comes from the network as it is."""
    _kept: tuple[tuple[Any, ...], Folded | None] | None = None

    def classes(self, images: Images) -> int:
        """How many classes there are; without class names found by a pass over one image."""
        if self.class_names is not None:
            return len(self.class_names)
        if self._classes is None:
            with torch.no_grad():
                self._classes = self.logits(images[:1]).shape[1]
        return self._classes

    _classes: int | None = None

    def layer(self, images: Images, name: str = "") -> tuple[str, nn.Module]:
        """A layer's name and module; without a name the target layer, found by a pass over one image if need be."""
        if name:
            layers = dict(self.module.named_modules())
            if name not in layers:
                raise unknown("layer", name, filter(None, layers))
            return name, layers[name]
        if self._found is None:
            self._found = self.target_layer if self.target_layer is not None else find_target_layer(self, images[:1])
        return self._found, self.module.get_submodule(self._found)

    _found: str | None = None


def find_target_layer(classifier: Classifier, images: Images) -> str:
    """Name the last spatial features before pooling and classifier.

    Parts are seen in the order in which they finish. Pooling, dropout, and a convolution that gives the class scores
    (squeezenet) are no features. Of parts with one output, the outermost names it (``layer4``, not ``layer4.1.relu``).

    Raises
    ------
    NotApplicable
        No part gives spatial features, or what the network makes of them is tokens or has its channels last.
    VexbenchError
        Not all information flows through the layer found: the candidates are listed, to choose from.
    """
    with torch.no_grad(), observing(classifier.module) as finished:
        classes = classifier.logits(images).shape[1]
    weighted = [i for i, (_, part, _) in enumerate(finished) if next(part.parameters(recurse=False), None) is not None]
    last = finished[weighted[-1]][1] if weighted else None
    if isinstance(last, nn.Conv2d) and last.out_channels == classes:
        finished = finished[: weighted[-1]]
    pooled = {id(output) for _, part, output in finished if "Pool" in type(part).__name__}
    candidates = {
        id(output): (name, tuple(output.shape[1:]))
        for name, part, output in finished
        if output.ndim == 4
        and output[0, 0].numel() > 1
        and id(output) not in pooled
        and not isinstance(part, nn.Dropout | nn.Dropout2d | nn.Identity)
    }
    # a part that finishes later with the same output takes the place of the earlier, but keeps its position: sort anew
    order = {id(output): position for position, (_, _, output) in enumerate(finished)}
    names = [candidates[key] for key in sorted(candidates, key=order.__getitem__)]
    if not names:
        raise NotApplicable("this network has no layer with spatial features (N, C, h, w); this method needs one.")
    name = names[-1][0]
    found = max(candidates, key=order.__getitem__)
    for later, part, output in finished[order[found] + 1 :]:
        if output.ndim == 3 and next(part.parameters(recurse=False), None) is not None:
            raise NotApplicable(
                f"behind its last spatial features, '{name}', this network works on tokens ('{later}' gives "
                f"{tuple(output.shape[1:])}); give target_layer='{name}' if that is what you want."
            )
    norms = [part for _, part, output in finished if id(output) == found and isinstance(part, nn.LayerNorm)]
    if any(norm.normalized_shape == names[-1][1][2:] != names[-1][1][:1] for norm in norms):
        raise NotApplicable(
            f"the last spatial features, '{name}' {names[-1][1]}, have their channels last; "
            "give target_layer= a layer with features of shape (N, C, h, w)."
        )
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        cutting(classifier.module.get_submodule(name), name) as leaves,
    ):
        leaf = images.detach().clone().requires_grad_()
        logits = classifier.logits(leaf)
        ways = [leaf, *leaves[:-1]]  # a layer used on two branches is cut on both, and only its last output is seen
        bypasses = torch.autograd.grad(logits.sum(), ways, allow_unused=True) if logits.requires_grad else ()
    if any(gradients is not None for gradients in bypasses):
        listed = ", ".join(f"'{name}' {shape}" for name, shape in names[-6:])
        raise VexbenchError(
            f"the target layer is ambiguous, since the network branches; give target_layer= one of: {listed}."
        )
    return name


def head_weights(classifier: Classifier, features: Tensor, logits: Logits) -> Tensor:
    """Weights (classes, C) of a network that is global average pooling and one linear layer behind its features.

    Found by trying: the linear layer that turns the features' means into the logits, to 1e-4 of what is not bias, or
    to what a network in half precision keeps.

    Raises
    ------
    NotApplicable
        There is none.
    """
    pooled = features.mean((2, 3))
    precision = torch.finfo(classifier.dtype).eps
    for part in classifier.module.modules():
        if isinstance(part, nn.Linear) and part.weight.shape == (logits.shape[1], pooled.shape[1]):
            weight, bias = part.weight.detach().float(), 0 if part.bias is None else part.bias.detach().float()
            evidence = pooled @ weight.T
            gap, rounding = (evidence + bias - logits).abs().max(), max(1e-6, precision) * logits.abs().max()
            if gap <= max(1e-4, 4 * precision) * evidence.abs().max() + rounding:
                return weight
    raise NotApplicable(
        "CAM is only defined for networks that end in global average pooling and one linear layer behind the "
        "target layer; use grad_cam, or another target_layer."
    )
