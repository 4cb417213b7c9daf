"""The folder that survives: where each result lies, and how it is written so that nobody ever sees half of it.

Everything is written under a temporary name beside its place, then renamed. A long result is written part by part,
``<name>.parts/00003.parquet``, and merged when all parts are there: a killed run resumes at the first missing part.
"""

import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from itertools import count
from pathlib import Path
from typing import Any, final

import numpy as np
import polars as pl
import zarr
from zarr.errors import BaseZarrError

from vexbench.errors import NotApplicable, VexbenchError
from vexbench.registry import Choice
from vexbench.results.record import OVER_BUDGET

_FRESH = count()


@final
@dataclass(frozen=True)
class Store:
    """A study's folder: paths in its layout; the functions of this module read and write them."""

    root: Path

    @property
    def study(self) -> Path:
        """The resolved configuration and the provenance."""
        return self.root / "study.json"

    def claim(self) -> None:
        """Make the folder, and sweep away what a killed run left half-written.

        Raises
        ------
        VexbenchError
            The folder holds something else than a study, or cannot be written.
        """
        if self.root.exists() and not self.root.is_dir():
            raise VexbenchError(f"{self.root} is a file, but a study needs a folder; choose another --out.")
        with _writing(self.root):
            self.root.mkdir(parents=True, exist_ok=True)
            if not self.study.exists() and any(not _is_temporary(path) for path in self.root.iterdir()):
                raise VexbenchError(f"{self.root} holds files but no study; choose a new or an empty folder.")
            for stale in [path for path in self.root.rglob("*") if _is_temporary(path)]:
                _remove(stale)

    def require(self) -> None:
        """Raise a `VexbenchError` unless the folder holds a study."""
        if not self.study.is_file():
            raise VexbenchError(
                f"{self.root} holds no study (there is no study.json in it); give the folder that "
                "`vexbench run --out` wrote to."
            )

    def dataset(self, name: str, revision: str) -> Path:
        """The folder of a dataset."""
        return self.root / f"{_safe(name)}@{_safe(revision)}"

    def model(self, dataset: Path, name: str, digest: str) -> Path:
        """The folder of a model that saw this dataset."""
        return dataset / f"{_safe(name)}@{_safe(digest)}"

    def method(self, model: Path, choice: Choice) -> Path:
        """The folder of a method that explained this model."""
        return model / f"{choice.name}-{choice.digest}"

    def metric(self, method: Path, choice: Choice) -> Path:
        """The scores of a metric on this method; the same name with another suffix for what describes them."""
        return method / f"{choice.name}-{choice.digest}.parquet"


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file."""
    with _writing(path) as temporary:
        temporary.write_bytes(content)
        temporary.replace(path)


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file; numbers that JSON does not know (NaN, infinity) become null."""
    write_bytes(path, (json.dumps(_plain(value), indent=2, ensure_ascii=False) + "\n").encode())


def write_frame(path: Path, frame: pl.DataFrame) -> None:
    """Write a data frame as Parquet."""
    buffer = BytesIO()
    frame.write_parquet(buffer)
    write_bytes(path, buffer.getvalue())


def write_array(path: Path, array: np.ndarray) -> None:
    """Write an array as Zarr, chunked by 32 along the first axis."""
    _write_zarr(path, [array], len(array))


def write_part(path: Path, index: int, part: pl.DataFrame | np.ndarray) -> None:
    """Write part `index` (from 0) of the frame or the array that `finish` will put at `path`."""
    if isinstance(part, pl.DataFrame):
        write_frame(_part(path, index), part)
    else:
        buffer = BytesIO()
        np.save(buffer, part, allow_pickle=False)
        write_bytes(_part(path, index), buffer.getvalue())


def parts(path: Path) -> frozenset[int]:
    """The parts of `path` that are written already."""
    folder = _parts(path)
    return frozenset(int(part.stem) for part in folder.glob("[0-9]*.*")) if folder.is_dir() else frozenset()


def read_part(path: Path, index: int) -> np.ndarray:
    """Read part `index` of an array that is not finished yet."""
    return np.array(_read_npy(_part(path, index)))


def read_rows(path: Path, n: int) -> pl.DataFrame | None:
    """Read what is there of the first `n` parts of a frame, or all of it where it is finished; None if nothing is."""
    if path.exists():
        return read_frame(path)
    there = parts(path)
    frames = [read_frame(_part(path, index)) for index in range(n) if index in there]
    return pl.concat(frames) if frames else None


def finish(path: Path, n: int) -> None:
    """Merge the `n` parts, in order, into `path`, and remove them; does nothing where it is done.

    Raises
    ------
    VexbenchError
        A part is missing or damaged, or the disk is full.
    """
    if not path.exists():
        files = [_part(path, index) for index in range(n)]
        if path.suffix == ".parquet":
            write_frame(path, pl.concat([read_frame(file) for file in files]))
        else:
            # memory-mapped: all maps of a study need not fit into memory at once
            arrays = [_read_npy(file) for file in files]
            _write_zarr(path, arrays, sum(len(array) for array in arrays))
    if (folder := _parts(path)).is_dir():
        with _writing(folder):
            _remove(folder)


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    with _reading(path):
        return json.loads(path.read_text(encoding="utf-8"))


def read_frame(path: Path) -> pl.DataFrame:
    """Read a data frame."""
    with _reading(path):
        return pl.read_parquet(path)


def read_array(path: Path, rows: slice | list[int] | None = None) -> np.ndarray:
    """Read an array, or only some of its rows."""
    with _reading(path):
        array = zarr.open_array(path, mode="r")
        # Zarr takes a chunk that is not there for zeros
        if array.nchunks_initialized < array.nchunks:
            raise ValueError("chunks are missing")
        return np.asarray(
            array[:] if rows is None else array.oindex[rows if isinstance(rows, slice) else np.asarray(rows, int)]
        )


def array_length(path: Path) -> int:
    """How many rows an array has."""
    with _reading(path):
        return zarr.open_array(path, mode="r").shape[0]


def _read_npy(path: Path) -> np.ndarray:
    with _reading(path):
        return np.load(path, mmap_mode="r", allow_pickle=False)


def _write_zarr(path: Path, arrays: list[np.ndarray], length: int) -> None:
    shape, dtype = arrays[0].shape[1:], arrays[0].dtype
    with _writing(path) as temporary:
        # constant chunks are written too, so that a chunk that is not there is known to be lost
        target = zarr.create_array(
            temporary,
            shape=(length, *shape),
            chunks=(max(1, min(32, length)), *shape),
            dtype=dtype,
            config={"write_empty_chunks": True},
        )
        start = 0
        for array in arrays:
            target[start : start + len(array)] = array
            start += len(array)
        if path.exists():
            _remove(path)
        temporary.replace(path)


@contextmanager
def _writing(path: Path) -> Iterator[Path]:
    """Give a temporary name beside `path`, whose folder exists; leave nothing behind when writing fails."""
    temporary = _beside(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
    except OSError as error:
        raise VexbenchError(
            f"cannot write {path} ({error.strerror or error}); what was finished before is safe: make room or "
            "allow writing there, then run the same command again."
        ) from error
    finally:
        if temporary.exists():
            shutil.rmtree(temporary, ignore_errors=True) if temporary.is_dir() else temporary.unlink()


@contextmanager
def _reading(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, EOFError, RuntimeError, pl.exceptions.PolarsError, BaseZarrError) as error:
        state = "is damaged; delete it and" if path.exists() else "is missing;"
        raise VexbenchError(f"{path} {state} run the study again: it makes only what is missing.") from error


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{next(_FRESH)}.tmp")


def _is_temporary(path: Path) -> bool:
    return path.name.startswith(".") and path.suffix == ".tmp"


def _parts(path: Path) -> Path:
    return path.with_suffix(".parts")


def _part(path: Path, index: int) -> Path:
    return _parts(path) / f"{index:05d}{'.parquet' if path.suffix == '.parquet' else '.npy'}"


def _remove(path: Path) -> None:
    """Delete a file, or a folder in one step: renamed away first, so that no half of it is ever seen."""
    if path.is_dir():
        away = _beside(path)
        path.rename(away)
        shutil.rmtree(away)
    else:
        path.unlink()


def _safe(name: str) -> str:
    """A name as a part of a path: ``hf-hub:timm/resnet18`` holds characters that no file name may have.

    >>> _safe("hf-hub:timm/resnet18"), _safe("..")
    ('hf-hub-timm-resnet18', '-')
    """
    return re.sub(r"[^\w.+-]|^\.+$", "-", name)


def _plain(value: Any) -> Any:
    """Values as JSON knows them: numpy numbers, paths and tuples unwrapped, NaN and infinity as null."""
    match value:
        case dict():
            return {str(key): _plain(item) for key, item in value.items()}
        case list() | tuple() | set() | frozenset():
            return [_plain(item) for item in value]
        case np.ndarray():
            return _plain(value.tolist())
        case np.generic():
            return _plain(value.item())
        case float() if not math.isfinite(value):
            return None
        case bool() | int() | float() | str() | None:
            return value
        case _:
            return str(value)


def mendable(out: Path) -> list[Path]:
    """Notes of failures that another try may mend: a file was missing, a parameter wrong, a package broken."""
    final = (NotApplicable.__name__, OVER_BUDGET)
    return [path for path in out.rglob("*failed.json") if read_json(path)["error"] not in final]


def over_budget(out: Path) -> list[Path]:
    """Notes of what was left out to keep a budget."""
    return [path for path in out.rglob("*failed.json") if read_json(path)["error"] == OVER_BUDGET]
