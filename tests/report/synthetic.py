"""A made-up study, written as a run writes it: all methods × metrics, one failed method, some undefined scores."""

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from vexbench.registry import Choice
from vexbench.results.store import Store, write_array, write_frame, write_json

CLASSES = ("buildings", "forest", "glacier", "mountain", "sea", "street")

# id: title, family, paper, signed, parameters, quality (0 bad .. 1 good), passes
METHODS: dict[str, tuple[str, str, str, bool, dict[str, Any], float, float]] = {
    "saliency": ("Saliency", "gradient", "simonyan2013deep", False, {}, 0.45, 3),
    "integrated_gradients": ("Integrated Gradients", "path", "sundararajan2017axiomatic", True, {"steps": 32}, 0.6, 96),
    "cam": ("CAM", "cam", "zhou2016learning", False, {}, 0.8, 1),
    "grad_cam": ("Grad-CAM", "cam", "selvaraju2017gradcam", False, {}, 0.8, 3),
    "grad_cam_plus_plus": ("Grad-CAM++", "cam", "chattopadhyay2018gradcampp", False, {}, 0.77, 3),
    "hires_cam": ("HiResCAM", "cam", "draelos2020hirescam", False, {}, 0.8, 3),
    "smooth_grad": ("SmoothGrad", "perturbation", "smilkov2017smoothgrad", False, {"samples": 16}, 0.55, 48),
    "occlusion": ("Occlusion", "perturbation", "zeiler2014", True, {"patch": 15, "stride": 8}, 0.72, 197),
    "random": ("Random map", "control", "", False, {}, 0.05, 0),
    "centre_gaussian": ("Centre Gaussian", "control", "", False, {}, 0.35, 0),
    "sobel_edges": ("Sobel edges", "control", "", False, {}, 0.25, 0),
}

# id: title, axis, direction, summary, value of a bad and of a good method
METRICS: dict[str, tuple[str, str, str, str, float, float]] = {
    "deletion": (
        "Deletion",
        "faithfulness",
        "lower",
        "Area under the probability as salient pixels are hidden.",
        0.55,
        0.15,
    ),
    "insertion": (
        "Insertion",
        "faithfulness",
        "higher",
        "Area under the probability as salient pixels are shown.",
        0.45,
        0.85,
    ),
    "average_drop": (
        "Average drop",
        "faithfulness",
        "lower",
        "Share of the probability that is lost: max(0, y − o)/y.",
        0.7,
        0.15,
    ),
    "average_increase": ("Average increase", "faithfulness", "higher", "How often the probability rises.", 0.05, 0.35),
    "sparseness": ("Sparseness", "complexity", "higher", "Gini index of the map.", 0.3, 0.6),
    "max_sensitivity": ("Max-sensitivity", "robustness", "lower", "How far the map moves under noise.", 1.1, 0.1),
    "pointing_game": ("Pointing game", "localisation", "higher", "How often the maximum hits.", 0.4, 0.92),
    "relevance_mass_accuracy": (
        "Relevance mass accuracy",
        "localisation",
        "higher",
        "Share of the map on the object.",
        0.3,
        0.7,
    ),
    "mprt": ("MPRT", "randomisation", "lower", "Likeness under random weights.", 0.9, 0.2),
    "passes": ("Passes", "cost", "lower", "Forward-equivalent passes.", 0, 0),
    "seconds_ratio": ("Seconds ratio", "cost", "lower", "Time over a bare pass.", 0, 0),
}


def write_study(
    root: Path,
    *,
    images: int = 48,
    size: int = 64,
    class_names: tuple[str, ...] = CLASSES,
    models: tuple[str, ...] = ("plain_cnn",),
    methods: tuple[str, ...] = tuple(METHODS),
    finished: bool = True,
    bare_card: bool = False,
) -> Path:
    """Write a study and return its folder; an unfinished one lacks the last two methods' last metrics."""
    generator = np.random.default_rng(7)
    store = Store(root)
    store.claim()
    names = [name for name in METHODS if name in methods]
    write_json(
        store.study,
        {
            "title": "Synthetic scenes",
            "config": {
                "title": "Synthetic scenes",
                "seed": 0,
                "datasets": [{"name": "scenes", "images": images}],
                "methods": [*({"name": name, **METHODS[name][4]} for name in names), "full_grad"],
                "metrics": [{"name": name} for name in METRICS],
            },
            "provenance": {"versions": {"vexbench": "0.1.0", "torch": "2.14.1", "python": "3.11"}, "device": "cpu"},
        },
    )
    dataset = store.dataset("scenes", "r1")
    counts = {
        split: {name: int(n * (0.9 + 0.03 * i)) for i, name in enumerate(class_names)}
        for split, n in (("train", 2300), ("test", 500))
    }
    write_json(
        dataset / "dataset.json",
        {
            "name": "scenes",
            "title": "Drawn scenes",
            "revision": "r1",
            "class_names": class_names,
            "counts": counts,
            "images": images,
            "skipped": [{"id": "test/sea/broken.jpg", "reason": "the file is truncated"}],
            "params": {"size": size},
        },
    )
    for model in models:
        _write_model(store, dataset, model, generator, images, size, class_names, names, finished, bare_card)
    return root


def _write_model(
    store: Store,
    dataset: Path,
    model: str,
    generator: np.random.Generator,
    images: int,
    size: int,
    class_names: tuple[str, ...],
    names: list[str],
    finished: bool,
    bare_card: bool,
) -> None:
    folder = store.model(dataset, model, "abcd1234")
    labels = np.arange(images) % len(class_names)
    correct = generator.random(images) < 0.9
    predicted = np.where(correct, labels, (labels + 1) % len(class_names))
    drawn = [_draw(generator, size, label) for label in labels]
    predictions = pl.DataFrame(
        {
            "image": [f"test/{class_names[label]}/{i:04d}.png" for i, label in enumerate(labels)],
            "target": predicted,
            "label": labels,
            "predicted": predicted,
            "probability": generator.uniform(0.5, 1, images).astype(np.float32),
            "correct": correct,
        }
    )
    write_json(folder / "card.json", _card(model, class_names, bare_card))
    write_array(folder / "images.zarr", np.stack([image for image, _ in drawn]))
    write_frame(folder / "predictions.parquet", predictions)
    luck = generator.normal(0, 1, (images, len(METRICS)))
    for name in names:
        _write_method(store, folder, name, generator, drawn, predictions, luck, finished)
    broken = Choice.of("full_grad")
    place = store.method(folder, broken)
    write_json(
        place / "choice.json",
        {"name": "full_grad", "params": {}, "version": 1, "title": "FullGrad", "family": "gradient", "signed": False},
    )
    write_json(place / "failed.json", {"error": "NotApplicable", "reason": "this network has layers without a bias."})


def _write_method(
    store: Store,
    folder: Path,
    name: str,
    generator: np.random.Generator,
    drawn: list[tuple[np.ndarray, np.ndarray]],
    predictions: pl.DataFrame,
    luck: np.ndarray,
    finished: bool,
) -> None:
    title, family, paper, signed, params, quality, passes = METHODS[name]
    choice = Choice.of(name, **params)
    place = store.method(folder, choice)
    write_json(
        place / "choice.json",
        {"name": name, "params": params, "title": title, "family": family, "paper": paper, "signed": signed},
    )
    write_array(place / "maps.zarr", np.stack([_map(generator, name, mask, signed, quality) for _, mask in drawn]))
    for j, (metric, (label, axis, direction, summary, bad, good)) in enumerate(METRICS.items()):
        if not finished and name in ("sobel_edges", "centre_gaussian") and j > 6:
            continue
        measure = Choice.of(metric)
        scores = bad + (good - bad) * (quality + 0.15 * luck[:, j] + 0.08 * generator.normal(0, 1, len(predictions)))
        if metric in ("pointing_game", "average_increase"):
            scores = (generator.random(len(predictions)) < scores).astype(float)
        if metric == "passes":
            scores = np.full(len(predictions), float(passes))
        if metric == "seconds_ratio":
            scores = (0.1 + passes) * generator.lognormal(0, 0.1, len(predictions))
        if axis == "localisation":
            scores[::5] = np.nan
        if name in ("cam", "grad_cam", "hires_cam") and axis != "cost":
            scores = bad + (good - bad) * (0.8 + 0.15 * luck[:, j])
        described = store.metric(place, measure)
        record = {"name": metric, "title": label, "family": axis, "direction": direction, "summary": summary}
        write_json(described.with_suffix(".json"), record)
        if name == "random" and metric == "mprt":
            write_json(
                described.with_suffix(".failed.json"), {"error": "NotApplicable", "reason": "it asks no network."}
            )
        else:
            write_frame(described, predictions.select("image").with_columns(score=pl.Series(scores)))


def _card(model: str, class_names: tuple[str, ...], bare: bool) -> dict[str, Any]:
    card = {
        "architecture": model,
        "class_names": class_names,
        "mean": [0.5] * 3,
        "std": [0.25] * 3,
        "input_size": 64,
        "target_layer": "features.10",
        "digest": "abcd1234",
    }
    if bare:
        return card
    epochs = np.arange(1, 13)
    k = len(class_names)
    curves = [
        {
            "epoch": int(e),
            "train_loss": 1.6 * np.exp(-e / 4) + 0.15,
            "validation_loss": 1.5 * np.exp(-e / 4) + 0.22 + 0.02 * np.sin(e),
            "train_accuracy": 1 - 0.6 * np.exp(-e / 4) - 0.03,
            "validation_accuracy": 1 - 0.6 * np.exp(-e / 4) - 0.06 + 0.01 * np.cos(e),
        }
        for e in epochs
    ]
    confusion = (np.eye(k) * 440 + 12).astype(int)
    return card | {
        "title": f"Our {model.replace('_', ' ')}",
        "pretrained": False,
        "parameters": 1_120_000,
        "data": {"name": "scenes", "revision": "r1", "counts": {"train": {"sea": 2300}}},
        "seed": 0,
        "versions": {"torch": "2.14.1", "vexbench": "0.1.0"},
        "test_accuracy": 0.912,
        "accuracy_per_class": {name: 0.86 + 0.02 * (i % 6) for i, name in enumerate(class_names)},
        "confusion": confusion.tolist(),
        "curves": curves,
        "epochs": 12,
        "best_epoch": 9,
        "seconds": 512.3,
    }


def _draw(generator: np.random.Generator, size: int, label: int) -> tuple[np.ndarray, np.ndarray]:
    """A sky, a ground and one blob of a colour that tells the class; with the blob's mask."""
    y, x = np.mgrid[0:size, 0:size] / size
    sky, ground = np.array([150, 190, 225]), np.array([120, 130, 100])
    horizon = generator.uniform(0.4, 0.7)
    image = np.where(y[..., None] < horizon, sky + 60 * (y[..., None] - 0.5), ground)
    cx, cy, radius = [*generator.uniform(0.25, 0.75, 2).tolist(), generator.uniform(0.12, 0.25)]
    mask = np.hypot(x - cx, y - cy) < radius if label % 2 else np.maximum(abs(x - cx), abs(y - cy)) < radius
    colour = np.array([[200, 90, 60], [40, 120, 50], [225, 235, 245], [110, 90, 80], [30, 90, 160], [90, 90, 95]])
    image = np.where(mask[..., None], colour[label % 6], image) + generator.normal(0, 5, (size, size, 1))
    return image.clip(0, 255).astype(np.uint8), mask


def _map(generator: np.random.Generator, name: str, mask: np.ndarray, signed: bool, quality: float) -> np.ndarray:
    size = len(mask)
    y, x = np.mgrid[0:size, 0:size] / size
    noise = generator.random((size, size))
    if name == "random":
        return noise.astype(np.float32)
    if name == "centre_gaussian":
        return np.exp(-((x - 0.5) ** 2 + (y - 0.5) ** 2) / 0.08).astype(np.float32)
    soft = mask.astype(float)
    for _ in range(6 if "cam" in name else 1):
        soft = (soft + np.roll(soft, 3, 0) + np.roll(soft, -3, 0) + np.roll(soft, 3, 1) + np.roll(soft, -3, 1)) / 5
    result = soft * (1 - 0.3 * noise) + (1 - quality) * 0.6 * noise * (name not in ("cam", "grad_cam", "hires_cam"))
    return (result - 0.35 * (1 - soft) * noise if signed else result).astype(np.float32)
