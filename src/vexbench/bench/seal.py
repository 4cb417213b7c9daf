"""Whether a finished study is still finished, told without loading a tensor library or a network."""

from collections.abc import Iterable
from hashlib import blake2b
from importlib.metadata import entry_points
from importlib.resources import files as resources
from pathlib import Path

from vexbench.bench.config import Pick, StudyConfig
from vexbench.datasets.base import Dataset
from vexbench.models import EMBEDDED
from vexbench.registry import DATASETS
from vexbench.results import store
from vexbench.results.provenance import versions


def seal(config: StudyConfig) -> None:
    """Note what a study was finished with; one with failures that another try may mend is not."""
    if store.mendable(config.out):
        return
    store.write_json(_seal(config), _signature(config))


def is_sealed(config: StudyConfig) -> bool:
    """Whether nothing has changed since: settings, versions, code, data, weights, results.

    A wrong "no" only costs the time that `run` takes to look at every result, so "no" is the answer in any doubt.
    """
    return (
        _seal(config).is_file()
        # a plug-in may have got another method, and only importing it would tell
        and not entry_points(group="vexbench.plugins")
        and store.read_json(_seal(config)) == _signature(config)
    )


def _seal(config: StudyConfig) -> Path:
    return config.out / "seal.json"


def _signature(config: StudyConfig) -> str:
    weights = [Path(str(model)).expanduser() for model in config.models if model not in EMBEDDED]
    known = {
        "config": config.model_dump(mode="json", exclude={"out"}),
        "versions": versions(),
        "datasets": [_opened(pick).revision for pick in config.datasets],
        "files": _stamps([Path(str(resources("vexbench"))), *weights]),
        "results": _stamps(folder for folder in config.out.iterdir() if folder.is_dir()),
    }
    return blake2b(repr(known).encode(), digest_size=16).hexdigest()


def _opened(pick: Pick) -> Dataset:
    entry = DATASETS[pick.name]
    return entry.function(**entry.bind(**pick.params).params)


def _stamps(folders: Iterable[Path]) -> list[tuple[str, int, int]]:
    """Path, size and time of every file in the folders."""
    found = [
        (path.as_posix(), status.st_size, status.st_mtime_ns)
        for folder in folders
        for path in sorted(folder.rglob("*") if folder.is_dir() else [folder, folder.with_name("card.json")])
        if path.suffix != ".pyc" and path.is_file() and (status := path.stat())
    ]
    return sorted(found)
