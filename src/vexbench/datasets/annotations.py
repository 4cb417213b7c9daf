"""Files that say where things are in images: boxes as Pascal VOC XML, COCO JSON or CSV, masks as PNG."""

import csv
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, NoReturn
from xml.etree import ElementTree

import numpy as np
from jaxtyping import Int
from PIL import Image

from vexbench.errors import VexbenchError
from vexbench.imaging import DAMAGE

ORIENTATION, ON_THE_SIDE = 0x0112, (5, 6, 7, 8)
"""EXIF's tag, and its values for images that are stored lying on a side."""
ONE_NUMBER = ("1", "L", "P", "I", "I;16")
"""Kinds of PNG with one number per pixel."""
CORNERS = ("x0", "y0", "x1", "y1")


class Noted(NamedTuple):
    """What a file says of one image: a box of a class in pixels, and the place to name when it is wrong."""

    image: str
    label: str | int
    box: tuple[float, float, float, float]
    where: str


class Notes(NamedTuple):
    """All boxes of a file or folder, the images that it names with or without a box, and the classes in its order."""

    boxes: tuple[Noted, ...]
    images: dict[str, str]
    """Name of each image, and where it is named."""
    class_names: tuple[str, ...]


class Refusing(ElementTree.TreeBuilder):
    """Builds no document that declares types: entities that expand to gigabytes, or read other files, begin there."""

    def doctype(self, name: str, pubid: str | None, system: str | None) -> NoReturn:
        """Refuse."""
        raise ValueError("it declares a document type, which annotations have no use for")


def read_voc(folder: Path) -> Notes:
    """Read Pascal VOC: a file per image, of the same stem.

    Corners count pixels from 1 and belong to the box, so (xmin, xmax) is from xmin − 1 to xmax; a 0, which other tools
    write for the first pixel, is taken for 1.

    Raises
    ------
    VexbenchError
        A file that cannot be read or is no annotation.
    """
    boxes, images = list[Noted](), dict[str, str]()
    for path in sorted(folder.rglob("*.xml")):
        image = path.relative_to(folder).with_suffix("").as_posix()
        images[image] = str(path)
        with broken(path, "Pascal VOC XML"):
            tree = ElementTree.fromstring(path.read_bytes(), ElementTree.XMLParser(target=Refusing()))
            for number, thing in enumerate(tree.iter("object"), 1):
                left, top, right, bottom = (
                    float(_text(thing, f"bndbox/{name}")) for name in ("xmin", "ymin", "xmax", "ymax")
                )
                box = (left - (left >= 1), top - (top >= 1), right, bottom)
                boxes.append(Noted(image, _text(thing, "name"), box, f"{path}, object {number}"))
    return Notes(tuple(boxes), images, _sorted(boxes))


def _text(thing: ElementTree.Element, name: str) -> str:
    text = (thing.findtext(name) or "").strip()
    if not text:
        raise ValueError(f"an object without {name.replace('/', '.')}")
    return text


def read_coco(path: Path) -> Notes:
    """Read COCO's images, categories and boxes (x, y, width, height); its outlines are not used.

    Raises
    ------
    VexbenchError
        The file cannot be read, is no annotation, or gives two entries one id.
    """
    with broken(path, "COCO JSON"):
        content = json.loads(path.read_bytes())
        names = _by_id("category", content["categories"], "name")
        files = _by_id("image", content["images"], "file_name")
        boxes = list[Noted]()
        for number, note in enumerate(content["annotations"]):
            where = f"{path}, annotation {note.get('id', number)}"
            if note["image_id"] not in files or note["category_id"] not in names:
                raise ValueError(f"{where} is of image {note['image_id']} and category {note['category_id']}, unlisted")
            x, y, width, height = _four(where, note["bbox"])
            label = names[note["category_id"]]
            boxes.append(Noted(files[note["image_id"]], label, (x, y, x + width, y + height), where))
        ordered = tuple(dict.fromkeys(names[key] for key in sorted(names)))
    return Notes(tuple(boxes), dict.fromkeys(files.values(), str(path)), ordered)


def _by_id(what: str, entries: list[dict[str, Any]], name: str) -> dict[Any, str]:
    """Names by id: whole numbers, or strings throughout, each once, as the classes' order hangs on them."""
    named = dict[Any, str]()
    for entry in entries:
        key = entry["id"]
        if type(key) not in (int, str):
            raise ValueError(f"{what} id {key!r} is no whole number")
        if key in named:
            raise ValueError(f"{what} id {key!r} stands there twice")
        if named and type(key) is not type(first := next(iter(named))):
            raise ValueError(f"{what} ids {first!r} and {key!r} are a number and a string; write all as numbers")
        named[key] = str(entry[name])
    return named


def _four(where: str, box: object) -> tuple[float, float, float, float]:
    if not isinstance(box, list) or len(box) != 4 or any(type(number) not in (int, float) for number in box):
        raise ValueError(f"the bbox of {where} must be a list of four numbers, not {repr(box)[:40]}")
    x, y, width, height = map(float, box)
    return x, y, width, height


def read_csv(path: Path) -> Notes:
    """Read rows of file, x0, y0, x1, y1 in pixels, and class_index or class (wnid counts as one); a row for each box.

    Raises
    ------
    VexbenchError
        The file cannot be read, lacks a column or a cell, or gives a class two names.
    """
    boxes, named = list[Noted](), dict[int, str]()
    with broken(path, "CSV of boxes"), path.open(encoding="utf-8-sig", newline="") as lines:
        table = csv.DictReader(lines, strict=True)
        columns = set(table.fieldnames or ())
        name = next((column for column in ("class", "wnid") if column in columns), None)
        if lacking := [column for column in ("file", *CORNERS) if column not in columns]:
            raise ValueError(f"there is no column {', '.join(lacking)}")
        if name is None and "class_index" not in columns:
            raise ValueError("there is no column class_index or class")
        for row in table:
            where = f"{path}, line {table.line_num}"
            if None in row:
                raise ValueError(f"line {table.line_num} has more cells than there are columns")
            if name is not None and not (row[name] or "").strip():
                raise ValueError(f"line {table.line_num} lacks a {name}")
            try:
                x0, y0, x1, y1 = (float(row[column]) for column in CORNERS)
                label = int(row["class_index"]) if "class_index" in columns else str(row[name])
            except (TypeError, ValueError) as error:
                raise ValueError(f"line {table.line_num} lacks a number: {error}") from None
            if (
                isinstance(label, int)
                and name is not None
                and (first := named.setdefault(label, row[name])) != row[name]
            ):
                raise ValueError(f"line {table.line_num} calls class {label} '{row[name]}', a line before it '{first}'")
            boxes.append(Noted(str(row["file"]), label, (x0, y0, x1, y1), where))
    indices = [box.label for box in boxes if isinstance(box.label, int)]
    by_index = tuple(named.get(index, str(index)) for index in range(max(indices, default=-1) + 1))
    return Notes(tuple(boxes), {box.image: box.where for box in boxes}, by_index or _sorted(boxes))


BY_ENDING: dict[str, Callable[[Path], Notes]] = {".json": read_coco, ".csv": read_csv}
"""How a file is read."""


def read_mask(path: Path) -> tuple[Int[np.ndarray, "H W"], bool]:
    """The numbers in a mask, and whether they stand for colours of a palette.

    Raises
    ------
    VexbenchError
        The file cannot be read, or is coloured.
    """
    with broken(path, "mask"), Image.open(path) as mask:
        if mask.mode not in ONE_NUMBER:
            raise ValueError(f"its pixels are {mask.mode}; save it as grey or with a palette")
        return np.asarray(mask).astype(np.int64), mask.mode == "P"


def size_of(path: Path) -> tuple[int, int]:
    """Width and height of an image as it is shown, read off the head of its file."""
    with broken(path, "image"), warnings.catch_warnings(action="ignore"), Image.open(path) as image:
        width, height = image.size
        return (height, width) if image.getexif().get(ORIENTATION) in ON_THE_SIDE else (width, height)


def _sorted(boxes: list[Noted]) -> tuple[str, ...]:
    return tuple(sorted({str(box.label) for box in boxes}))


@contextmanager
def broken(path: Path, what: str) -> Iterator[None]:
    """Name the file in what is said about it."""
    damage: tuple[Any, ...] = (*DAMAGE, ElementTree.ParseError, csv.Error, RecursionError, Image.DecompressionBombError)
    try:
        yield
    except KeyError as error:
        raise VexbenchError(f"{path}: no {what} that can be read: it lacks {error}; correct or remove it.") from error
    except (*damage, AttributeError) as error:
        raise VexbenchError(f"{path}: no {what} that can be read: {error}; correct or remove it.") from error
