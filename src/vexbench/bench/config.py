"""What a study compares, from a TOML file or from Python; needs no tensor library."""

import tomllib
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError

from vexbench.bench.presets import seconds_of
from vexbench.errors import VexbenchError, refused
from vexbench.models import EMBEDDED


def _named(value: Any) -> Any:
    """A name alone stands for the name with the default parameters."""
    return {"name": value} if isinstance(value, str) else value


@final
class Pick(BaseModel):
    """A registered name, with parameters as further keys."""

    model_config = ConfigDict(frozen=True, extra="allow")
    name: str

    @property
    def params(self) -> dict[str, Any]:
        """The parameters given."""
        return dict(self.model_extra or {})


Picks = tuple[Annotated[Pick, BeforeValidator(_named)], ...]


@final
class StudyConfig(BaseModel):
    """A study: every dataset × model × method × metric.

    An empty list of methods or metrics means all there are, one of syntheses none. A model is ``demo`` or ``shortcut``,
    the embedded networks; the path of a checkpoint (``./demo`` for a folder of that name); or, from Python, a
    `Classifier`. `target` says which class is explained: the predicted one, or the label. `race` is the confidence at
    which a method's place on a metric counts as settled, and is not asked of more images. A preset says how thoroughly
    to sample where a name comes without that parameter (see `presets`); a budget (``90s``, ``30m``, ``2h``) leaves out
    what costs most until the study fits. `reference` runs the network as it was written, without any faster way to the
    same scores; `precision` is that of scores (see `Classifier`).

    >>> StudyConfig(methods=["grad_cam", {"name": "occlusion", "patch": 9}]).methods[1].params
    {'patch': 9}
    """

    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)

    title: str = "Which explanation can be trusted?"
    datasets: Picks = Field(default=(Pick(name="scenes"),), min_length=1)
    models: tuple[Any, ...] = Field(default=("demo",), min_length=1)
    methods: Picks = ()
    metrics: Picks = ()
    syntheses: Picks = ()
    preset: Literal["quick", "paper"] | None = None
    budget: str | None = None
    target: Literal["predicted", "label"] = "predicted"
    seed: int = 0
    device: str = "cpu"
    batch_size: int = Field(default=64, ge=1)
    reference: bool = False
    precision: Literal["fp32", "bf16"] = "fp32"
    race: float | None = Field(default=None, gt=0.5, lt=1)
    out: Path = Path("vexbench-study")

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise refused("study setting", error, type(self).model_fields) from None
        if self.budget is not None:
            seconds_of(self.budget)
        if self.reference and self.precision != "fp32":
            raise VexbenchError(f"a reference is the plain way in fp32, not {self.precision}; leave one of them out.")

    @classmethod
    def read(cls, path: Path, **settings: Any) -> "StudyConfig":
        """Read a study from a TOML file; paths in it, `out` too, are relative to the file; `settings` take precedence.

        Raises
        ------
        VexbenchError
            The file is missing or no TOML, or holds a setting that does not exist or has a wrong value.
        """
        try:
            values = tomllib.loads(path.read_text(encoding="utf-8-sig"))
        except OSError as error:
            raise VexbenchError(f"cannot read the study file {path}: {error.strerror}.") from error
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise VexbenchError(f"{path} is not a valid TOML file: {error}.") from error
        beside = path.parent
        if isinstance(values.get("datasets"), list):
            for entry in values["datasets"]:
                if isinstance(entry, dict) and isinstance(entry.get("root"), str):
                    entry["root"] = str(beside / Path(entry["root"]).expanduser())
        if isinstance(values.get("models"), list):
            # absolute, so that ./demo does not become the name of an embedded network
            values["models"] = [
                model if model in EMBEDDED else str((beside / Path(str(model)).expanduser()).absolute())
                for model in values["models"]
            ]
        if isinstance(values.get("out"), str):
            values["out"] = beside / Path(values["out"]).expanduser()
        return cls(**{**values, **settings})
