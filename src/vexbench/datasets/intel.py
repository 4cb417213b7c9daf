"""Intel Image Classification: 25 thousand photographs of six kinds of scene, as Kaggle unpacks them."""

from pathlib import Path

from vexbench.datasets.folders import UNLABELLED, Folder, Split, Track, open_split, read_split
from vexbench.datasets.integrity import Report, inspect
from vexbench.errors import VexbenchError
from vexbench.registry import dataset

CLASS_NAMES = ("buildings", "forest", "glacier", "mountain", "sea", "street")
HANDLE = "puneet6060/intel-image-classification"
SPLITS = {"train": "seg_train", "test": "seg_test", "prediction": "seg_pred"}


@dataset(
    family="photographs",
    title="Intel Image Classification",
    paper="Intel Image Classification Challenge, kaggle.com/datasets/puneet6060/intel-image-classification",
)
def intel(*, root: str = "", split: str = "test", per_class: int = 0, seed: int = 0) -> Folder:
    """Open the Intel photographs: `split` is train, test, or prediction (unlabelled); `per_class` as for `folder`.

    Raises
    ------
    VexbenchError
        The root holds no seg_train, seg_test or seg_pred, or a labelled split not the six classes.
    """
    if not root:
        raise VexbenchError("intel: no root given; give root=PATH, or get the set by 'vexbench data intel --fetch'.")
    return open_split(
        "intel", "Intel Image Classification", find(Path(root).expanduser()), split, CLASS_NAMES, per_class, seed
    )


def find(root: Path) -> dict[str, Split]:
    """Find the splits below the root, with the doubled folders of the archive or without."""
    if not root.is_dir():
        raise VexbenchError(f"intel {root}: {'is a file' if root.exists() else 'does not exist'}; check the path.")
    found = dict[str, Split]()
    for split, name in SPLITS.items():
        outer = root / name
        if not outer.is_dir():
            continue
        part = read_split(outer / name if (outer / name).is_dir() else outer)
        expected = {UNLABELLED} if split == "prediction" else set(CLASS_NAMES)
        if difference := expected ^ set(part.images):
            raise VexbenchError(
                f"intel {part.folder}: expected {', '.join(sorted(expected))}; "
                f"missing or alien: {', '.join(sorted(difference))}; unpack the archive again."
            )
        found[split] = part
    if not found:
        raise VexbenchError(f"intel {root}: holds none of {', '.join(SPLITS.values())}; give the folder that does.")
    return found


def integrity(root: Path, track: Track = iter) -> Report:
    """Look at every file of every split."""
    return inspect(root, find(root), track)


def fetch() -> Path:
    """Download the set from Kaggle into kagglehub's cache, or find it there; return its root.

    Raises
    ------
    VexbenchError
        kagglehub is not installed, or the download failed.
    """
    try:
        import kagglehub
    except ImportError:
        raise VexbenchError("fetching needs kagglehub; install it by: pip install vexbench[fetch]") from None
    try:
        return Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # kagglehub's own exceptions share no base
        raise VexbenchError(
            f"intel: the download of {HANDLE} failed ({' '.join(str(error).split()) or type(error).__name__}); "
            "check the network and the Kaggle credentials, or unpack the archive yourself and give --root."
        ) from error
