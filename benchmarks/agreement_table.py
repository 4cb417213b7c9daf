"""What the agreement scripts share: networks, images, the libraries' maps, and the table.

Every library works on a copy of the network, since some change the one they are given. All maps are compared at the
images' size, by the correlation over the pixels of each image; of the images the worst counts. Where that is below the
threshold, two more rows look for the reason: the library is given the same network with a module of its own for every
ReLU and average, as hooks need; and its map is compared with ours by the library's own formula.
"""

import argparse
import logging
import random
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, fx, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional

import vexbench as vb
from vexbench.models.base import Classifier

LIBRARIES = {
    "pytorch-grad-cam": "pytorch_grad_cam",
    "torchcam": "torchcam",
    "captum": "captum",
    "zennit": "zennit",
}
"""Distributions as people know them, and their modules."""

SAME, ALIKE = 0.9999, 0.95
"""Least correlations, of methods and of sampled ones that draw other numbers."""

ROUNDING = 1e-6
"""What is further from 1 wants a reason."""


class Normalised(nn.Module):
    """A copy of a classifier's network that takes images in [0, 1], as ours do."""

    def __init__(self, classifier: Classifier, images: Tensor) -> None:
        super().__init__()
        self.name, _ = classifier.layer(images)
        self.module = deepcopy(classifier.module)
        self.normalise, self.dtype = classifier.normalise, classifier.dtype

    @property
    def layer(self) -> nn.Module:
        """The target layer; as an attribute it would be a part twice, and captum would hook it twice."""
        return self.module.get_submodule(self.name)

    def forward(self, images: Tensor) -> Tensor:
        return self.module(self.normalise(images).to(self.dtype))


@contextmanager
def quiet() -> Iterator[None]:
    """Libraries warn about how they themselves work."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def resized(maps: Tensor, images: Tensor) -> Tensor:
    return functional.interpolate(maps[:, None].float(), images.shape[2:], mode="bilinear", align_corners=False)[:, 0]


def pytorch_grad_cam(kind: str) -> Callable[..., Tensor]:
    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        with quiet():
            import pytorch_grad_cam as library
            from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

            network = Normalised(classifier, images).eval()
            with getattr(library, kind)(network, [network.layer]) as cam:
                return torch.from_numpy(cam(images, [ClassifierOutputTarget(int(target)) for target in targets]))

    return maps


def torchcam(kind: str, **options: Any) -> Callable[..., Tensor]:
    def maps(classifier: Classifier, images: Tensor, targets: Tensor) -> Tensor:
        with quiet():
            from torchcam import methods as library

            network = Normalised(classifier, images).eval()
            with getattr(library, kind)(network, network.layer, **options) as cam:
                (found,) = cam(targets.tolist(), network(images), normalized=False)
            return resized(found.relu(), images)

    return maps


def captum(kind: str, **options: Any) -> Callable[..., Tensor]:
    def maps(classifier: Classifier, images: Tensor, targets: Tensor, **changes: Any) -> Tensor:
        with quiet():
            from captum import attr as library

            network = Normalised(classifier, images).eval()
            layer = (network.layer,) if kind.startswith("Layer") else ()
            method: Any = getattr(library, kind)(network, *layer)
            return method.attribute(images.clone().requires_grad_(), target=targets, **options, **changes).detach()

    return maps


@dataclass(frozen=True)
class Pair:
    """A method of ours, and a library's idea of the same.

    Parameters are given to both, `ours` to our method only. `formula` gives our map by the library's own formula, from
    a probe and the library's map. `called` tells apart what a library has twice.
    """

    method: str
    library: str
    maps: Callable[..., Tensor]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    ours: Mapping[str, Any] = field(default_factory=dict)
    formula: Callable[[vb.Probe, Tensor], Tensor] | None = None
    called: str = ""
    least: float = SAME
    fused: bool = False

    @property
    def label(self) -> str:
        return f"`{self.method}` | {self.library}{f' {self.called}' if self.called else ''}"

    def explained(self, case: "Case", **changes: Any) -> tuple[Tensor, Callable[["Case"], Tensor]]:
        """Our maps, and how the library gets its own for the network of a case."""
        changed = {name: value for name, value in changes.items() if name in self.parameters}
        given = {**self.parameters, **changed}
        return vb.explain(*case, self.method, **given, **self.ours), lambda other: self.maps(*other, **given)


class Case(NamedTuple):
    """What is explained."""

    classifier: Classifier
    images: Tensor
    targets: Tensor


def correlations(left: Tensor, right: Tensor) -> Tensor:
    """Pearson's correlation over the pixels of each image; NaN for a constant map."""
    pair = [maps.double().flatten(1) - maps.double().flatten(1).mean(1, keepdim=True) for maps in (left, right)]
    return (pair[0] * pair[1]).sum(1) / (pair[0].norm(dim=1) * pair[1].norm(dim=1))


def worst(ours: Tensor, theirs: Tensor) -> float:
    """The least correlation of all images; an image that neither explains counts as 1, one that only one does as 0."""
    found = correlations(ours, theirs)
    blank = [maps.amax((1, 2)) == maps.amin((1, 2)) for maps in (ours, theirs)]
    found = found.where(~(blank[0] | blank[1]), (blank[0] & blank[1]).to(found))
    return float(found.min()) if torch.isfinite(theirs).all() else 0.0


def random_weights(name: str, quick: bool = False) -> Classifier:
    """One of torchvision's networks with random weights, and batch norm statistics as if it had seen images.

    `quick` gives VGG a small head, and batch norms fewer images.
    """
    from torchvision.models import get_model

    with torch.random.fork_rng():
        torch.manual_seed(0)
        network: Any = get_model(name, num_classes=10)
        if quick and name.startswith("vgg"):
            network.classifier = nn.Sequential(nn.Linear(512 * 49, 32), nn.ReLU(inplace=True), nn.Linear(32, 10))
        network.train()
        for _ in range(2 if quick else 5):
            network(torch.randn(8, 3, 64, 64))
    return Classifier(network.eval(), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))


def resnet18() -> Classifier:
    return random_weights("resnet18")


def as_modules(case: Case, fused: bool = False) -> Case:
    """The same network as hooks need it: ReLUs and averages are modules, each used once, none in place.

    Nor does max pooling share a tensor with its neighbours: hooks of both there come in the wrong order.

    `fused` puts each batch norm that follows a convolution into it.
    """
    classifier = case.classifier
    name, _ = classifier.layer(case.images)
    network = deepcopy(classifier.module).eval()
    traced = fuse(network) if fused else fx.symbolic_trace(network)
    layer = name
    for number, node in enumerate(list(traced.graph.nodes)):
        if node.op == "call_module" and f"{node.target}.".startswith(f"{name}."):
            layer = node.target  # what the target layer gives, its last part gives
        own = stand_in(traced, node)
        if isinstance(own, nn.MaxPool2d):
            with traced.graph.inserting_before(node):
                node.args = (traced.graph.call_method("clone", node.args[:1]),)
            with traced.graph.inserting_after(node):
                node.replace_all_uses_with(copy := traced.graph.call_method("clone", (node,)))
                copy.args = (node,)
        if own is None or isinstance(own, nn.MaxPool2d):
            continue
        if layer == node.target:
            layer = f"own_{number}"
        traced.add_submodule(f"own_{number}", own)
        with traced.graph.inserting_before(node):
            new = traced.graph.call_module(f"own_{number}", node.args[:1])
            if node.target == "mean":
                new = traced.graph.call_function(torch.flatten, (new, 1))
        node.replace_all_uses_with(new)
        traced.graph.erase_node(node)
    traced.recompile()
    return case._replace(classifier=Classifier(traced, mean=classifier.mean, std=classifier.std, target_layer=layer))


def stand_in(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """A module for what a node does, where hooks need one."""
    part = traced.get_submodule(str(node.target)) if node.op == "call_module" else None
    if isinstance(part, nn.MaxPool2d):
        return part
    if isinstance(part, nn.ReLU) or node.target in (functional.relu, torch.relu):
        return nn.ReLU()
    average = node.target in (functional.adaptive_avg_pool2d, "mean")
    return nn.AdaptiveAvgPool2d(1) if average else None


def blobs(count: int, side: int) -> Tensor:
    """Images that need no download: soft blobs of colour with grain."""
    source = torch.Generator().manual_seed(2)
    soft = functional.interpolate(torch.rand(count, 3, 6, 6, generator=source), (side, side), mode="bilinear")
    return 0.9 * soft + 0.1 * torch.rand(soft.shape, generator=source)


def photographs(folder: Path, count: int, side: int) -> Tensor:
    from PIL import Image
    from torchvision.transforms.functional import pil_to_tensor

    paths = random.Random(0).sample(sorted(folder.rglob("*.jpg")), count)
    pictures = [Image.open(path).convert("RGB").resize((side, side), Image.Resampling.BILINEAR) for path in paths]
    return torch.stack([pil_to_tensor(picture) for picture in pictures]) / 255


def shown(correlation: float) -> str:
    """Three digits, or how far from 1; empty for NaN."""
    if correlation != correlation:
        return ""
    return f"1 − {max(1 - correlation, 1e-16):.0e}" if correlation > 0.999 else f"{correlation:.3f}"


NETWORKS = ("resnet18", "vgg11_bn", "densenet121")


def asked(description: str | None, *, side: int, count: int) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", nargs="*", default=NETWORKS, help="torchvision's, with random weights")
    parser.add_argument("--checkpoint", type=Path, nargs="*", default=[], help="trained networks, beside the demo's")
    parser.add_argument("--images", type=Path, help="a folder of photographs; drawn blobs without it")
    parser.add_argument("--count", type=int, default=count, help="images")
    parser.add_argument("--side", type=int, default=side, help="of the images, in pixels")
    parser.add_argument("--methods", nargs="*", help="only these")
    return parser.parse_args()


def cases(arguments: argparse.Namespace, double: bool = False) -> dict[str, Case]:
    """Networks by their names, each with images and the classes that it gives them."""
    networks = {name: random_weights(name) for name in arguments.networks} | {"demo": vb.demo_classifier()}
    networks |= {path.name: vb.load_classifier(path) for path in arguments.checkpoint}
    folder, size = arguments.images, (arguments.count, arguments.side)
    images = photographs(folder, *size) if folder else blobs(*size)
    return {name: case_of(network, images, double) for name, network in networks.items()}


def case_of(classifier: Classifier, images: Tensor, double: bool = False) -> Case:
    """With the classes that the network gives the images."""
    case = Case(classifier, images, classifier.logits(images).detach().argmax(1))
    return in_double(case) if double else case


def told(error: Exception) -> str:
    """An error in a line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"


class Variant(NamedTuple):
    """How a pair is compared."""

    label: str = "as it is"
    double: bool = False
    modules: bool = False
    formula: bool = False


VARIANTS = (
    Variant(),
    Variant("in double precision", double=True),
    Variant("as modules", modules=True),
    Variant("by its formula", formula=True),
    Variant("as modules, by its formula", modules=True, formula=True),
)
"""The later ones where the earlier are not enough."""

Found = float | Exception | None


def print_table(pairs: Iterable[Pair], cases: Mapping[str, Case], methods: list[str] | None = None) -> None:
    """One row for each pair, one column for each network; then what the libraries say where they fail."""
    print(f"| method | library | {' | '.join(cases)} |\n|---|---|{'---|' * len(cases)}")
    reasons: dict[str, str] = {}

    def cell(found: Found) -> str:
        if isinstance(found, Exception):
            reasons.setdefault(told(found), f"[{len(reasons) + 1}]")
            return f"{'none' if isinstance(found, vb.NotApplicable) else 'fails'} {reasons[told(found)]}"
        return "" if found is None else shown(found)

    for pair in pairs:
        if methods and pair.method not in methods:
            continue
        begun = time.perf_counter()
        columns = [compared(pair, case) for case in cases.values()]
        for variant in VARIANTS:
            row = [column.get(variant.label) for column in columns]
            if any(found is not None for found in row):
                label = pair.label if variant == VARIANTS[0] else f"⤷ {variant.label} |"
                print(f"| {label} | {' | '.join(map(cell, row))} |", flush=True)
        print(f"{pair.label}: {time.perf_counter() - begun:.0f} s", file=sys.stderr, flush=True)
    print("".join(f"\n{number} {reason}" for reason, number in reasons.items()))


def compared(pair: Pair, case: Case, **changes: Any) -> dict[str, Found]:
    """Correlations with the library as it is, and with the first of its variants that leaves nothing to explain."""
    found: dict[str, Found] = {}
    try:
        ours, library = pair.explained(case, **changes)
    except vb.NotApplicable as error:
        return {VARIANTS[0].label: error}
    enough = pair.least if pair.least < SAME else 1 - ROUNDING
    known: dict[bool, Tensor] = {}
    for variant in VARIANTS:
        plain = found.get(VARIANTS[0].label)
        rounded = isinstance(plain, float) and plain >= SAME and case.classifier.dtype != torch.float64
        if (variant.double and not rounded) or (variant.formula and not (pair.formula and variant.modules in known)):
            continue
        try:
            if variant.double:
                mine, theirs = pair.explained(exact := in_double(case), **changes)
                found[variant.label] = worst(mine, theirs(exact))
            else:
                if variant.modules not in known:
                    known[variant.modules] = library(as_modules(case, pair.fused) if variant.modules else case)
                theirs = known[variant.modules]
                mine = pair.formula(vb.Probe(*case), theirs) if variant.formula and pair.formula else ours
                found[variant.label] = worst(mine, theirs)
        except Exception as error:  # noqa: BLE001  a library may fail as it likes
            found[variant.label] = error
        best = found[variant.label]
        if isinstance(best, float) and best >= (pair.least if variant.formula else enough):
            return {VARIANTS[0].label: found[VARIANTS[0].label], variant.label: best}
    return found


def in_double(case: Case) -> Case:
    """The same in double precision."""
    return case._replace(classifier=case.classifier.around(deepcopy(case.classifier.module).double()))
