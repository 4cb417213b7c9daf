"""What `vexbench plan` says a study will take, and what it takes then.

`python benchmarks/price.py STUDY [--preset quick] [--methods a,b] [--metrics a,b] [--budget 4m] [--processor]`: the
estimate, then the run into a fresh folder, both in one process. `--processor` measures both by processor time on one
thread, where other programs want the machine, too. STUDY is a file, or `demo`.
"""

import argparse
import time
from importlib.resources import as_file, files
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

parser = argparse.ArgumentParser()
parser.add_argument("study")
parser.add_argument("--preset")
parser.add_argument("--budget")
parser.add_argument("--methods", type=lambda names: names.split(","))
parser.add_argument("--metrics", type=lambda names: names.split(","))
parser.add_argument("--processor", action="store_true")
asked = vars(parser.parse_args())
study_file = asked.pop("study")
if asked.pop("processor"):
    torch.set_num_threads(1)
    time.perf_counter = time.process_time  # before anybody has taken it

import vexbench as vb  # noqa: E402
from vexbench.bench.estimate import estimate  # noqa: E402
from vexbench.bench.plan import plan  # noqa: E402
from vexbench.bench.presets import seconds_of  # noqa: E402

with TemporaryDirectory() as folder, as_file(files("vexbench.bench") / "demo.toml") as demo:
    given = {name: value for name, value in asked.items() if value is not None}
    config = vb.StudyConfig.read(demo if study_file == "demo" else Path(study_file), **given, out=Path(folder) / "out")
    found = estimate(plan(config))
    dropped = found.fitted(seconds_of(config.budget)) if config.budget else ()
    said = found.seconds(dropped) + (found.measured if config.budget else 0.0)  # which the run looks at again
    print(f"said {said:.1f} s, found out in {found.measured:.1f} s; over budget: {len(dropped)}", flush=True)
    start = time.perf_counter()
    vb.run(config)
    took = time.perf_counter() - start
    print(f"took {took:.1f} s: {said / took - 1:+.0%}")
