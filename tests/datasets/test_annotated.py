"""Images with boxes or masks: what is read of them, where it lies at any size, and what is said when it is wrong."""

import json
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

import vexbench as vb
from vexbench.cli import app
from vexbench.datasets.annotated import annotated
from vexbench.datasets.scenes import scenes
from vexbench.errors import VexbenchError


def photograph(path: Path, size: tuple[int, int] = (40, 20), **options: object) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(len(str(path.name)))
    Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), np.uint8)).save(path, **options)
    return path


def voc(path: Path, *objects: tuple[str, int, int, int, int]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    things = "".join(
        f"<object><name>{name}</name><bndbox><xmin>{x0}</xmin><ymin>{y0}</ymin><xmax>{x1}</xmax><ymax>{y1}</ymax>"
        "</bndbox></object>"
        for name, x0, y0, x1, y1 in objects
    )
    path.write_text(f"<annotation><filename>of no meaning</filename>{things}</annotation>", encoding="utf-8")


def coco(path: Path, boxes: list[list[float]], file: str = "a.png") -> None:
    content = {
        "images": [{"id": 7, "file_name": file}, {"id": 9, "file_name": "b.png"}],
        "categories": [{"id": 18, "name": "owl"}, {"id": 3, "name": "bee"}],
        "annotations": [{"id": n, "image_id": 7, "category_id": 18, "bbox": box} for n, box in enumerate(boxes)],
    }
    path.write_text(json.dumps(content), encoding="utf-8")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Two loose images of 40 × 20 pixels."""
    for name in "ab":
        photograph(tmp_path / "images" / f"{name}.png")
    return tmp_path


LEFT_HALF = np.arange(20)[None].repeat(20, 0) < 10
"""Of an image squashed to 20 × 20."""


def test_voc_counts_from_one_and_corners_belong_to_the_box(root: Path) -> None:
    voc(root / "Annotations" / "a.xml", ("owl", 1, 1, 20, 20), ("bee", 40, 20, 40, 20))
    voc(root / "Annotations" / "b.xml")
    data = annotated(root=str(root))
    assert (data.class_names, data.labels, data.ids) == (("bee", "owl"), (1, -1), ("a.png", "b.png"))
    np.testing.assert_array_equal(data.region(0, 1, 20), LEFT_HALF)
    corner = data.region(0, 0, 20)  # half a pixel wide at this size, and still there
    assert corner.sum() == 1
    assert corner[19, 19]
    assert not data.region(1, 0, 20).any()  # no evidence marked: an empty region, which no metric counts as a hit
    voc(root / "Annotations" / "a.xml", ("owl", 0, 0, 20, 20))  # as tools that count from zero write
    np.testing.assert_array_equal(annotated(root=str(root)).region(0, 0, 20), LEFT_HALF)


def test_coco_boxes_have_a_width_and_a_height(root: Path) -> None:
    coco(root / "annotations.json", [[0, 0, 10, 20], [10, 0, 10, 20]])
    data = annotated(root=str(root))
    assert data.class_names == ("bee", "owl")  # by category id, not by name or place
    assert data.labels == (1, -1)
    np.testing.assert_array_equal(data.region(0, 1, 20), LEFT_HALF)  # both boxes
    assert not data.region(0, 0, 20).any()
    assert data.region(0, 1, 7).shape == (7, 7)


def test_a_csv_as_of_the_imagenet_boxes(root: Path) -> None:
    head = "file,class_index,wnid,x0,y0,x1,y1\n"
    (root / "boxes.csv").write_text(f"{head}a.png,2,n02,0.00,0.00,20.00,20.00\nb.png,0,n00,20,0,40,20\n")
    data = annotated(root=str(root))
    assert data.class_names == ("n00", "1", "n02")
    assert data.labels == (2, 0)
    np.testing.assert_array_equal(data.region(0, 2, 20), LEFT_HALF)
    np.testing.assert_array_equal(data.region(1, 0, 20), ~LEFT_HALF)
    (root / "classes.txt").write_text("ant\nbee\nowl\nyak\n")
    data = annotated(root=str(root))  # as many as the network has outputs
    assert (data.class_names, data.labels) == (("ant", "bee", "owl", "yak"), (2, 0))
    (root / "boxes.csv").write_text("file,class,x0,y0,x1,y1\na.png,owl,0,0,20,20\n")
    assert annotated(root=str(root)).labels == (2, -1)


def test_an_image_of_several_classes_is_of_the_one_with_the_largest_area(root: Path) -> None:
    voc(root / "Annotations" / "a.xml", ("ant", 1, 1, 10, 10), ("owl", 1, 1, 9, 9), ("owl", 20, 10, 29, 19))
    assert annotated(root=str(root)).labels[0] == 1


def test_class_folders_say_the_class(tmp_path: Path) -> None:
    for name in ("owl/1.png", "bee/1.png", "bee/2.png"):
        photograph(tmp_path / "images" / name)
    (tmp_path / "boxes.csv").write_text("file,class,x0,y0,x1,y1\nbee/1.png,owl,0,0,20,20\n2.png,bee,0,0,20,20\n")
    data = annotated(root=str(tmp_path))
    assert (data.class_names, data.labels) == (("bee", "owl"), (0, 0, 1))
    assert data.region(0, 1, 8).any()
    assert not data.region(0, 0, 8).any()
    assert data.region(1, 0, 8).any()
    assert annotated(root=str(tmp_path), per_class=1).labels == (0, 1)
    (tmp_path / "classes.txt").write_text("owl\nant\nbee\n")
    assert annotated(root=str(tmp_path), per_class=1).labels == (2, 0)


def test_masks_of_evidence_are_for_the_images_class(tmp_path: Path) -> None:
    for name in ("bee/1.png", "owl/1.png"):
        photograph(tmp_path / "images" / name)
        levels = np.zeros((20, 40), np.uint8)
        levels[:, :20] = 1  # hardly seen, and evidence
        (tmp_path / "masks" / name).parent.mkdir(parents=True)
        Image.fromarray(levels).save(tmp_path / "masks" / name)
    data = annotated(root=str(tmp_path))
    np.testing.assert_array_equal(data.region(1, 1, 20), LEFT_HALF)
    assert not data.region(1, 0, 20).any()
    # a number per class: 1 is bee
    each = annotated(root=str(tmp_path), masks="classes")
    np.testing.assert_array_equal(each.region(1, 0, 20), LEFT_HALF)
    assert not each.region(1, 1, 20).any()
    assert data.revision != each.revision


def test_masks_without_classes_are_for_any_target(root: Path) -> None:
    (root / "masks").mkdir()
    Image.fromarray(LEFT_HALF.repeat(2, 1)).save(root / "masks" / "a.png")  # one bit per pixel
    data = annotated(root=str(root))
    assert data.labels == (-1, -1)
    for target in (0, 5):
        np.testing.assert_array_equal(data.region(0, target, 20), LEFT_HALF)
    assert not data.region(1, 0, 20).any()


def test_drawings_come_back_with_their_masks(tmp_path: Path) -> None:
    out = tmp_path / "drawings"
    assert CliRunner().invoke(app, f"data scenes --per-class 1 --size 48 --out {out}".split()).exit_code == 0
    data, drawn = annotated(root=str(out)), scenes(per_class=1, size=48)
    assert (data.class_names, data.labels) == (drawn.class_names, drawn.labels)
    for index in range(6):
        np.testing.assert_array_equal(data.image(index), drawn.image(index))
        for target in range(6):
            np.testing.assert_array_equal(data.region(index, target, 48), drawn.region(index, target, 48))
    half = data.region(0, 0, 24)  # mostly evidence, not any
    assert abs(half.mean() - drawn.region(0, 0, 48).mean()) < 0.05


def test_an_image_on_its_side_is_annotated_as_it_is_shown(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    photograph(tmp_path / "images" / "a.png", (20, 40), exif=exif)
    (tmp_path / "boxes.csv").write_text("file,class,x0,y0,x1,y1\na.png,owl,0,0,40,20\n")
    data = annotated(root=str(tmp_path))
    assert data.image(0).shape == (20, 40, 3)
    assert data.region(0, 0, 8).all()


def test_the_revision_follows_images_and_annotations(root: Path) -> None:
    text = "file,class,x0,y0,x1,y1\na.png,owl,0,0,20,20\nb.png,owl,0,0,5,5\n"
    revisions = []
    for changed in (text, text.replace("5,5", "5,6"), text.replace("b.png,owl", "b.png,bee")):
        (root / "boxes.csv").write_text(changed)
        revisions.append(annotated(root=str(root)).revision)
    (root / "boxes.csv").write_text(text)
    assert annotated(root=str(root)).revision == revisions[0]
    head, *rows = text.splitlines()
    (root / "boxes.csv").write_text("\n".join([head, *reversed(rows)]))  # says the same
    assert annotated(root=str(root)).revision == revisions[0]
    photograph(root / "images" / "b.png", (41, 20))
    revisions.append(annotated(root=str(root)).revision)
    (root / "boxes.csv").unlink()
    (root / "masks").mkdir()
    for level in (0, 1):
        Image.fromarray(np.full((20, 40), level, np.uint8)).save(root / "masks" / "a.png")
        revisions.append(annotated(root=str(root)).revision)
    assert len(set(revisions)) == len(revisions)


CSV = "file,class,x0,y0,x1,y1\n"


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("a.png,owl,0,0,41,20", r"line 2: the box .* is not within image 'a.png' of 40 × 20 pixels"),
        ("a.png,owl,-1,0,20,20", "is not within image"),
        ("a.png,owl,0,0,20,21", "is not within image"),
        ("a.png,owl,20,0,0,20", "line 2: .* has its corners reversed"),
        ("a.png,owl,0,20,20,0", "corners reversed"),
        ("a.png,owl,3,3,3,9", "corners reversed or holds nothing"),
        ("a.png,owl,nan,0,9,9", "is not of finite numbers"),
        ("a.png,owls,0,0,20,20", "line 2: 'owls'; did you mean owl"),
        ("c.png,owl,0,0,20,20", "line 2: is of image 'c.png', but there is none in"),
        ("a.png,owl,0,0,20", "line 2 lacks a number"),
        ("a.png,owl,x,0,20,3", "line 2 lacks a number"),
        ("a.png,owl,0,0,20,20,7", "line 2 has more cells than there are columns"),
        ("a.png,,0,0,20,20", "line 2 lacks a class"),
        ("", "there are no boxes in"),
    ],
)
def test_what_is_said_of_a_wrong_box(root: Path, row: str, reason: str) -> None:
    (root / "classes.txt").write_text("owl\nbee\n")
    (root / "boxes.csv").write_text(f"{CSV}{row}\n")
    with pytest.raises(VexbenchError, match=reason):
        annotated(root=str(root))


def test_half_a_pixel_of_rounding_is_forgiven(root: Path) -> None:
    (root / "boxes.csv").write_text(f"{CSV}a.png,owl,-0.2,0,40.3,20.1\n")
    assert annotated(root=str(root)).region(0, 0, 9).all()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("boxes.csv", "file,x0,y0,x1\n", "no column y1"),
        ("boxes.csv", "file,x0,y0,x1,y1\n", "no column class_index or class"),
        ("boxes.csv", 'file,class,x0,y0,x1,y1\n"a.png,owl,0,0,1,1\n', "no CSV of boxes that can be read"),
        ("boxes.csv", "file,class_index,x0,y0,x1,y1\na.png,7,0,0,9,9\n", "line 2: class 7 does not exist"),
        ("boxes.csv", "file,class_index,x0,y0,x1,y1\na.png,-1,0,0,9,9\n", "line 2: class -1 does not exist"),
        ("boxes.csv", "file,x0,y0,x1,y1,class\na.png,0,0,9,9\n", "line 2 lacks a class"),
        (
            "boxes.csv",
            "file,class_index,class,x0,y0,x1,y1\na.png,0,owl,0,0,9,9\nb.png,0,bee,0,0,9,9\n",
            "line 3 calls class 0 'bee', a line before it 'owl'",
        ),
        ("annotations.json", "{", "no COCO JSON that can be read"),
        ("annotations.json", "[" * 100_000, "no COCO JSON that can be read"),
        ("annotations.json", "[]", "no COCO JSON that can be read"),
        ("annotations.json", '{"images": []}', "it lacks 'categories'"),
        ("annotations.json", '{"images": [], "categories": [], "annotations": []}', "there are no boxes in"),
        (
            "annotations.json",
            '{"images": [], "categories": [], "annotations": [{"id": 4, "image_id": 1, "category_id": 2}]}',
            "annotation 4 is of image 1 and category 2, unlisted",
        ),
        ("Annotations/a.xml", "<annotation><object>", "a.xml: no Pascal VOC XML that can be read"),
        ("Annotations/a.xml", "", "no Pascal VOC XML that can be read"),
        ("Annotations/a.xml", "<a><object><name>owl</name></object></a>", "an object without bndbox.xmin"),
        ("Annotations/c.xml", "<annotation/>", "is of image 'c', but there is none"),
        ("masks/c.png", None, "is of image 'c', but there is none"),
        ("masks/a.png", None, "is 10 × 10 pixels, but its image is 40 × 20"),
        ("masks/a.png", "text", "a.png: no image that can be read"),
        ("notes.txt", "", "holds none of masks, Annotations"),
    ],
)
def test_what_is_said_of_a_broken_file(root: Path, name: str, content: str | None, reason: str) -> None:
    (root / "classes.txt").write_text("owl\nbee\n")
    path = root / name
    path.parent.mkdir(exist_ok=True)
    if content is None:
        photograph(path, (10, 10))
    else:
        path.write_text(content)
    with pytest.raises(VexbenchError, match=reason):
        annotated(root=str(root))


@pytest.mark.parametrize(
    ("part", "content", "reason"),
    [
        ("categories", [{"id": 3, "name": "bee"}, {"id": "4", "name": "owl"}], "category ids 3 and '4' are a number"),
        ("categories", [{"id": 3, "name": "bee"}, {"id": 3, "name": "owl"}], "category id 3 stands there twice"),
        ("categories", [{"id": None, "name": "bee"}], "category id None is no whole number"),
        ("images", [{"id": 7, "file_name": "a.png"}, {"id": 7, "file_name": "b.png"}], "image id 7 stands there twice"),
        *(
            (
                "annotations",
                [{"id": 5, "image_id": 7, "category_id": 3, "bbox": box}],
                "bbox of .* annotation 5 must be",
            )
            for box in ("1234", [1, 2, 3], [1, 2, 3, "4"], [1, 2, 3, True], {"1": 1, "2": 2, "3": 3, "4": 4}, 5)
        ),
    ],
)
def test_what_is_said_of_broken_coco(root: Path, part: str, content: list[object], reason: str) -> None:
    coco(root / "annotations.json", [[0, 0, 9, 9]])
    whole = json.loads((root / "annotations.json").read_text())
    (root / "annotations.json").write_text(json.dumps(whole | {part: content}))
    with pytest.raises(VexbenchError, match=f"annotations.json: no COCO JSON that can be read: .*{reason}") as caught:
        annotated(root=str(root))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "entity",
    [
        '<!ENTITY x "1">',
        '<!ENTITY x SYSTEM "file:///etc/hostname">',
        "".join(f'<!ENTITY e{n} "{"&e;" * 9}">' for n in range(30)),
    ],
)
def test_entities_are_never_expanded(root: Path, entity: str) -> None:
    (root / "Annotations").mkdir()
    (root / "Annotations" / "a.xml").write_text(f"<!DOCTYPE a [{entity}]><a><object><name>&x;</name></object></a>")
    started = time.perf_counter()
    with pytest.raises(VexbenchError, match="declares a document type"):
        annotated(root=str(root))
    assert time.perf_counter() - started < 2


def test_a_name_that_fits_two_images_is_told(tmp_path: Path) -> None:
    for name in ("bee/1.png", "owl/1.png"):
        photograph(tmp_path / "images" / name)
    (tmp_path / "boxes.csv").write_text(f"{CSV}1.png,owl,0,0,9,9\n")
    with pytest.raises(VexbenchError, match=r"'1.png' may be bee/1.png, owl/1.png; name it by its path"):
        annotated(root=str(tmp_path))


def test_where_things_are_looked_for(root: Path, tmp_path: Path) -> None:
    (root / "boxes.csv").write_text(f"{CSV}a.png,owl,0,0,9,9\n")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    coco(elsewhere / "other.json", [[0, 0, 20, 20]])
    assert annotated(root=str(root), annotations="elsewhere/other.json").class_names == ("bee", "owl")
    assert annotated(root=str(root), annotations=str(elsewhere / "other.json")).class_names == ("bee", "owl")
    (root / "masks").mkdir()
    for options, reason in (
        ({}, "holds masks and boxes.csv; say which by annotations=PATH"),
        ({"annotations": "nowhere.csv"}, "nowhere.csv do not exist"),
        ({"annotations": "images/a.png"}, "expected COCO .json, .csv, or a folder"),
        ({"annotations": "masks"}, "holds neither Pascal VOC .xml nor mask .png"),
        ({"annotations": "boxes.csv", "masks": "class"}, "did you mean classes"),
        ({"annotations": "boxes.csv", "split": "test"}, "unknown split"),
    ):
        with pytest.raises(VexbenchError, match=reason):
            annotated(root=str(root), **options)
    with pytest.raises(VexbenchError, match="no root given"):
        annotated()
    with pytest.raises(VexbenchError, match="does not exist"):
        annotated(root=str(root / "nowhere"))


def test_a_mask_must_have_one_number_per_pixel(root: Path) -> None:
    photograph(root / "masks" / "a.png")
    with pytest.raises(VexbenchError, match=r"a.png: no mask that can be read: its pixels are RGB"):
        annotated(root=str(root)).region(0, 0, 8)


def test_the_command_line_shows_it(root: Path) -> None:
    (root / "boxes.csv").write_text(f"{CSV}a.png,owl,0,0,9,9\na.png,bee,0,0,9,9\n")
    told = CliRunner().invoke(app, ["data", "annotated", "--root", str(root), "--json"])
    assert json.loads(told.stdout)["annotations"] == {"annotated images": 1, "boxes": 2}
    lines = [
        " ".join(line.split())
        for line in CliRunner().invoke(app, ["data", "annotated", "--root", str(root)]).stdout.splitlines()
    ]
    assert "annotated images 1" in lines
    assert "boxes 2" in lines
    assert "annotated" in CliRunner().invoke(app, ["list", "datasets"]).stdout


def test_a_study_over_boxes(root: Path, tmp_path: Path) -> None:
    (root / "classes.txt").write_text("owl\nbee\n")
    (root / "boxes.csv").write_text(f"{CSV}a.png,owl,0,0,20,20\n")
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(3, 2))
    config = vb.StudyConfig(
        datasets=[{"name": "annotated", "root": str(root)}],
        models=[vb.Classifier(network, input_size=16)],
        methods=["random"],
        metrics=["pointing_game", "relevance_mass_accuracy"],
        out=tmp_path / "study",
    )
    with torch.no_grad():
        network[2].bias[:] = torch.tensor([9.0, -9.0])  # owl, always
    rows = vb.run(config).frame().sort("image")
    assert rows["score"].is_null().to_list() == [False, False, True, True]  # b has no annotation
    assert rows.filter(metric="relevance_mass_accuracy")["score"][0] == pytest.approx(0.5, abs=0.1)
