"""The options that say what a study is, and the configuration they make."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vexbench.errors import VexbenchError

if TYPE_CHECKING:
    from vexbench.bench.config import StudyConfig

File = Annotated[Path | None, typer.Argument(help="A study file (TOML); without one, the embedded default.")]
Out = Annotated[
    Path | None,
    typer.Option(
        help="Folder of the study; a run that was killed goes on there.",
        show_default="what the study file says, or vexbench-study",
    ),
]
Data = Annotated[str | None, typer.Option(help="Dataset: scenes, intel, folder or annotated.")]
Root = Annotated[Path | None, typer.Option(help="Where the dataset lies.")]
PerClass = Annotated[int | None, typer.Option(help="Images per class.", min=1)]
Variant = Annotated[str | None, typer.Option(help="Variant of the drawn scenes: plain, shortcut or decoy.")]
Models = Annotated[
    list[str] | None,
    typer.Option(help="A checkpoint, or an embedded network: 'demo', 'shortcut'; may be repeated.", metavar="PATH"),
]
Methods = Annotated[str | None, typer.Option(help="Ids, joined by commas; all by default.")]
Metrics = Annotated[str | None, typer.Option(help="Ids, joined by commas; all by default.")]
Preset = Annotated[
    str | None, typer.Option(help="How thoroughly to sample where nothing else is said: quick or paper.")
]
Budget = Annotated[
    str | None, typer.Option(help="Time for the study, such as 30m or 2h: what costs most is left out until it fits.")
]
Seed = Annotated[int | None, typer.Option(help="Seed of everything random.")]
Device = Annotated[str | None, typer.Option(help="cpu, cuda, mps, …")]
Reference = Annotated[
    bool, typer.Option("--reference", help="Run the network as it was written, without any faster way.")
]
Precision = Annotated[
    str | None, typer.Option(help="Of scores: fp32, or bf16 for half the time and 3 digits.", metavar="fp32|bf16")
]
BatchSize = Annotated[int | None, typer.Option(help="Images per pass through the network.", min=1)]


def configured(
    study: Path | None,
    *,
    data: str | None,
    root: Path | None,
    per_class: int | None,
    variant: str | None,
    model: list[str] | None,
    methods: str | None,
    metrics: str | None,
    **settings: Any,
) -> "StudyConfig":
    """The study that the options ask for.

    Raises
    ------
    VexbenchError
        Options that mean nothing together, or a setting that does not exist or has a wrong value.
    """
    from importlib.resources import as_file, files

    import vexbench as vb

    settings |= {
        "models": tuple(model) if model else None,
        "methods": tuple(name.strip() for name in methods.split(",")) if methods else None,
        "metrics": tuple(name.strip() for name in metrics.split(",")) if metrics else None,
    }
    dataset = {"root": None if root is None else str(root), "per_class": per_class, "variant": variant}
    given = {key: value for key, value in dataset.items() if value is not None}
    if data is not None:
        settings["datasets"] = ({"name": data, **given},)
    elif given:
        raise VexbenchError("--root, --per-class and --variant belong to a dataset; name it with --data.")
    chosen = {key: value for key, value in settings.items() if value is not None}
    if study is None and not (data or model):
        with as_file(files("vexbench.bench") / "demo.toml") as embedded:
            return vb.StudyConfig.read(embedded, **chosen)
    return vb.StudyConfig(**chosen) if study is None else vb.StudyConfig.read(study, **chosen)
