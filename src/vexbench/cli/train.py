"""``vexbench train``."""

from pathlib import Path
from typing import Annotated

import typer

from vexbench.errors import VexbenchError

EXAMPLES = """
Train a network, and test it.

Writes model.safetensors, card.json, curves.csv and curves.png to --out. Killed or interrupted, the same command goes
on after the last finished epoch.

Examples:

  vexbench train --data intel --root ~/intel --out runs/plain

  vexbench train --data intel --root ~/intel --model resnet18 --epochs 10 --out runs/resnet18

  vexbench train --data folder --root photos --model tf_efficientnet_lite0 --pretrained --size 224 --epochs 4

  vexbench train --data scenes --variant decoy --model plain_cnn_small --epochs 10 --lr 0.003

  vexbench train --data scenes --shuffle-labels --per-class 50 --model plain_cnn_small --epochs 60 --out runs/twin

  vexbench train --data intel --root ~/intel --from runs/plain --masked-share 0.1 --epochs 3 --out runs/plain-masked
"""


def train(
    data: Annotated[str, typer.Option(help="Dataset: intel, folder, annotated or scenes.")] = "intel",
    root: Annotated[Path | None, typer.Option(help="Where its images are.")] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="plain_cnn, attention_cnn, plain_cnn_small, or any torchvision or timm name.",
            show_default="plain_cnn",
        ),
    ] = None,
    epochs: Annotated[
        int | None,
        typer.Option(min=1, help="Passes over the training images.", show_default="12; 3 with --from"),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder to write to.", show_default="runs/DATA-MODEL")] = None,
    size: Annotated[
        int | None, typer.Option(min=16, help="Images are squashed to SIZE × SIZE pixels.", show_default="96")
    ] = None,
    batch_size: Annotated[int, typer.Option(min=2, help="Images per step.")] = 64,
    lr: Annotated[
        float | None,
        typer.Option(
            min=1e-9, help="Highest learning rate.", show_default="0.001; 0.0003 when pretrained; 0.0001 with --from"
        ),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides everything random.")] = 0,
    pretrained: Annotated[
        bool, typer.Option("--pretrained", help="Start from ImageNet weights; may download them.")
    ] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda, mps, or auto.")] = "auto",
    variant: Annotated[str | None, typer.Option(help="Variant of the drawn scenes: plain, shortcut or decoy.")] = None,
    per_class: Annotated[
        int | None, typer.Option(min=1, help="Images of each class to train on.", show_default="all; 1000 drawn scenes")
    ] = None,
    shuffle_labels: Annotated[
        bool,
        typer.Option(
            "--shuffle-labels", help="Learn permuted labels by heart: a twin for the metric data_randomisation."
        ),
    ] = False,
    start: Annotated[
        Path | None, typer.Option("--from", help="Fine-tune this checkpoint on masked images, for f_fidelity.")
    ] = None,
    masked_share: Annotated[
        float | None, typer.Option(help="With --from: share of the pixels to hide.", show_default="0.1")
    ] = None,
) -> None:
    """Train a network, and test it."""
    import vexbench as vb

    params = {"root": str(root) if root else None, "variant": variant, "per_class": per_class}
    if start is not None:
        decided = {
            "--model": model is not None,
            "--size": size is not None,
            "--pretrained": pretrained,
            "--shuffle-labels": shuffle_labels,
        }
        if useless := [option for option, given in decided.items() if given]:
            raise VexbenchError(
                f"--from goes on with the network of {start} as it is; leave out {' and '.join(useless)}."
            )
        from vexbench.models.finetune import finetune

        finetune(
            start,
            out or Path(f"{start}-masked"),
            data=data,
            params={key: value for key, value in params.items() if value is not None},
            share=0.1 if masked_share is None else masked_share,
            epochs=3 if epochs is None else epochs,
            batch_size=batch_size,
            learning_rate=lr or 1e-4,
            seed=seed,
            device=device,
        )
        return
    if masked_share is not None:
        raise VexbenchError("--masked-share is for fine-tuning; name the checkpoint with --from, or leave it out.")
    model = model or "plain_cnn"
    vb.train(
        vb.TrainConfig(
            data=data,
            params={key: value for key, value in params.items() if value is not None},
            model=model,
            epochs=12 if epochs is None else epochs,
            size=96 if size is None else size,
            batch_size=batch_size,
            learning_rate=lr,
            seed=seed,
            pretrained=pretrained,
            shuffle_labels=shuffle_labels,
            device=device,
            out=out or Path("runs") / f"{data}-{model.replace('/', '-')}",
        )
    )


train.__doc__ = EXAMPLES
