import errno
import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from vexbench.errors import VexbenchError
from vexbench.registry import Choice
from vexbench.results import store as files
from vexbench.results.store import Store


def scores(*names: str) -> pl.DataFrame:
    return pl.DataFrame({"image": list(names), "score": [float(len(name)) for name in names]})


def names_in(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_layout_is_the_documented_one(tmp_path: Path) -> None:
    store = Store(tmp_path)
    choice = Choice.of("occlusion", patch=15)
    model = store.model(store.dataset("scenes", "r1"), "plain_cnn", "abcd")
    metric = store.metric(store.method(model, choice), Choice.of("deletion"))
    parts = metric.relative_to(tmp_path).parts
    assert parts[:3] == ("scenes@r1", "plain_cnn@abcd", f"occlusion-{choice.digest}")
    assert parts[3] == f"deletion-{Choice.of('deletion').digest}.parquet"


@pytest.mark.parametrize("name", ["hf-hub:timm/resnet18", "../../etc", "a\\b", "..", "two\nlines"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    folder = Store(tmp_path).model(tmp_path, name, "d")
    assert folder.parent == tmp_path
    assert folder.resolve().is_relative_to(tmp_path.resolve())


def test_frames_arrays_and_json_come_back(tmp_path: Path) -> None:
    array = np.arange(70 * 4, dtype=np.float32).reshape(70, 2, 2)
    files.write_array(tmp_path / "maps.zarr", array)
    files.write_frame(tmp_path / "a.parquet", scores("x", "yy"))
    files.write_json(
        tmp_path / "a.json", {"nan": float("nan"), "path": Path("p"), "number": np.float32(0.5), "é": (1,)}
    )
    assert np.array_equal(files.read_array(tmp_path / "maps.zarr"), array)
    assert np.array_equal(files.read_array(tmp_path / "maps.zarr", [69, 0]), array[[69, 0]])
    assert np.array_equal(files.read_array(tmp_path / "maps.zarr", slice(30, 40)), array[30:40])
    assert files.read_frame(tmp_path / "a.parquet").equals(scores("x", "yy"))
    assert files.read_json(tmp_path / "a.json") == {"nan": None, "path": "p", "number": 0.5, "é": [1]}
    assert not [name for name in names_in(tmp_path) if name.endswith(".tmp")]


def test_parts_are_merged_in_order_and_removed(tmp_path: Path) -> None:
    table, maps = tmp_path / "deletion-1.parquet", tmp_path / "maps.zarr"
    assert files.parts(table) == frozenset()
    for index in (1, 0, 2):
        files.write_part(table, index, scores(f"image{index}"))
        files.write_part(maps, index, np.full((32 if index < 2 else 5, 3, 3), index, np.float32))
    assert files.parts(table) == files.parts(maps) == {0, 1, 2}
    assert files.read_part(maps, 1).mean() == 1
    files.finish(table, 3)
    files.finish(maps, 3)
    assert files.read_frame(table)["image"].to_list() == ["image0", "image1", "image2"]
    assert files.read_array(maps)[:, 0, 0].tolist() == [0] * 32 + [1] * 32 + [2] * 5
    assert not list(tmp_path.glob("*.parts"))


def test_finish_may_be_interrupted_before_the_parts_are_removed(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    files.write_part(path, 0, scores("x"))
    files.write_frame(path, scores("x"))  # what a kill between the rename and the removal leaves
    files.finish(path, 1)
    files.finish(path, 1)
    assert names_in(tmp_path) == ["a.parquet"]


def test_finish_without_a_part_says_which(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    files.write_part(path, 0, scores("x"))
    with pytest.raises(VexbenchError, match=r"a\.parts.00001\.parquet is missing"):
        files.finish(path, 2)
    assert not path.exists()
    assert files.parts(path) == {0}


@pytest.mark.parametrize("write", [files.write_frame, files.write_array, files.write_json])
def test_a_full_disk_leaves_the_old_result_and_no_litter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, write: object
) -> None:
    old, new = {
        files.write_frame: (scores("old"), scores("new")),
        files.write_array: (np.zeros((2, 2)), np.ones((2, 2))),
        files.write_json: ({"a": 1}, {"a": 2}),
    }[write]
    path = tmp_path / "result"
    write(path, old)
    before = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path) if (tmp_path / name).is_file()}

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(VexbenchError, match=r"No space left on device.*is safe") as caught:
        write(path, new)
    monkeypatch.undo()
    assert "\n" not in str(caught.value)
    after = {name: (tmp_path / name).read_bytes() for name in names_in(tmp_path) if (tmp_path / name).is_file()}
    if write is files.write_array:  # its folder cannot be swapped in one step: missing, never half
        assert after in (before, {})
    else:
        assert after == before


def test_the_final_name_appears_only_when_complete(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = list[tuple[list[str], int]]()
    replace = Path.replace

    def watched(self: Path, target: Path) -> Path:
        seen.append((names_in(tmp_path), self.stat().st_size))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", watched)
    files.write_frame(tmp_path / "a.parquet", scores("x"))
    (names, size) = seen[0]
    assert "a.parquet" not in names
    assert all(name.startswith(".") and name.endswith(".tmp") for name in names)
    assert size == (tmp_path / "a.parquet").stat().st_size


def test_a_kill_between_parts_loses_no_part(tmp_path: Path) -> None:
    program = (
        "import sys, numpy as np\n"
        "from pathlib import Path\n"
        "from vexbench.results.store import write_part\n"
        "for i in range(100_000):\n"
        "    write_part(Path(sys.argv[1]) / 'maps.zarr', i, np.full((8, 64, 64), i, np.float32))\n"
        "    print(i, flush=True)\n"
    )
    writer = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert writer.stdout is not None
    for _ in range(5):
        said = writer.stdout.readline()
    writer.send_signal(signal.SIGKILL)
    writer.communicate()
    path = tmp_path / "maps.zarr"
    done = sorted(files.parts(path))
    assert done[: int(said) + 1] == list(range(int(said) + 1))
    assert all((files.read_part(path, index) == index).all() for index in done)
    (tmp_path / "study.json").write_text("{}")
    Store(tmp_path).claim()
    assert not [name for name in names_in(tmp_path) if name.endswith(".tmp")]
    files.finish(path, len(done))
    assert files.read_array(path).shape == (8 * len(done), 64, 64)


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("a.parquet", lambda path: path.write_bytes(path.read_bytes()[:40])),
        ("a.parquet", lambda path: path.write_bytes(b"")),
        ("a.json", lambda path: path.write_text('{"a": ')),
        ("a.json", lambda path: path.write_bytes(b"\xff\xfe\x00")),
        ("maps.zarr", lambda path: (path / "zarr.json").write_text("{")),
        ("maps.zarr", lambda path: (path / "c" / "0" / "0" / "0").unlink()),
        ("maps.zarr", lambda path: (path / "c" / "0" / "0" / "0").write_bytes(b"xx")),
    ],
)
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: object) -> None:
    files.write_frame(tmp_path / "a.parquet", scores("x"))
    files.write_json(tmp_path / "a.json", {"a": 1})
    files.write_array(tmp_path / "maps.zarr", np.ones((3, 4, 4)))
    damage(tmp_path / name)
    read = {".parquet": files.read_frame, ".json": files.read_json, ".zarr": files.read_array}[Path(name).suffix]
    with pytest.raises(VexbenchError, match="is damaged; delete it") as caught:
        read(tmp_path / name)
    assert name in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("read", [files.read_frame, files.read_json, files.read_array])
def test_a_missing_file_is_named(tmp_path: Path, read: object) -> None:
    with pytest.raises(VexbenchError, match=r"gone is missing; run the study again"):
        read(tmp_path / "gone")


def test_a_strange_folder_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.doc").write_text("years of work")
    (tmp_path / ".draft.tmp").write_text("more of it")
    with pytest.raises(VexbenchError, match="holds files but no study"):
        Store(tmp_path).claim()
    assert names_in(tmp_path) == [".draft.tmp", "thesis.doc"]


def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(VexbenchError, match="is a file, but a study needs a folder"):
        Store(tmp_path / "file").claim()
    with pytest.raises(VexbenchError, match="cannot write"):
        Store(tmp_path / "file" / "below").claim()


def test_a_folder_without_a_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(VexbenchError, match="holds no study"):
        Store(tmp_path).require()
    files.write_json(Store(tmp_path).study, {})
    Store(tmp_path).require()


def test_json_is_readable_by_others(tmp_path: Path) -> None:
    files.write_json(tmp_path / "a.json", {"inf": float("inf"), "name": "Gletscher"})
    assert json.loads((tmp_path / "a.json").read_text(encoding="utf-8")) == {"inf": None, "name": "Gletscher"}
