"""Photographs with boxes or masks: a folder of images, and beside it where the evidence is."""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import blake2b
from pathlib import Path, PurePosixPath
from typing import NamedTuple, final

import numpy as np
from jaxtyping import Bool
from PIL import Image

from vexbench.datasets.annotations import BY_ENDING, Noted, Notes, read_mask, read_voc, size_of
from vexbench.datasets.base import Dataset
from vexbench.datasets.folders import UNLABELLED, WHOLE, Split, open_split, survey
from vexbench.errors import VexbenchError, unknown
from vexbench.imaging import RGB, decode
from vexbench.registry import dataset

IMAGES = ("images", "JPEGImages")
"""Where the images stand below the root, unless they stand in it."""
PLACES = ("masks", "Annotations", "annotations", "boxes.csv", "annotations.csv", "annotations.json")
"""Where the annotations are looked for below the root."""
CLASSES = "classes.txt"
"""Below the root, the names of the classes, one a line, in the order of the network's outputs."""
READINGS = ("auto", "evidence", "classes")
"""What the numbers in a mask mean."""
ROUNDING = 0.5
"""So many pixels may a box stand out, and is cut."""


class Box(NamedTuple):
    """A box in shares of the image's width and height, x0 < x1, y0 < y1."""

    target: int
    x0: float
    y0: float
    x1: float
    y1: float


@final
@dataclass(frozen=True)
class Annotated(Dataset):
    """Images in files with boxes, or with a mask file each; an image without either has no evidence marked."""

    folder: Path = field(default=Path())
    boxes: tuple[tuple[Box, ...], ...] = ()
    masks: tuple[Path | None, ...] = ()
    reading: str = "auto"

    def image(self, index: int, size: int | None = None) -> RGB:
        """Decode one file."""
        return decode(self.folder / self.ids[index], size)

    def region(self, index: int, target: int, size: int) -> Bool[np.ndarray, "size size"]:
        """Where the class is annotated: all its boxes, each of a pixel at least, or the pixels mostly in its mask.

        A mask of evidence is for the image's own class; where that is not known, for any.
        """
        where = np.zeros((size, size), bool)
        if self.boxes:
            for box in self.boxes[index]:
                if box.target == target:
                    where[_pixels(box.y0, box.y1, size), _pixels(box.x0, box.x1, size)] = True
            return where
        path = self.masks[index]
        if path is None:
            return where
        numbers, indexed = read_mask(path)
        if self.reading == "classes" or (self.reading == "auto" and indexed):
            shown = numbers == target + 1
        elif self.labels[index] in (-1, target):
            shown = numbers != 0
        else:
            return where
        # each pixel of the smaller picture is an average: what is mostly evidence is
        picture = Image.fromarray(shown.astype(np.uint8) * 255)
        return np.asarray(picture.resize((size, size), Image.Resampling.BOX)) >= 128


def _pixels(start: float, end: float, size: int) -> slice:
    first = min(round(start * size), size - 1)
    return slice(first, max(round(end * size), first + 1))


@final
@dataclass(frozen=True)
class Found:
    """What a root holds: its images by split, and each image's boxes or mask."""

    images: Path
    splits: dict[str, Split]
    class_names: tuple[str, ...]
    annotations: Path
    boxes: dict[Path, tuple[Box, ...]] = field(default_factory=dict)
    masks: dict[Path, Path] = field(default_factory=dict)

    @property
    def counts(self) -> dict[str, int]:
        """How many images are annotated, and by how many boxes or masks."""
        kind = {"boxes": sum(map(len, self.boxes.values()))} if self.boxes else {"masks": len(self.masks)}
        return {"annotated images": sum(map(bool, (self.boxes or self.masks).values())), **kind}


@dataset(family="photographs", title="Annotated images", paper="the user's own")
def annotated(
    *, root: str = "", annotations: str = "", masks: str = "auto", split: str = "", per_class: int = 0, seed: int = 0
) -> Annotated:
    """Open a folder of images with boxes (Pascal VOC XML, COCO JSON, CSV) or masks (PNG).

    Images stand in ROOT/images, ROOT/JPEGImages or ROOT, as `folder` has them; `split`, `per_class` and `seed` are as
    for `folder`. `annotations` is a file or a folder, absolute or below the root; without it, it is ROOT/masks,
    /Annotations, /annotations, /boxes.csv, /annotations.csv or /annotations.json.

    Classes are the folders of the images. Images without class folders get the class that most of their boxes' area
    is of. ROOT/classes.txt, where there is one, names the classes, one a line, in the order of the network's outputs.

    masks: `auto` reads an indexed (palette) PNG as a number per class, 0 for nobody and k + 1 for class k, and a grey
    one as evidence wherever it is not 0; `classes` and `evidence` read all in one of these ways.

    Raises
    ------
    VexbenchError
        No images or annotations there; an annotation of an image that is not there, or of an unknown class; a box
        outside its image, or with its corners reversed; a mask of another size; a file that cannot be read.
    """
    if not root:
        raise VexbenchError("annotated: no root given; give the folder that holds images and annotations, root=PATH.")
    if masks not in READINGS:
        raise unknown("reading of masks", masks, READINGS)
    found = find(Path(root).expanduser(), annotations)
    if not split and WHOLE not in found.splits:
        raise VexbenchError(f"annotated {root}: holds splits; choose one with split={' or split='.join(found.splits)}.")
    chosen = split or WHOLE
    names = sorted(set(found.splits[chosen].images) - {UNLABELLED}) if chosen in found.splits else []
    title = Path(root).expanduser().resolve().name
    files = open_split("annotated", title, found.splits, chosen, tuple(names), per_class, seed)
    boxes = tuple(found.boxes.get(path, ()) for path in files.paths) if found.boxes else ()
    drawn = tuple(found.masks.get(path) for path in files.paths) if found.masks else ()
    labels = [found.class_names.index(names[label]) if label >= 0 else -1 for label in files.labels]
    if boxes:
        labels = [_main(of) if label < 0 else label for label, of in zip(labels, boxes, strict=True)]
    digest = blake2b(repr((files.revision, found.class_names, masks, boxes)).encode(), digest_size=4)
    for path in drawn:
        digest.update(b"" if path is None else blake2b(path.read_bytes()).digest())
        digest.update(b"\0")
    return Annotated(
        name="annotated",
        title=title,
        revision=digest.hexdigest(),
        class_names=found.class_names,
        ids=files.ids,
        labels=tuple(labels),
        counts=files.counts,
        skipped=files.skipped,
        folder=files.folder,
        boxes=boxes,
        masks=drawn,
        reading=masks,
    )


def _main(boxes: Iterable[Box]) -> int:
    """The class of the largest area; -1 without a box."""
    areas = defaultdict[int, float](float)
    for box in boxes:
        areas[box.target] += (box.x1 - box.x0) * (box.y1 - box.y0)
    return max(sorted(areas), key=areas.__getitem__, default=-1)


def find(root: Path, annotations: str = "") -> Found:
    """Find the images and the annotations below a root, and check each against the other."""
    if not root.is_dir():
        raise VexbenchError(f"annotated {root}: {'is a file' if root.exists() else 'does not exist'}; check the path.")
    images = next((root / name for name in IMAGES if (root / name).is_dir()), root)
    place = _place(root, annotations)
    if images == root and place.is_dir() and place.is_relative_to(root):
        raise VexbenchError(
            f"annotated {root}: holds {place.name} beside images; move the images to {root / 'images'}."
        )
    splits = survey(images)
    paths = [path for part in splits.values() for few in part.images.values() for path in few]
    named = _lookup(images, paths)
    folders = sorted({name for part in splits.values() for name in part.images} - {UNLABELLED})
    listed = _listed(root / CLASSES)
    if listed and (alien := [name for name in folders if name not in listed]):
        raise unknown(f"class folder of {images}", alien[0], listed)
    classes = listed or tuple(folders)
    if place.is_dir() and not any(place.rglob("*.xml")):
        masks = _masks(place, named)
        return Found(images, splits, classes, place, masks=masks)
    notes = read_voc(place) if place.is_dir() else BY_ENDING[place.suffix.lower()](place)
    classes = classes or notes.class_names
    return Found(images, splits, classes, place, boxes=_boxes(place, notes, named, classes))


def _place(root: Path, annotations: str) -> Path:
    if annotations:
        place = root / Path(annotations).expanduser()
        if not place.exists():
            raise VexbenchError(f"annotated {root}: the annotations {place} do not exist; check the path.")
    else:
        there = {child.name for child in root.iterdir()}
        found = [name for name in PLACES if name in there]
        if len(found) != 1:
            what = f"holds {' and '.join(found)}" if found else f"holds none of {', '.join(PLACES)}"
            raise VexbenchError(f"annotated {root}: {what}; say which by annotations=PATH.")
        place = root / found[0]
    if not place.is_dir() and place.suffix.lower() not in BY_ENDING:
        raise VexbenchError(
            f"annotated {place}: expected COCO .json, .csv, or a folder of VOC .xml or mask .png files."
        )
    return place


def _listed(path: Path) -> tuple[str, ...]:
    if not path.is_file():
        return ()
    try:
        names = tuple(path.read_text(encoding="utf-8-sig").split("\n"))
    except (OSError, UnicodeDecodeError) as error:
        raise VexbenchError(f"{path}: cannot be read ({error}); write one class a line.") from error
    names = tuple(name.strip() for name in names if name.strip())
    if len(set(names)) < len(names):
        raise VexbenchError(f"{path}: names a class twice; write each class on one line.")
    return names


Lookup = Callable[[str, str], Path]
"""An image's path by its name in an annotation, and where that is."""


def _lookup(images: Path, paths: Sequence[Path]) -> Lookup:
    """Find images by their path below the folder, or else by their file name, both with their ending or without."""
    exact, loose = defaultdict[str, set[Path]](set), defaultdict[str, set[Path]](set)
    for path in paths:
        relative = path.relative_to(images)
        for name in (relative, relative.with_suffix("")):
            exact[name.as_posix()].add(path)
            loose[name.name].add(path)

    def look_up(name: str, where: str) -> Path:
        wanted = PurePosixPath(name.replace("\\", "/"))
        found = exact.get(wanted.as_posix()) or loose.get(wanted.name) or set()
        if len(found) == 1:
            return next(iter(found))
        if not found:
            raise VexbenchError(f"{where}: is of image '{name}', but there is none in {images}; add or leave it out.")
        several = ", ".join(sorted(path.relative_to(images).as_posix() for path in found)[:3])
        raise VexbenchError(f"{where}: '{name}' may be {several}; name it by its path below {images}.")

    return look_up


def _masks(folder: Path, named: Lookup) -> dict[Path, Path]:
    masks = dict[Path, Path]()
    for path in sorted(path for path in folder.rglob("*") if path.suffix.lower() == ".png"):
        image = named(path.relative_to(folder).with_suffix("").as_posix(), str(path))
        if image in masks:
            raise VexbenchError(f"{path}: {masks[image]} is a mask of {image}, too; remove one.")
        if (size := size_of(path)) != (expected := size_of(image)):
            raise VexbenchError(
                f"{path}: is {size[0]} × {size[1]} pixels, but its image is {expected[0]} × {expected[1]}; "
                "masks must be of the image's size."
            )
        masks[image] = path
    if not masks:
        raise VexbenchError(f"annotated {folder}: holds neither Pascal VOC .xml nor mask .png files.")
    return masks


def _boxes(place: Path, notes: Notes, named: Lookup, classes: tuple[str, ...]) -> dict[Path, tuple[Box, ...]]:
    paths = {name: named(name, where) for name, where in notes.images.items()}
    if not notes.boxes:
        raise VexbenchError(f"annotated: there are no boxes in {place}.")
    sizes = {path: size_of(path) for path in paths.values()}
    targets = {name: index for index, name in enumerate(classes)}
    boxes = dict[Path, list[Box]]((path, []) for path in paths.values())
    for note in notes.boxes:
        path = paths[note.image]
        target = targets.get(note.label) if isinstance(note.label, str) else note.label
        if target is None:
            raise unknown(f"class in {note.where}:", str(note.label), classes)
        if not 0 <= target < len(classes):
            raise VexbenchError(f"{note.where}: class {target} does not exist; there are 0 to {len(classes) - 1}.")
        boxes[path].append(Box(target, *_shares(note, *sizes[path])))
    # the order of the boxes in the file means nothing
    return {path: tuple(sorted(few)) for path, few in boxes.items()}


def _shares(note: Noted, width: int, height: int) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = note.box
    told = f"{note.where}: the box from ({x0:g}, {y0:g}) to ({x1:g}, {y1:g})"
    if not all(map(math.isfinite, note.box)):
        raise VexbenchError(f"{told} is not of finite numbers.")
    if x0 >= x1 or y0 >= y1:
        raise VexbenchError(f"{told} has its corners reversed or holds nothing; the first corner is the upper left.")
    if min(x0, y0) < -ROUNDING or x1 > width + ROUNDING or y1 > height + ROUNDING:
        raise VexbenchError(f"{told} is not within image '{note.image}' of {width} × {height} pixels.")
    shares = (x0 / width, y0 / height, x1 / width, y1 / height)
    return tuple(min(max(share, 0.0), 1.0) for share in shares)  # pyright: ignore[reportReturnType]
