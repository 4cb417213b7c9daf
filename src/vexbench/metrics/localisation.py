"""Localisation: is the map where the evidence is known to be?"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor
from torch.nn import functional

from vexbench.errors import NotApplicable, VexbenchError
from vexbench.metrics.similarity import mean_ranks
from vexbench.probe import Explain, Probe
from vexbench.registry import metric
from vexbench.seeds import fingerprint, generator
from vexbench.types import Images, Maps, References, Regions, Scores

NAN = float("nan")


@metric(family="localisation", title="Pointing game", paper="Zhang et al. 2016, arXiv:1608.00507", direction="higher")
def pointing_game(maps: Maps, regions: Regions, *, tolerance: int = 0) -> Scores:
    """Whether the map's maximum lies in the region: 1, else 0; `tolerance` widens the region (15 pixels in the paper).

    Several equal maxima score the share of them that hits: what one of them, drawn at random, would score on average.
    NaN for an empty region.

    Raises
    ------
    VexbenchError
        A negative tolerance.
    """
    if tolerance < 0:
        raise VexbenchError(f"tolerance must be 0 or more pixels, not {tolerance}.")
    top = maps == maps.amax((1, 2), keepdim=True)
    hits = (top & widened(regions, tolerance)).sum((1, 2)) / top.sum((1, 2))
    return hits.where(regions.any(2).any(1), NAN)


@metric(
    family="localisation",
    title="Energy-based pointing game",
    paper="Wang et al. 2020, arXiv:1910.01279",
    direction="higher",
)
def energy_pointing_game(maps: Maps, regions: Regions, *, box: bool = False) -> Scores:
    """Share of the map's positive values inside the annotation: Σ_region ReLU(Φ) / Σ ReLU(Φ) (section 4.3).

    The paper's annotation is one bounding box per image; where regions are finer, `box=True` counts the smallest box
    around them. On regions as they are it is the formula of `relevance_mass_accuracy`, by another name. The paper's
    maps end in a ReLU; values below zero do not count. NaN for an empty region, and for a map without positive values.
    """
    return share_of_mass(maps, boxed(regions) if box else regions)


@metric(
    family="localisation",
    title="Relevance mass accuracy",
    paper="Arras et al. 2022, arXiv:2003.07258",
    direction="higher",
)
def relevance_mass_accuracy(maps: Maps, regions: Regions) -> Scores:
    """Share of the map's positive values that lies in the region: Σ_region ReLU(Φ) / Σ ReLU(Φ).

    The paper defines it on maps pooled to positive values; values below zero are evidence against the class and do not
    count. NaN for an empty region, and for a map without positive values, which points nowhere.
    """
    return share_of_mass(maps, regions)


@metric(
    family="localisation",
    title="Relevance rank accuracy",
    paper="Arras et al. 2022, arXiv:2003.07258",
    direction="higher",
)
def relevance_rank_accuracy(maps: Maps, regions: Regions) -> Scores:
    """Share of the region that its size in most salient pixels covers: |top K ∩ region| / K, K = |region|.

    The sign counts: evidence against the class comes last. Of equal values around the K-th, each counts by the share of
    them that has a place among the first K: the mean over all orders. NaN for an empty region.
    """
    sizes = regions.flatten(1).sum(1)
    return (_hits(maps, regions, sizes) / sizes).float()


@metric(
    family="localisation",
    title="Top-k intersection",
    paper="Theiner et al. 2022, arXiv:2104.14995",
    direction="higher",
)
def top_k_intersection(maps: Maps, regions: Regions, *, k: int = 1000) -> Scores:
    """Share of the k most salient pixels that lies in the region: |top k ∩ region| / k; k at most the map's pixels.

    Sign and equal values as in `relevance_rank_accuracy`. A region of fewer than k pixels bounds the score below 1, for
    all maps alike. NaN for an empty region.

    Raises
    ------
    VexbenchError
        k below 1.
    """
    if k < 1:
        raise VexbenchError(f"k must be 1 pixel or more, not {k}.")
    count = min(k, maps[0].numel())
    hits = _hits(maps, regions, torch.full((len(maps),), count, device=maps.device))
    return (hits / count).where(regions.any(2).any(1), NAN).float()


@metric(
    family="localisation",
    title="IoU at the best threshold",
    paper="Cao et al. 2015, DOI:10.1109/ICCV.2015.338",
    direction="higher",
)
def iou_at_best_threshold(maps: Maps, regions: Regions, *, box: bool = False) -> Scores:
    """Largest overlap of {Φ ≥ t} with the region over all thresholds t: max_t |Φ_t ∩ R| / |Φ_t ∪ R|.

    All values of the map are tried as thresholds, so nothing hangs on a grid of them (the paper keeps 95 % of the sum);
    the sign counts. `box=True` compares the tightest box around {Φ ≥ t} with the smallest around the region, as the
    paper does: where the annotation is boxes, it is fair to maps that follow an object's outline. A constant map scores
    the region's share of the image, which every map reaches. NaN for an empty region.
    """
    if box:
        regions = boxed(regions)
    values, order = maps.flatten(1).sort(dim=1, descending=True, stable=True)
    inside = regions.flatten(1).gather(1, order)
    sizes = regions.flatten(1).sum(1, keepdim=True)
    if box:
        areas, overlaps = _boxes(order, regions)
    else:
        areas, overlaps = torch.arange(1, order.shape[1] + 1, device=maps.device), inside.cumsum(1)
    ratios = overlaps.double() / (areas + sizes - overlaps)
    # a threshold takes all of its equals
    last = functional.pad(values.diff(dim=1) != 0, (0, 1), value=True)
    return ratios.where(last, 0).amax(1).where(sizes[:, 0] > 0, NAN).float()


@metric(
    family="localisation",
    title="Area under the ROC curve",
    paper="Fawcett 2006, DOI:10.1016/j.patrec.2005.10.010",
    direction="higher",
)
def auc(maps: Maps, regions: Regions) -> Scores:
    """Chance that a pixel of the region has a larger value than one outside: (#greater + #equal / 2) / (|R| (n − |R|)).

    The sign counts. 0.5 for a constant map. NaN for an empty region, and for one that leaves no pixel outside.
    """
    flat = regions.flatten(1)
    inside, outside = flat.sum(1).double(), (~flat).sum(1)
    places = mean_ranks(maps.flatten(1))
    above = (places * flat).sum(1) - inside * (inside - 1) / 2
    return (above / (inside * outside)).float()


@metric(
    family="localisation", title="Grid pointing game", paper="Böhle et al. 2021, arXiv:2104.00032", direction="higher"
)
def grid_pointing_game(
    probe: Probe, references: References, explain: Explain, *, cells: int = 2, scaled: bool = False
) -> Scores:
    """Share of the positive values in the image's own cell of a mosaic: Σ_cell ReLU(Φ) / Σ ReLU(Φ); chance is 1/cells².

    The image stands in a mosaic of cells × cells images, at a place drawn by its content, among references of other
    classes, each of another class; the mosaic is explained for the image's target. Cells are whole images, as in the
    paper, so the network sees cells times the height and width; `scaled=True` shrinks the mosaic to the size of one
    image, for networks of a fixed size. References are images that the network is sure about; whether it is sure about
    the image itself is not asked. The score depends on which references the data set gives, not on their order. Values
    below zero do not count. Needs no annotation. NaN where the references have fewer than cells² − 1 classes beside the
    target, and for a map without positive values.

    Raises
    ------
    VexbenchError
        Fewer than two cells.
    NotApplicable
        The network does not take images of the mosaic's size.
    """
    if cells < 2:
        raise VexbenchError(f"cells must be 2 or more, for a mosaic of cells × cells images, not {cells}.")
    references = _by_content(references)
    drawn = [_arrangement(probe, references.targets, row, cells) for row in range(len(probe.images))]
    defined = torch.tensor([bool(chosen) for chosen, _ in drawn], device=probe.images.device)
    if not defined.any():
        return probe.images.new_full((len(drawn),), NAN)
    mosaics = torch.stack(
        [_mosaic(image, references.images, *where, cells) for image, where in zip(probe.images, drawn, strict=True)]
    )
    if scaled:
        mosaics = functional.avg_pool2d(mosaics, cells).clamp(0, 1)
    elif not probe.once(("mosaic", cells), lambda: _fits(probe, mosaics[:1])):
        raise NotApplicable(
            f"the network '{probe.classifier.name}' does not take a mosaic of {mosaics.shape[2]} × {mosaics.shape[3]} "
            "pixels; use scaled=true, which shrinks the mosaic to the size of one image."
        )
    key = ("mosaic", cells, scaled)
    mass = explain.variant(key, lambda: probe.of(images=mosaics, key=key)).relu()
    if scaled:  # a pixel on the border of two cells counts for both by its share
        mass = mass.repeat_interleave(cells, 1).repeat_interleave(cells, 2)
    sums = mass.unflatten(1, (cells, -1)).unflatten(3, (cells, -1)).sum((2, 4)).flatten(1)
    own = torch.tensor([place for _, place in drawn], device=sums.device)
    return (sums.gather(1, own[:, None])[:, 0] / sums.sum(1)).where(defined, NAN)


def share_of_mass(maps: Maps, regions: Regions) -> Scores:
    """Share of the map's positive values that lies in the region; NaN for an empty region or no positive value."""
    positive = maps.relu()
    share = (positive * regions).sum((1, 2)) / positive.sum((1, 2))
    return share.where(regions.any(2).any(1), NAN)


def widened(regions: Regions, distance: int) -> Regions:
    """The regions and all pixels within a distance of them (Euclidean, in pixels)."""
    if distance == 0:
        return regions
    steps = torch.arange(-distance, distance + 1, device=regions.device)
    disc = (steps[:, None] ** 2 + steps[None, :] ** 2 <= distance**2).float()
    return functional.conv2d(regions[:, None].float(), disc[None, None], padding=distance)[:, 0] > 0.5


def boxed(regions: Regions) -> Regions:
    """The smallest boxes around the regions."""

    def between(line: Bool[Tensor, "N side"]) -> Bool[Tensor, "N side"]:
        return line.cummax(1).values & line.flip(1).cummax(1).values.flip(1)

    return between(regions.any(2))[:, :, None] & between(regions.any(1))[:, None, :]


def _hits(maps: Maps, regions: Regions, counts: Int64[Tensor, " N"]) -> Float[Tensor, " N"]:
    """How many of the `counts` most salient pixels lie in the region; equal values share the places left for them."""
    flat, where = maps.flatten(1), regions.flatten(1)
    places = (counts - 1).clamp(min=0)[:, None]
    edge = flat.sort(dim=1, descending=True).values.gather(1, places)
    above, level = flat > edge, flat == edge
    left = counts - above.sum(1)
    return (above & where).sum(1) + left * (level & where).sum(1).double() / level.sum(1)


def _boxes(order: Int64[Tensor, "N K"], regions: Regions) -> tuple[Int64[Tensor, "N K"], Int64[Tensor, "N K"]]:
    """Area of the box around the first 1, 2, … pixels in order, and its overlap with the region, itself a box."""
    width = regions.shape[2]
    areas, overlaps = torch.ones_like(order), torch.ones_like(order)
    for line, along in ((order // width, regions.any(2)), (order % width, regions.any(1))):
        low, high = line.cummin(1).values, line.cummax(1).values
        first, size = along.int().argmax(1, keepdim=True), along.sum(1, keepdim=True)
        areas = areas * (high - low + 1)
        overlaps = overlaps * (torch.minimum(high, first + size - 1) - torch.maximum(low, first) + 1).clamp(min=0)
    return areas, overlaps


def _by_content(references: References) -> References:
    """The references in an order that hangs on their content alone."""
    names = [(fingerprint(image), int(name)) for image, name in zip(*references, strict=True)]
    order = torch.tensor(sorted(range(len(names)), key=names.__getitem__), dtype=torch.int64)
    rows = (values[order.to(values.device)] for values in references)
    return References(*rows)


def _arrangement(probe: Probe, classes: Int64[Tensor, " K"], row: int, cells: int) -> tuple[list[int], int]:
    """References of other classes to put beside an image, and its own place; none where there are too few classes."""
    random = generator(probe.seed, "mosaic", probe.fingerprints[row], cells)
    others = sorted(set(classes.tolist()) - {int(probe.targets[row])})
    lacking = cells**2 - 1
    if len(others) < lacking:
        return [], 0
    chosen = [others[which] for which in torch.randperm(len(others), generator=random)[:lacking].tolist()]
    members = [(classes == name).nonzero()[:, 0].tolist() for name in chosen]
    picked = [rows[int(torch.randint(len(rows), (), generator=random))] for rows in members]
    return picked, int(torch.randint(cells**2, (), generator=random))


def _mosaic(
    image: Float[Tensor, "3 H W"], references: Images, others: list[int], place: int, cells: int
) -> Float[Tensor, "3 height width"]:
    """The image at its place among the others, row by row; alone where there are no others."""
    tiles = [references[which].to(image.device) for which in others] or [image] * (cells**2 - 1)
    tiles.insert(place, image)
    return torch.cat([torch.cat(tiles[row * cells : (row + 1) * cells], 2) for row in range(cells)], 1)


def _fits(probe: Probe, mosaic: Images) -> Bool[Tensor, ""]:
    """Whether the network takes a mosaic, tried with one."""
    try:
        one = Probe(probe.classifier, mosaic, probe.targets[:1], batch_size=1)
        one.passes = probe.passes
        return one.logits.isfinite().all()
    except torch.OutOfMemoryError:
        raise
    except (VexbenchError, RuntimeError, AssertionError, ValueError):  # as networks refuse a size
        return torch.tensor(False)
