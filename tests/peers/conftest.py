"""The comparisons themselves are in benchmarks/, where they also print the tables of docs/peers.md."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))
