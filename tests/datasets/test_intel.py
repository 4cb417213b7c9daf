"""The Intel set: layout, report, download; and the known facts of the real files."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from vexbench.datasets import intel as module
from vexbench.datasets.intel import CLASS_NAMES, fetch, integrity, intel
from vexbench.errors import VexbenchError

REAL = Path(__file__).parents[2] / ".." / "shared" / "data" / "intel"
needs_photographs = pytest.mark.skipif(not REAL.is_dir(), reason="the Intel photographs are not in ../shared/data")


def photograph(path: Path, seed: int, size: tuple[int, int] = (150, 150)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (*size[::-1], 3), np.uint8)).save(path, format="png")


def build(root: Path, *, doubled: bool) -> Path:
    for k, split in enumerate(("seg_train", "seg_test")):
        base = root / split / split if doubled else root / split
        for label, name in enumerate(CLASS_NAMES):
            for number in range(2):
                photograph(base / name / f"{number}.jpg", 100 * k + 10 * label + number)
    photograph((root / "seg_pred" / "seg_pred" if doubled else root / "seg_pred") / "9.jpg", 999)
    return root


@pytest.mark.parametrize("doubled", [True, False])
def test_the_archive_opens_with_and_without_doubled_folders(tmp_path: Path, doubled: bool) -> None:
    root = str(build(tmp_path, doubled=doubled))
    test = intel(root=root)
    assert test.class_names == CLASS_NAMES
    assert test.labels == (0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 5, 5)
    assert test.ids[:3] == ("buildings/0.jpg", "buildings/1.jpg", "forest/0.jpg")
    assert {split: sum(of.values()) for split, of in test.counts.items()} == {"train": 12, "test": 12, "prediction": 1}
    prediction = intel(root=root, split="prediction")
    assert (prediction.ids, prediction.labels, prediction.class_names) == (("9.jpg",), (-1,), CLASS_NAMES)


def test_what_is_said_when_something_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(VexbenchError, match="--fetch"):
        intel()
    with pytest.raises(VexbenchError, match="does not exist"):
        intel(root=str(tmp_path / "nowhere"))
    with pytest.raises(VexbenchError, match="holds none of seg_train"):
        intel(root=str(tmp_path))
    root = build(tmp_path, doubled=True)
    with pytest.raises(VexbenchError, match="per_class=3, but there are 2"):
        intel(root=str(root), per_class=3)
    with pytest.raises(VexbenchError, match="did you mean test"):
        intel(root=str(root), split="tests")
    (root / "seg_test" / "seg_test" / "sea").rename(root / "seg_test" / "seg_test" / "ocean")
    with pytest.raises(VexbenchError, match="missing or alien: ocean, sea"):
        intel(root=str(root))


def test_the_report_finds_what_was_planted(tmp_path: Path) -> None:
    root = build(tmp_path, doubled=True)
    photograph(root / "seg_train/seg_train/sea/odd.jpg", 5, (150, 113))
    (root / "seg_train/seg_train/sea/bad.jpg").write_bytes(b"\xff\xd8 no more")
    twin = (root / "seg_train/seg_train/glacier/0.jpg").read_bytes()
    for place in ("seg_test/seg_test/mountain/twin.jpg", "seg_pred/seg_pred/twin.jpg"):
        (root / place).write_bytes(twin)
    street = (root / "seg_test/seg_test/street/0.jpg").read_bytes()
    (root / "seg_test/seg_test/street/copy.jpg").write_bytes(street)
    report = integrity(root)
    assert report.counts["train"]["sea"] == 4
    assert report.usual_size == (150, 150)
    assert report.odd_sizes == {"train": {(150, 113): 1}, "test": {}, "prediction": {}}
    assert [skip.id for skip in report.corrupt] == ["seg_train/seg_train/sea/bad.jpg"]
    assert report.duplicates == (
        ("seg_pred/seg_pred/twin.jpg", "seg_test/seg_test/mountain/twin.jpg", "seg_train/seg_train/glacier/0.jpg"),
        ("seg_test/seg_test/street/0.jpg", "seg_test/seg_test/street/copy.jpg"),
    )
    assert report.leaks == report.conflicts == report.duplicates[:1]


def test_fetch_asks_kagglehub_for_the_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = list[str]()

    def download(handle: str) -> str:
        asked.append(handle)
        return str(build(tmp_path, doubled=True))

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=download))
    assert len(intel(root=str(fetch()))) == 12
    assert asked == ["puneet6060/intel-image-classification"]


def test_fetch_says_what_is_missing_or_failed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(VexbenchError, match=r"pip install vexbench\[fetch\]"):
        fetch()

    def offline(handle: str) -> str:
        raise ConnectionError("no route\nto host")

    monkeypatch.setitem(sys.modules, "kagglehub", SimpleNamespace(dataset_download=offline))
    with pytest.raises(VexbenchError, match=r"no route to host.*check the network"):
        fetch()


def test_datasets_need_no_tensor_library() -> None:
    code = "import sys, vexbench.datasets; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@needs_photographs
def test_the_real_set_is_what_is_known_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    from vexbench.datasets import integrity as report_module

    def header(path: Path) -> np.ndarray:
        with Image.open(path) as image:
            return np.empty((image.height, image.width, 3), np.uint8)

    # full decoding of 17,334 files takes 15 s and is tested above; here the headers do
    monkeypatch.setattr(report_module, "decode", header)
    report = integrity(REAL)
    assert report.counts["train"] == dict(zip(CLASS_NAMES, (2191, 2271, 2404, 2512, 2274, 2382)))
    assert report.counts["test"] == dict(zip(CLASS_NAMES, (437, 474, 553, 525, 510, 501)))
    assert sum(sum(report.odd_sizes[split].values()) for split in ("train", "test")) == 55
    assert not report.corrupt
    crossing = {tuple(sorted(Path(name).stem for name in group)) for group in set(report.leaks) & set(report.conflicts)}
    assert crossing == {("10408", "20805"), ("14341", "21469"), ("21170", "4634")}
    # in the 17,334 files here; with all 7,301 images of the prediction split there are more
    assert len(report.duplicates) == 19


@needs_photographs
def test_real_photographs_open_quickly_and_come_out_as_asked() -> None:
    test = module.intel(root=str(REAL), per_class=4)
    assert len(test) == 24
    assert test.skipped == ()
    pixels = test.image(0, 112)
    assert pixels.shape == (112, 112, 3)
    assert pixels.std() > 10
