"""What is wrong with a folder of images: odd sizes, corrupt files, duplicates, contradicting labels."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from hashlib import blake2b
from pathlib import Path
from typing import final

from vexbench.datasets.base import Skipped
from vexbench.datasets.folders import UNLABELLED, Split, Track
from vexbench.errors import VexbenchError
from vexbench.imaging import decode


@final
@dataclass(frozen=True)
class Report:
    """What a look at every file found; files are named below the root.

    `odd_sizes` counts images by (width, height) other than `usual_size`; `conflicts` are the groups of identical
    images that carry different labels, `leaks` those that stand in more than one split.
    """

    root: Path
    counts: dict[str, dict[str, int]]
    usual_size: tuple[int, int]
    odd_sizes: dict[str, dict[tuple[int, int], int]]
    corrupt: tuple[Skipped, ...]
    duplicates: tuple[tuple[str, ...], ...]
    leaks: tuple[tuple[str, ...], ...]
    conflicts: tuple[tuple[str, ...], ...]


def inspect(root: Path, splits: Mapping[str, Split], track: Track = iter) -> Report:
    """Decode and compare all files of all splits."""
    place = {
        path: (split, group) for split, part in splits.items() for group, paths in part.images.items() for path in paths
    }
    sizes, corrupt = defaultdict[str, Counter[tuple[int, int]]](Counter), list[Skipped]()
    for path in track(tuple(place)):
        try:
            height, width, _ = decode(path).shape
        except VexbenchError as error:
            corrupt.append(Skipped(path.relative_to(root).as_posix(), str(error)))
        else:
            sizes[place[path][0]][width, height] += 1
    usual = max(sum(sizes.values(), Counter()).items(), key=lambda item: item[1], default=((0, 0), 0))[0]
    groups = duplicate_groups(path for path in place if path.is_file())

    def named(chosen: Iterable[tuple[Path, ...]]) -> tuple[tuple[str, ...], ...]:
        return tuple(tuple(path.relative_to(root).as_posix() for path in group) for group in chosen)

    return Report(
        root=root,
        counts={split: part.counts for split, part in splits.items()},
        usual_size=usual,
        odd_sizes={split: {size: n for size, n in sorted(sizes[split].items()) if size != usual} for split in splits},
        corrupt=tuple(corrupt),
        duplicates=named(groups),
        leaks=named(group for group in groups if len({place[path][0] for path in group}) > 1),
        conflicts=named(group for group in groups if len({place[path][1] for path in group} - {UNLABELLED}) > 1),
    )


def duplicate_groups(paths: Iterable[Path]) -> tuple[tuple[Path, ...], ...]:
    """Groups of two or more files with the same bytes, each sorted, in the order of their first files."""
    by_size = defaultdict[int, list[Path]](list)
    for path in paths:
        by_size[path.stat().st_size].append(path)
    by_content = defaultdict[tuple[int, bytes], list[Path]](list)
    for size, alike in by_size.items():
        # a size of its own is a content of its own
        for path in alike if len(alike) > 1 else ():
            by_content[size, blake2b(path.read_bytes()).digest()].append(path)
    return tuple(sorted(tuple(sorted(group)) for group in by_content.values() if len(group) > 1))
