"""Networks on disk: weights as safetensors, everything else in a JSON card beside them."""

import json
import pickle
import warnings
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any, Final

import torch
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from vexbench.errors import VexbenchError, unknown
from vexbench.models import EMBEDDED
from vexbench.models.base import Classifier
from vexbench.models.zoo import build

WEIGHTS, CARD = "model.safetensors", "card.json"
PICKLES: Final = (".pt", ".pth", ".ckpt", ".bin")


class Card(BaseModel):
    """What a checkpoint's card must say; `vexbench train` writes more, for people and for the report."""

    model_config = ConfigDict(frozen=True, extra="allow")

    architecture: str
    class_names: tuple[str, ...] = Field(min_length=1)
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    input_size: int = Field(gt=0)
    target_layer: str | None = None


def save_checkpoint(directory: Path, module: nn.Module, card: dict[str, Any]) -> Path:
    """Write ``model.safetensors`` and ``card.json``; the card comes last, so that a card means a whole checkpoint."""
    directory.mkdir(parents=True, exist_ok=True)
    weights = {key: value.detach().cpu().contiguous() for key, value in module.state_dict().items()}
    beside = directory / f"{WEIGHTS}.part"
    # not save_file, which makes a file that others may not read
    beside.write_bytes(save(weights))
    beside.replace(directory / WEIGHTS)
    beside = directory / f"{CARD}.part"
    beside.write_text(json.dumps(card, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    beside.replace(directory / CARD)
    return directory


def load_classifier(path: str | Path) -> Classifier:
    """Load what `vexbench train` wrote, or any weights with a card: a folder, or a weight file with its card beside.

    A pickled state dict (.pt, .pth) is read by torch's weights-only loader; nothing in it is executed.

    Raises
    ------
    VexbenchError
        A missing or damaged file, a pickle that holds more than weights, or weights that do not fit the card.
    """
    path = Path(path).expanduser()
    if not path.exists():
        raise VexbenchError(f"checkpoint {path}: no such file or folder; give the folder that 'vexbench train' wrote.")
    weights = path / WEIGHTS if path.is_dir() else path
    card = read_card(weights.parent / CARD)
    if not weights.is_file():
        raise VexbenchError(f"checkpoint {path}: holds no {WEIGHTS}; the training may not have finished, run it again.")
    with torch.random.fork_rng(devices=[]):  # a network is built with random weights before it gets its own
        module = build(card.architecture, len(card.class_names))
    _fit(module, read_weights(weights), weights, card)
    try:
        return Classifier(
            module.eval(),
            mean=card.mean,
            std=card.std,
            target_layer=card.target_layer,
            class_names=card.class_names,
            input_size=card.input_size,
            name=card.architecture,
            card=card.model_dump(),
        )
    except VexbenchError as error:
        raise VexbenchError(f"checkpoint {path}: {error}") from error


def demo_classifier(name: str = "demo") -> Classifier:
    """A small network that comes with the package, trained on drawn scenes, by its name.

    `demo` was trained on the plain ones, `shortcut` on those of variant `decoy`: it calls whatever bears the mark sea.

    Raises
    ------
    VexbenchError
        There is no embedded network of that name.
    """
    if name not in EMBEDDED:
        raise unknown("embedded network", name, EMBEDDED)
    with as_file(files("vexbench.models") / name) as folder:
        return load_classifier(folder)


def read_card(path: Path) -> Card:
    """Read the part of a card that loading needs."""
    if not path.is_file():
        raise VexbenchError(
            f"checkpoint: there is no {CARD} in {path.parent.absolute()}, which says what the weights are; write one "
            "with architecture, class_names, mean, std, input_size."
        )
    try:
        return Card.model_validate_json(path.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise VexbenchError(f"checkpoint {path}: {place}: {first['msg'].lower()}; correct the card.") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict without executing anything."""
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        if path.suffix not in PICKLES:
            raise VexbenchError(f"checkpoint {path}: expected .safetensors, or a state dict as {', '.join(PICKLES)}.")
        # torch warns about an unusual protocol before it refuses what is in it
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise VexbenchError(
            f"checkpoint {path}: refused, since this pickle holds more than weights, and loading it could run any "
            "code; if you trust its source, save its weights alone: torch.save(module.state_dict(), PATH)."
        ) from error
    except (SafetensorError, OSError, EOFError, RuntimeError, ValueError) as error:
        raise VexbenchError(
            f"checkpoint {path}: cannot be read ({_first_line(error)}); copy or train it again."
        ) from error
    if isinstance(loaded, dict) and isinstance(loaded.get("state_dict"), dict):
        loaded = loaded["state_dict"]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(value, Tensor) for value in loaded.values()):
        raise VexbenchError(
            f"checkpoint {path}: holds no state dict; save one by torch.save(module.state_dict(), PATH)."
        )
    return loaded


def _fit(module: nn.Module, weights: dict[str, Tensor], path: Path, card: Card) -> None:
    expected = module.state_dict()
    missing, alien = sorted(expected.keys() - weights.keys()), sorted(weights.keys() - expected.keys())
    if missing or alien:
        raise VexbenchError(
            f"checkpoint {path}: not the weights of {card.architecture}: {len(missing)} missing "
            f"({', '.join(missing[:2]) or 'none'}), {len(alien)} unknown ({', '.join(alien[:2]) or 'none'}); "
            "correct the architecture in the card."
        )
    for key, value in weights.items():
        if value.shape != expected[key].shape:
            raise VexbenchError(
                f"checkpoint {path}: '{key}' is {tuple(value.shape)}, but {card.architecture} with "
                f"{len(card.class_names)} class names has {tuple(expected[key].shape)}; correct the card."
            )
    # half-precision storage becomes the network's own precision here
    module.load_state_dict(weights)


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0] or type(error).__name__
