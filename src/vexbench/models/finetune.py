"""Copies of a network that know images with missing pixels: what F-Fidelity asks instead of the network itself."""

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.nn import functional

from vexbench.errors import VexbenchError, some
from vexbench.models.base import Classifier
from vexbench.models.card import make_card
from vexbench.models.checkpoint import CARD, load_classifier, save_checkpoint
from vexbench.models.masked import masked, named_digest, weights_digest
from vexbench.models.material import Material, gather, open_splits
from vexbench.models.pictures import Batches
from vexbench.models.train import confusion_matrix, find_accelerator, find_device
from vexbench.seeds import generator


def finetune(
    checkpoint: Path,
    out: Path,
    *,
    data: str,
    params: dict[str, Any],
    share: float = 0.1,
    epochs: int = 3,
    batch_size: int = 64,
    learning_rate: float = 1e-4,
    seed: int = 0,
    device: str = "auto",
    console: Console | None = None,
) -> Path:
    """Go on training a checkpoint on images that lack a random share of their pixels, and write the copy to `out`.

    Each pixel is missing with that probability, whatever any explanation says, and has the mean colour of the
    classifier's normalisation then (Zheng et al. 2025, section 4). The card says of which weights it is a copy, and how
    often both are right on whole and on masked test images. The weights are rounded to half precision.

    Raises
    ------
    VexbenchError
        A share that is not between 0 and 1, a folder that holds a checkpoint already, or data of other classes.
    """
    if not 0 < share < 1:
        raise VexbenchError(f"the masked share must lie between 0 and 1, not {share}.")
    if (out / CARD).exists():
        raise VexbenchError(f"--out {out} holds a checkpoint already; give another folder, or delete it.")
    console, original = console or Console(), load_classifier(checkpoint)
    train_set, test_set = open_splits(data, params, original.input_size or 96)
    if train_set.class_names != original.class_names:
        raise VexbenchError(
            f"{checkpoint} knows the classes {some(original.class_names or ())}, but {train_set.title} has "
            f"{some(train_set.class_names)}; give the data that it was trained on."
        )
    size = original.input_size or 96
    material = gather(train_set, test_set, size=size, validation=0.1, seed=seed, console=console)
    torch.manual_seed(seed)
    module = deepcopy(original.module).to(find_device(find_accelerator(device)))
    copy = original.around(module)
    weights = [weight for weight in module.parameters() if weight.requires_grad]
    optimiser = torch.optim.AdamW(weights, lr=learning_rate, weight_decay=1e-4)
    for epoch in range(epochs):
        batches = Batches(material.pictures, material.division.train, batch_size, draw=(seed, epoch))
        for number, (images, labels) in enumerate(batches):
            hidden = masked(images, original.mean, share, generator(seed, "masked", epoch, number))
            module.train()
            logits = module(copy.normalise(hidden.to(copy.device)))
            loss = functional.cross_entropy(logits, labels.to(copy.device))
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    module.eval()
    # a measuring device in half the bytes; rounded first, so that what is tested is what is stored
    stored = deepcopy(module).half()
    module.load_state_dict(stored.state_dict())
    found = {
        name: {"whole": accuracy(network, material, 0.0, seed), "masked": accuracy(network, material, share, seed)}
        for name, network in (("original", original.around(original.module.to(copy.device))), ("copy", copy))
    }
    training = {
        "seed": seed,
        "batch_size": batch_size,
        "learning_rate": learning_rate,
        "masked_share": share,
        "copy_of": weights_digest(original.module),
        "accuracy_of": found,
    }
    card = make_card(
        copy,
        title=f"{original.card.get('title', original.name)}, fine-tuned on masked images",
        data={"name": train_set.name, "title": train_set.title, "revision": train_set.revision},
        training=training,
        curves=[],
        best_epoch=epochs,
        confusion=confusion_matrix(copy, material.test, batch_size),
    ) | {"epochs": epochs}
    save_checkpoint(out, stored, card)
    for name, rights in found.items():
        console.print(f"{name}: {rights['whole']:.1%} of whole, {rights['masked']:.1%} of masked test images right")
    console.print(
        f"f_fidelity takes it as checkpoint={out}@{named_digest(copy, card)}",
        soft_wrap=True,
        highlight=False,
        markup=False,
    )
    return out


def accuracy(classifier: Classifier, material: Material, share: float, seed: int) -> float:
    """Share of the test images that are classified right when a share of their pixels is missing."""
    right = 0
    with torch.no_grad():
        for number, (images, labels) in enumerate(Batches(material.test, range(len(material.test)), 64)):
            hidden = masked(images, classifier.mean, share, generator(seed, "masked test", number))
            right += int((classifier.logits(hidden.to(classifier.device)).argmax(1).cpu() == labels).sum())
    return right / len(material.test)
