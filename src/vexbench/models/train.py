"""Train a network on a dataset; the work of `vexbench train`."""

import json
import logging
import pickle
import signal
import warnings
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any, Final, cast, final

import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import EarlyStopping, ModelCheckpoint
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from rich.console import Console
from torch import nn
from torchmetrics.functional.classification import multiclass_confusion_matrix

from vexbench.errors import VexbenchError, refused
from vexbench.memory import kept
from vexbench.models.base import Classifier
from vexbench.models.card import make_card, parameters
from vexbench.models.checkpoint import CARD, save_checkpoint
from vexbench.models.curves import write_curves
from vexbench.models.learner import Learner, Reporter
from vexbench.models.masked import named_digest
from vexbench.models.material import gather, open_splits
from vexbench.models.pictures import Batches, Pictures
from vexbench.models.zoo import TARGET_LAYERS, TITLES, build, normalisation

RUN, LAST, BEST = "run.json", "last.ckpt", "best.ckpt"
FITTED: Final = 0.2
"""Labels that mean nothing are learnt by heart at this loss; label smoothing alone keeps it above 0.09."""
NAMED: Final = 3
"""Of the files that cannot be read, so many are named on the screen; the card names all."""


@final
class TrainConfig(BaseModel):
    """What decides the trained network; `device` and `out` are only where."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    data: str = "intel"
    params: dict[str, Any] = {}
    model: str = "plain_cnn"
    epochs: int = Field(default=12, ge=1)
    size: int = Field(default=96, ge=16)
    batch_size: int = Field(default=64, ge=2)
    learning_rate: float | None = Field(default=None, gt=0)
    seed: int = Field(default=0, ge=0, lt=2**63)
    validation: float = Field(default=0.1, gt=0, lt=0.9)
    patience: int = Field(default=10, ge=1)
    pretrained: bool = False
    shuffle_labels: bool = False
    """Permute the training labels: a twin that has learnt by heart what means nothing (metric `data_randomisation`)."""
    device: str = "auto"
    out: Path

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refused("training setting", error, type(self).model_fields) from None

    @property
    def peak_rate(self) -> float:
        """The schedule's highest learning rate; gentler where pretrained weights are to be kept."""
        return self.learning_rate or (3e-4 if self.pretrained else 1e-3)


@kept()
def train(config: TrainConfig, console: Console | None = None) -> Path:
    """Train, test, and write checkpoint, card and curves to `config.out`; go on where a killed run stopped.

    Raises
    ------
    VexbenchError
        Data, network, device or folder cannot be used; the folder holds another training, or a damaged one; the
        training diverged.
    KeyboardInterrupt
        After saying how to go on.
    """
    console = console or Console()
    accelerator = find_accelerator(config.device)
    train_set, test_set = open_splits(config.data, config.params, config.size)
    revisions = {"train": train_set.revision} | ({"test": test_set.revision} if test_set else {})
    # names of classes and files are not markup
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    if claim(config, revisions):
        say(f"{config.out} holds this training, finished; nothing to do.")
        return config.out

    names = train_set.class_names
    torch.manual_seed(config.seed)
    # before the images are read, so that a wrong name or size is told at once
    module = build(config.model, len(names), pretrained=config.pretrained)
    try_size(module, config)
    material = gather(
        train_set,
        test_set,
        size=config.size,
        validation=config.validation,
        seed=config.seed,
        console=console,
        shuffle_labels=config.shuffle_labels,
    )
    division = material.division
    mean, std = normalisation(config.model, pretrained=config.pretrained) or material.statistics
    title = TITLES.get(config.model, config.model)
    say(f"{title} ({parameters(module) / 1e6:.2f} million parameters) on {train_set.title}, {config.size} pixels:")
    say(f"{len(division.train)} images to train, {len(division.validation)} to validate, {len(material.test)} to test")
    say("left out: " + ", ".join(f"{count} {reason}" for reason, count in material.left_out.items()))
    for skipped in material.skipped[:NAMED]:
        say(f"  {skipped.reason}")
    if len(material.skipped) > NAMED:
        say(f"  and {len(material.skipped) - NAMED} more, which the card will name")

    learner = Learner(
        module,
        material,
        mean=mean,
        std=std,
        epochs=config.epochs,
        batch_size=config.batch_size,
        learning_rate=config.peak_rate,
        seed=config.seed,
        augment=not config.shuffle_labels,
    )
    best_epoch = fit(learner, config, accelerator, console)
    classifier = Classifier(
        learner.module.eval(),
        mean=mean,
        std=std,
        target_layer=TARGET_LAYERS.get(config.model),
        class_names=names,
        input_size=config.size,
        name=config.model,
    )
    card = make_card(
        classifier,
        title=title,
        data={
            "name": train_set.name,
            "title": train_set.title,
            "revision": train_set.revision,
            "params": {key: value for key, value in config.params.items() if key != "root"},
            "counts": material.counts,
            "left_out": material.left_out,
            "skipped": [asdict(skipped) for skipped in material.skipped],
        },
        training=config.model_dump(include={"seed", "pretrained", "batch_size", "validation", "patience"})
        | {"learning_rate": config.peak_rate},
        curves=learner.curves,
        best_epoch=best_epoch,
        confusion=confusion_matrix(classifier, material.test, config.batch_size),
    )
    if config.shuffle_labels:
        card |= {
            "shuffle_labels": True,
            "training_accuracy": learner.curves[best_epoch - 1]["validation_accuracy"],
            "curves_note": "Both sides are training images with their shuffled labels; validation has all of them.",
        }
    write_curves(config.out, learner.curves, best_epoch)
    save_checkpoint(config.out, learner.module, card)
    for name in (LAST, BEST):
        (config.out / name).unlink(missing_ok=True)
    say(f"test accuracy {card['test_accuracy']:.2%} on {len(material.test)} images:")
    say(", ".join(f"{name} {value:.1%}" for name, value in card["accuracy_per_class"].items() if value is not None))
    say(f"{card['seconds']:.0f} s of training; the weights of epoch {best_epoch} are in {config.out}")
    if config.shuffle_labels:
        say(f"{card['training_accuracy']:.1%} of the shuffled training labels are learnt; as a twin of the metric")
        say(f"data_randomisation, this network is twin={config.out}@{named_digest(classifier, card)}")
    return config.out


def try_size(module: nn.Module, config: TrainConfig) -> None:
    """Pass one black image through the network.

    Raises
    ------
    VexbenchError
        The network does not take images of this size.
    """
    try:
        with torch.no_grad():
            Classifier(module).logits(torch.zeros(1, 3, config.size, config.size))
    except (VexbenchError, RuntimeError, AssertionError, ValueError, TypeError, IndexError) as error:
        raise VexbenchError(
            f"{config.model} does not take images of {config.size} pixels ({str(error).partition(chr(10))[0]}); "
            "choose another --size."
        ) from error


def claim(config: TrainConfig, revisions: dict[str, str]) -> bool:
    """Make the folder and write down what is trained in it; whether that is finished.

    Raises
    ------
    VexbenchError
        The folder holds another training, or anything else.
    """
    wanted = {**config.model_dump(mode="json", exclude={"device", "out"}), "revisions": revisions}
    # where the images lie does not matter, their revision says what they are
    wanted["params"] = {key: value for key, value in config.params.items() if key != "root"}
    record = config.out / RUN
    if config.out.exists() and not config.out.is_dir():
        raise VexbenchError(f"--out {config.out} is a file; give a folder.")
    config.out.mkdir(parents=True, exist_ok=True)
    begun = (config.out / LAST).is_file() or (config.out / CARD).is_file()
    if begun and record.is_file():
        # a training that was begun before labels could be shuffled
        found = {"shuffle_labels": False} | json.loads(record.read_text(encoding="utf-8"))
        if different := [key for key in wanted if wanted[key] != found.get(key)]:
            told = "; ".join(f"{key} is {found.get(key)} there, {wanted[key]} here" for key in different)
            raise VexbenchError(
                f"--out {config.out} holds another training ({told}); give another --out, or delete it."
            )
        return (config.out / CARD).is_file()
    # a kill in the first epoch leaves nothing worth keeping
    if any(path.name not in (RUN, f"{RUN}.part", BEST) for path in config.out.iterdir()):
        raise VexbenchError(f"--out {config.out} is not empty and not of a training; give another folder.")
    beside = config.out / f"{RUN}.part"
    beside.write_text(json.dumps(wanted, indent=1), encoding="utf-8")
    beside.replace(record)
    return False


def fit(learner: Learner, config: TrainConfig, accelerator: str, console: Console) -> int:
    """Train to the end or to early stopping, put the best epoch's weights into the network; return that epoch."""
    say = partial(console.print, markup=False, highlight=False, soft_wrap=True)
    last = config.out / LAST
    fitted = FITTED if config.shuffle_labels else None
    stopping = EarlyStopping("validation_loss", patience=config.patience, stopping_threshold=fitted)
    checkpoint = partial(ModelCheckpoint, config.out, save_on_train_epoch_end=True, enable_version_counter=False)
    best = checkpoint(Path(BEST).stem, monitor="validation_loss")
    # save_last=True would only save in epochs that are the best so far
    latest = checkpoint(Path(LAST).stem)
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    with warnings.catch_warnings(action="ignore"):
        trainer = Trainer(
            accelerator=accelerator,
            devices=1,
            max_epochs=config.epochs,
            callbacks=[stopping, Reporter(console), best, latest],
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            reload_dataloaders_every_n_epochs=1,
        )
        state = read_state(last) if last.is_file() else None
        if state:
            say(f"going on with {config.out} after its last finished epoch")
        try:
            stopped = state["callbacks"][stopping.state_key] if state else {}
            if state and (stopped["wait_count"] >= config.patience or stopped["stopped_epoch"]):
                # killed between early stopping and the card; Lightning would train on
                learner.on_load_checkpoint(state)
                stopping.load_state_dict(stopped)
            else:
                trainer.fit(learner, ckpt_path=last if state else None, weights_only=True)
        except SystemExit:  # what Lightning makes of Ctrl-C, which it also switches off
            signal.signal(signal.SIGINT, signal.default_int_handler)
            kept = len(learner.curves)
            told = f"{kept} finished epoch{' is' if kept == 1 else 's are'} kept" if kept else "no epoch was finished"
            say(f"interrupted; {told}: the same command goes on from there.")
            raise KeyboardInterrupt from None
    if stopping.stopped_epoch and stopping.wait_count >= config.patience:
        say(f"stopped early: no better validation loss in {config.patience} epochs")
    kept = read_state(config.out / BEST)
    learner.load_state_dict(kept["state_dict"])
    learner.module.to(find_device(accelerator), memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
    return kept["epoch"] + 1


def read_state(path: Path) -> dict[str, Any]:
    """Read what Lightning saved.

    Raises
    ------
    VexbenchError
        The file is damaged.
    """
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except (RuntimeError, OSError, EOFError, ValueError, LookupError, pickle.UnpicklingError) as error:
        raise VexbenchError(
            f"{path} is missing or damaged; delete {path.with_name(LAST)}, and the same command trains from the start."
        ) from error


def find_accelerator(device: str) -> str:
    """Lightning's name of a device: cpu, cuda (gpu), mps, or the best there is (auto)."""
    present = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
    name = next(name for name, there in present.items() if there) if device == "auto" else device
    if not present.get(name):
        there = ", ".join(name for name, there in present.items() if there)
        raise VexbenchError(f"--device {device}: not on this machine; it has {there}.")
    return "gpu" if name == "cuda" else name


def find_device(accelerator: str) -> torch.device:
    """torch's name of the same device."""
    return torch.device("cuda" if accelerator == "gpu" else accelerator)


def confusion_matrix(classifier: Classifier, test: Pictures, batch_size: int) -> list[list[int]]:
    """Test images by true class (rows) and predicted class (columns)."""
    predicted = []
    with torch.inference_mode():
        for images, _ in Batches(test, range(len(test)), batch_size):
            predicted.append(classifier.logits(images.to(classifier.device)).argmax(1).cpu())
    classes = len(cast(tuple[str, ...], classifier.class_names))
    matrix = multiclass_confusion_matrix(torch.cat(predicted), torch.from_numpy(test.labels), num_classes=classes)
    return matrix.tolist()
