"""Peak memory of a study of all metrics, for more and more images: it should not grow.

    python benchmarks/memory.py [--counts 32,256] [--methods grad_cam]

Each count runs in a process of its own, on drawn scenes with the shipped network, the metrics at the settings of
studies/judges.toml and studies/everything.toml; the figure is the most that the process ever held in memory.
"""

import argparse
import dataclasses
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import vexbench as vb

STUDIES = Path(__file__).parents[1] / "studies"


def peak(count: int, methods: list[str]) -> float:
    """Run a study of so many images here, and tell the process's peak in MiB."""

    @vb.dataset(family="drawn", title="The first scenes", paper="this script")
    def first_scenes(*, count: int = 32):
        drawn = vb.datasets()["scenes"].function(per_class=-(-count // 6), variant="shortcut")
        keep = {name: getattr(drawn, name)[:count] for name in ("ids", "labels", "numbers")}
        return dataclasses.replace(drawn, name="first_scenes", **keep)

    judges, everything = (vb.StudyConfig.read(STUDIES / f"{name}.toml") for name in ("judges", "everything"))
    metrics = {pick.name: pick.model_dump() for pick in (*everything.metrics, *judges.metrics)}
    with tempfile.TemporaryDirectory() as folder:
        result = vb.run(
            vb.StudyConfig(
                datasets=[{"name": "first_scenes", "count": count}], methods=methods, metrics=[*metrics.values()],
                out=Path(folder) / "study",
            )
        )  # fmt: skip
        scores = result.frame()
        print(f"{count} images, {scores['metric'].n_unique()} metrics; failures: {result.failures()}", file=sys.stderr)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--counts", default="32,256")
    parser.add_argument("--methods", default="grad_cam")
    parser.add_argument("--here", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.here:
        print(peak(arguments.here, arguments.methods.split(",")))
        return
    print("| images | peak memory, MiB |\n|---|---|")
    for count in arguments.counts.split(","):
        command = [sys.executable, __file__, "--here", count, "--methods", arguments.methods]
        told = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
        print(f"| {count} | {float(told):.0f} |", flush=True)


if __name__ == "__main__":
    main()
