"""What Lightning trains: the network with its optimiser, and the line it prints after each epoch."""

import time
from typing import Any, Final, cast, final

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import MeanMetric, MetricCollection
from torchmetrics.classification import MulticlassAccuracy

from vexbench.errors import VexbenchError
from vexbench.models.material import Material
from vexbench.models.pictures import Batches, stratify
from vexbench.types import Images, Logits

WEIGHT_DECAY: Final = 0.05
LABEL_SMOOTHING: Final = 0.1

SIDES: Final = ("validation", "train")
"""What is measured after each epoch, the same way: as many training images as there are validation images, not
augmented, in evaluation mode. So the distance between the two curves is overfitting and nothing else."""

Row = dict[str, float | int]


@final
class Learner(LightningModule):
    """AdamW with a one-cycle schedule over all epochs; cross-entropy with label smoothing."""

    def __init__(
        self,
        module: nn.Module,
        material: Material,
        *,
        mean: tuple[float, ...],
        std: tuple[float, ...],
        epochs: int,
        batch_size: int,
        learning_rate: float,
        seed: int,
        augment: bool = True,
    ) -> None:
        super().__init__()
        # convolutions on a CPU are faster with the colours last, by about a tenth
        self.module = module.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        self.mean: Tensor
        self.std: Tensor
        self.register_buffer("mean", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(std)[:, None, None], persistent=False)
        self.pictures, division = material.pictures, material.division
        sample = min(0.5, len(division.validation) / len(division.train))
        self.rows = {
            "learn": division.train,
            "train": stratify(division.train, self.pictures.labels, sample, seed)[1],
            "validation": division.validation,
        }
        self.epochs, self.batch_size, self.learning_rate, self.seed = epochs, batch_size, learning_rate, seed
        self.augment = augment
        self.curves: list[Row] = []
        self.measures = nn.ModuleList(
            MetricCollection(
                {
                    "loss": MeanMetric(),
                    "accuracy": MulticlassAccuracy(len(material.dataset.class_names), average="micro"),
                },
                compute_groups=False,
            )
            for _ in SIDES
        )
        self._started = 0.0

    def forward(self, images: Images) -> Logits:
        """Logits of images in [0, 1]."""
        return self.module((images - self.mean) / self.std)

    def train_dataloader(self) -> Batches:
        """Other batches in each epoch, given by seed and epoch alone."""
        draw = (self.seed, self.current_epoch)
        return Batches(self.pictures, self.rows["learn"], self.batch_size, draw=draw, augmented=self.augment)

    def val_dataloader(self) -> list[Batches]:
        """The images of both sides."""
        return [Batches(self.pictures, self.rows[side], self.batch_size) for side in SIDES]

    def configure_optimizers(self) -> Any:
        """Decay weights of two and more dimensions only: not biases, not batch norm, not γ."""
        weights = [weight for weight in self.module.parameters() if weight.requires_grad]
        groups = [
            {"params": [weight for weight in weights if weight.ndim > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [weight for weight in weights if weight.ndim <= 1], "weight_decay": 0.0},
        ]
        optimiser = torch.optim.AdamW(groups, lr=self.learning_rate)
        # below eight steps the schedule has no room to rise
        steps = max(8, self.epochs * len(self.train_dataloader()))
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, self.learning_rate, total_steps=steps, pct_start=0.25)
        return {"optimizer": optimiser, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_epoch_start(self) -> None:
        """Seed what the network itself draws (dropout), so that an epoch does not depend on the ones before."""
        torch.manual_seed((self.seed * 1_000_003 + self.current_epoch) % 2**63)
        self._started = time.perf_counter()

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of one batch."""
        images, labels = batch
        return functional.cross_entropy(self(images), labels, label_smoothing=LABEL_SMOOTHING)

    def validation_step(self, batch: tuple[Tensor, Tensor], _: int, dataloader_idx: int = 0) -> None:
        """Measure one batch of one side, by the plain cross-entropy."""
        images, labels = batch
        logits = self(images)
        measure = cast(MetricCollection, self.measures[dataloader_idx])
        measure["loss"].update(functional.cross_entropy(logits, labels, reduction="none"))
        measure["accuracy"].update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Add a row to the curves.

        Raises
        ------
        VexbenchError
            The loss is not a finite number.
        """
        row: Row = {"epoch": self.current_epoch + 1}
        for side, part in zip(SIDES, self.measures):
            measure = cast(MetricCollection, part)
            row |= {f"{side}_{name}": float(value) for name, value in measure.compute().items()}
            measure.reset()
        if not torch.isfinite(torch.tensor(list(row.values()))).all():
            raise VexbenchError(
                f"the loss is no longer a number in epoch {self.current_epoch + 1}; "
                f"train again with a learning rate below {self.learning_rate:g} (--lr) into another --out."
            )
        row["seconds"] = time.perf_counter() - self._started
        self.curves.append(row)
        self.log("validation_loss", row["validation_loss"])

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the curves."""
        checkpoint["curves"] = self.curves

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Go on with the curves of the epochs before."""
        self.curves = checkpoint["curves"]


@final
class Reporter(Callback):
    """One bar per epoch, and one line after it."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self.task = self.progress.add_task("")

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the bar anew."""
        title = f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}"
        self.progress.reset(self.task, total=int(trainer.num_training_batches), description=title)
        self.progress.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Advance the bar."""
        self.progress.advance(self.task)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Print the epoch's line."""
        self.progress.stop()
        row = cast(Learner, pl_module).curves[-1]
        self.console.print(
            f"epoch {row['epoch']:2.0f}/{trainer.max_epochs}  "
            f"loss: training {row['train_loss']:.3f}, validation {row['validation_loss']:.3f}  "
            f"accuracy: training {row['train_accuracy']:.1%}, validation {row['validation_accuracy']:.1%}  "
            f"{row['seconds']:.0f} s",
            markup=False,
            highlight=False,
            soft_wrap=True,
        )

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        """Leave the terminal as it was."""
        self.progress.stop()
