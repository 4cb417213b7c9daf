"""Peak memory of a study of all metrics, chunk of images by chunk: it should not grow.

    python benchmarks/memory.py [--images 256] [--methods grad_cam]

On drawn scenes with the shipped network, the metrics at the settings of studies/judges.toml and studies/everything.toml.
A study goes through its images in chunks of 32; the figure of each is the most that the process held in that time
(Linux: /proc/self/clear_refs sets the system's mark back).
"""

import argparse
import dataclasses
import sys
import tempfile
from pathlib import Path

import vexbench as vb
from vexbench.bench.plan import CHUNK

STUDIES = Path(__file__).parents[1] / "studies"


def peak() -> float:
    """The most that the process held since the mark was set back, in MiB; sets it back."""
    status = Path("/proc/self/status").read_text()
    Path("/proc/self/clear_refs").write_text("5")
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=int, default=256)
    parser.add_argument("--methods", default="grad_cam")
    arguments = parser.parse_args()

    @vb.dataset(family="drawn", title="The first scenes", paper="this script")
    def first_scenes(*, count: int = CHUNK):
        drawn = vb.datasets()["scenes"].function(per_class=-(-count // 6), variant="shortcut")
        keep = {name: getattr(drawn, name)[:count] for name in ("ids", "labels", "numbers")}
        return dataclasses.replace(drawn, name="first_scenes", **keep)

    methods = arguments.methods.split(",")
    judges, everything = (vb.StudyConfig.read(STUDIES / f"{name}.toml") for name in ("judges", "everything"))
    # counting passes first: it makes torch load 70 MiB of its own code, which would come behind the first chunk's peak
    picks = (vb.StudyConfig(metrics=["passes"]).metrics[0], *everything.metrics, *judges.metrics)
    metrics = {pick.name: pick.model_dump() for pick in picks}
    finished = 0

    def progress(_: str, done: int, *_rest: float) -> None:
        nonlocal finished
        if done >= (finished + 1) * len(methods) * len(metrics):
            first, last = finished * CHUNK + 1, min((finished + 1) * CHUNK, arguments.images)
            print(f"| {first}-{last} | {peak():.0f} |", flush=True)
            finished += 1

    print("| images | peak memory, MiB |\n|---|---|")
    peak()
    with tempfile.TemporaryDirectory() as folder:
        result = vb.run(
            vb.StudyConfig(
                datasets=[{"name": "first_scenes", "count": arguments.images}], methods=methods,
                metrics=[*metrics.values()], out=Path(folder) / "study",
            ),
            progress=progress,
        )  # fmt: skip
        told = result.frame()["metric"].n_unique()
        print(f"{told} metrics; failures: {result.failures()}", file=sys.stderr)


if __name__ == "__main__":
    main()
