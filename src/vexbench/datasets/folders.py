"""Photographs in folders: ROOT/CLASS/*.jpg, ROOT/SPLIT/CLASS/*.jpg, or unlabelled images in one folder."""

import os
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path
from typing import final

import numpy as np

from vexbench.datasets.base import Dataset, Skipped
from vexbench.errors import VexbenchError, unknown
from vexbench.imaging import RGB, SUFFIXES, decode
from vexbench.registry import dataset

WHOLE = "all"
"""The name of the only split where there are no split folders."""
UNLABELLED = "unlabelled"
"""The class of images that stand directly in a folder."""

Track = Callable[[Sequence[Path]], Iterable[Path]]
"""Passes files on one by one, and may draw a progress bar."""


@final
@dataclass(frozen=True)
class Split:
    """The images below one folder by class, sorted."""

    folder: Path
    images: dict[str, tuple[Path, ...]]

    @property
    def counts(self) -> dict[str, int]:
        """Images per class."""
        return {name: len(paths) for name, paths in self.images.items()}


@final
@dataclass(frozen=True)
class Folder(Dataset):
    """Images in files; an id is the path below `folder`."""

    folder: Path = field(default=Path())

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files, in the order of `ids`."""
        return tuple(self.folder / name for name in self.ids)

    def image(self, index: int, size: int | None = None) -> RGB:
        """Decode one file."""
        return decode(self.folder / self.ids[index], size)


@dataset(family="photographs", title="Image folder", paper="the user's own")
def folder(*, root: str = "", split: str = "", per_class: int = 0, seed: int = 0) -> Folder:
    """Open any folder of images: ROOT/CLASS, ROOT/SPLIT/CLASS, or images without labels directly in ROOT.

    `per_class=0` takes every image and reads none; otherwise a seeded sample, read once: unreadable files are
    skipped and replaced.

    Raises
    ------
    VexbenchError
        The folder, the split or the images are not there, or are fewer than `per_class`.
    """
    if not root:
        raise VexbenchError("folder: no root given; give the folder that holds the classes, root=PATH.")
    splits = survey(Path(root).expanduser())
    if not split and WHOLE not in splits:
        raise VexbenchError(f"folder {root}: holds splits; choose one with split={' or split='.join(splits)}.")
    if split and split not in splits and set(splits) == {WHOLE}:
        raise VexbenchError(f"folder {root}: holds no split folders, but split={split} was asked; leave split empty.")
    names = sorted({name for part in splits.values() for name in part.images} - {UNLABELLED})
    return open_split(
        "folder", Path(root).expanduser().resolve().name, splits, split or WHOLE, tuple(names), per_class, seed
    )


def open_split(
    name: str,
    title: str,
    splits: dict[str, Split],
    split: str,
    class_names: tuple[str, ...],
    per_class: int,
    seed: int,
) -> Folder:
    """Make the dataset of one split, labelled by the position in `class_names`."""
    if split not in splits:
        raise unknown(f"split of {name}", split, splits)
    if per_class < 0 or seed < 0:
        raise VexbenchError(f"{name}: per_class and seed must be 0 or more, not {per_class} and {seed}.")
    used = splits[split]
    files, labels, skipped = list[Path](), list[int](), list[Skipped]()
    for label, group in [(-1, UNLABELLED), *enumerate(class_names)]:
        paths = used.images.get(group, ())
        if per_class and (paths or label >= 0):
            where = f"{name} {used.folder}, class {group}"
            paths, bad = _sample(paths, per_class, np.random.default_rng((seed, label + 1)), where)
            skipped += [Skipped(path.relative_to(used.folder).as_posix(), reason) for path, reason in bad]
        files += paths
        labels += [label] * len(paths)
    ids = tuple(path.relative_to(used.folder).as_posix() for path in files)
    if alien := next((id for id in ids if re.search("[\ud800-\udfff]", id)), None):
        raise VexbenchError(f"{name} {used.folder}: the file name {alien!a} is not UTF-8; rename the file.")
    return Folder(
        name=name,
        title=title,
        revision=_revision(class_names, ids, files),
        class_names=class_names,
        ids=ids,
        labels=tuple(labels),
        counts={key: part.counts for key, part in splits.items()},
        skipped=tuple(skipped),
        folder=used.folder,
    )


def _revision(class_names: tuple[str, ...], ids: Sequence[str], files: Sequence[Path]) -> str:
    """Eight characters that change with the classes, and with the name or any byte of any file."""
    digest = blake2b(repr(class_names).encode(), digest_size=4)
    for id, path in zip(ids, files, strict=True):
        try:
            content = blake2b(path.read_bytes()).hexdigest()
        except OSError as error:
            raise VexbenchError(f"image {path}: cannot be read ({error.strerror}); allow it, or remove it.") from error
        digest.update(f"{id}\0{content}\n".encode())
    return digest.hexdigest()


def _sample(
    paths: Sequence[Path], amount: int, random: np.random.Generator, where: str
) -> tuple[tuple[Path, ...], list[tuple[Path, str]]]:
    """Draw readable files, sorted; a larger sample of the same seed contains the smaller."""
    if amount > len(paths):
        raise VexbenchError(f"{where}: per_class={amount}, but there are {len(paths)} images; ask for fewer.")
    good, bad = list[Path](), list[tuple[Path, str]]()
    for position in random.permutation(len(paths)):
        reason = unreadable(paths[position])
        if reason is None:
            good.append(paths[position])
        else:
            bad.append((paths[position], reason))
        if len(good) == amount:
            return tuple(sorted(good)), bad
    raise VexbenchError(
        f"{where}: per_class={amount}, but only {len(good)} of {len(paths)} images can be read; the first: {bad[0][1]}"
    )


def unreadable(path: Path) -> str | None:
    """Why the file cannot be decoded; None where it can."""
    try:
        decode(path)
    except VexbenchError as error:
        return str(error)
    return None


def survey(root: Path) -> dict[str, Split]:
    """Find splits and classes without opening a file; one split `WHOLE` where the classes stand in the root.

    A folder whose children hold images only in their own folders is a folder of splits.
    """
    if not root.is_dir():
        raise VexbenchError(f"folder {root}: {'is a file' if root.exists() else 'does not exist'}; check the path.")
    inner = _folders(root)
    direct = {child: any(_images(child)) for child in inner}
    nested = {child: any(any(_images(deep)) for deep in _folders(child)) for child in inner if not direct[child]}
    if any(nested.values()) and not any(_images(root)):
        return {child.name: read_split(child) for child in inner if direct[child] or nested.get(child)}
    return {WHOLE: read_split(root)}


def read_split(folder: Path) -> Split:
    """List the images of one split; a folder of images without class folders is `UNLABELLED`.

    Raises
    ------
    VexbenchError
        No image at all, a class without one, or images both in and beside class folders.
    """
    loose = tuple(_images(folder))
    classes = {
        child.name: tuple(sorted(file for base, _, _ in os.walk(child) for file in _images(Path(base))))
        for child in _folders(folder)
    }
    full = [name for name, paths in classes.items() if paths]
    if loose and full:
        raise VexbenchError(
            f"folder {folder}: {len(loose)} images stand beside the class folders ({', '.join(full[:3])}); "
            "move them into a class or away."
        )
    if loose:
        return Split(folder, {UNLABELLED: loose})
    if not full:
        raise VexbenchError(f"folder {folder}: no images in it; known endings: {' '.join(sorted(SUFFIXES))}.")
    if empty := [name for name, paths in classes.items() if not paths]:
        raise VexbenchError(f"folder {folder}: no images of class {', '.join(empty)}; add some or remove the folder.")
    return Split(folder, classes)


def _folders(folder: Path) -> list[Path]:
    # .cache and __MACOSX are no classes
    return sorted(child for child in folder.iterdir() if child.is_dir() and not child.name.startswith((".", "__")))


def _images(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in SUFFIXES and not path.name.startswith(".") and not path.is_dir():
            yield path
