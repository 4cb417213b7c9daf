"""Faithfulness by a copy of the network that learnt what hidden pixels look like."""

from contextlib import nullcontext
from importlib.resources import as_file, files

import torch
from jaxtyping import Int64
from torch import Tensor

from vexbench.errors import NotApplicable, VexbenchError, unknown
from vexbench.metrics.faithfulness import ranks
from vexbench.metrics.subsets import at_least
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import load_classifier
from vexbench.models.masked import named_digest, weights_digest
from vexbench.perturb.masks import levels
from vexbench.probe import Probe
from vexbench.registry import metric
from vexbench.types import Maps, Scores

FORMS = ("gap", "plus", "minus")


@metric(
    family="faithfulness",
    title="F-Fidelity",
    paper="Zheng et al. 2025, arXiv:2410.02970",
    direction="higher",
    range=(-1.0, 1.0),
)
def f_fidelity(
    maps: Maps,
    probe: Probe,
    *,
    form: str = "gap",
    alpha: float = 0.5,
    steps: int = 10,
    samples: int = 20,
    checkpoint: str = "",
) -> Scores:
    """How much more the most salient pixels count than the rest, when random few of them are hidden.

    FFid⁺ − FFid⁻ (Zheng et al. 2025, section 4), FFid^± = f(x) − E f(χ^±(x)), f the target's probability by a copy of
    the network that was fine-tuned on images with a random share β of hidden pixels. χ⁺ hides each of the most salient
    share s of the pixels with probability min(α, β/s), χ⁻ so each of the least salient share s: never more than a share
    β of the image, so that the copy knows such images. Mean over s = 1/steps, …, (steps − 1)/steps and over `samples`
    draws; the authors' code has 20 steps and 50 draws, and counts right predictions in place of probabilities. Hidden
    pixels have the mean colour of the classifier's normalisation, as in the fine-tuning. The order is by signed value;
    equal pixels are ordered by a draw.

    form: `gap`; `plus`, FFid⁺; or `minus`, −FFid⁻, so that higher is better for all three.
    checkpoint: the copy's folder with the digest that ``vexbench train --from CHECKPOINT --masked-share 0.1`` printed,
    ``runs/masked@1a2b3c4d``: so results are those of this copy, whatever the folder may hold later; β is that of its
    training. Left out, the copy of the demo network that comes with the package.

    Raises
    ------
    VexbenchError
        A form that does not exist, an alpha that is not between 0 and 1, less than two steps or one sample; a
        checkpoint without its digest, with another one, or that is no fine-tuned copy.
    NotApplicable
        The copy is one of other weights than this network's.
    """
    if form not in FORMS:
        raise unknown("form", form, FORMS)
    if not 0 < alpha <= 1:
        raise VexbenchError(f"alpha must lie between 0 and 1, not {alpha}.")
    at_least(2, steps=steps)
    at_least(1, samples=samples)
    copy = _masked_copy(probe, checkpoint)
    bound = float(copy.card["masked_share"])
    mean = probe.images.new_tensor(copy.mean).clamp(0, 1)[:, None, None].expand_as(probe.images)
    asked = probe.of(classifier=copy)
    place, pixels = ranks(maps, probe), maps[0].numel()

    def scores(place: Int64[Tensor, "N H W"]) -> Scores:
        masks = (
            1 - ((place < share * pixels) & (level < min(alpha, bound / share))).float()
            for level in levels(probe, samples)
            for share in (step / steps for step in range(1, steps))
        )
        return asked.scores_masked(masks, mean, "probability").double().mean(1)

    if form == "gap":
        return (scores(pixels - 1 - place) - scores(place)).float()
    whole = probe.once(("copy", copy.digest), lambda: asked.logits.softmax(1).gather(1, probe.targets[:, None]))
    if form == "plus":
        return (whole[:, 0] - scores(place)).float()
    return (scores(pixels - 1 - place) - whole[:, 0]).float()


def _masked_copy(probe: Probe, checkpoint: str) -> Classifier:
    """The copy that was fine-tuned on masked images, if it is one of this network, on its device."""
    folder, _, digest = checkpoint.rpartition("@")
    how = (
        f"of this network ({probe.classifier.name}): 'vexbench train --from CHECKPOINT --masked-share 0.1' with its "
        "data makes one, and prints what to give as checkpoint=."
    )
    shipped = files("vexbench.models") / "masked_demo"
    found = nullcontext(folder or checkpoint) if checkpoint else as_file(shipped)
    with torch.inference_mode(False), found as place:
        copy = load_classifier(place)
    if "copy_of" not in copy.card:
        raise VexbenchError(f"checkpoint={checkpoint}: no copy that 'vexbench train --from CHECKPOINT' fine-tuned.")
    if checkpoint and (not folder or digest != named_digest(copy)):
        known = f"{folder or checkpoint}@{named_digest(copy)}"
        raise VexbenchError(f"checkpoint={checkpoint}: name the copy by its digest, too: checkpoint={known}.")
    if copy.card["copy_of"] != weights_digest(probe.classifier.module):
        named = checkpoint or "the shipped copy, one of the demo network,"
        raise NotApplicable(f"{named} is no fine-tuned copy {how}")
    copy.module.to(probe.classifier.device)
    copy.folding, copy.precision = probe.classifier.folding, probe.classifier.precision
    return copy
