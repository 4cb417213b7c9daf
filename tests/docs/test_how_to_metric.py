"""The how-to page's code runs as it stands."""

import re
from pathlib import Path

import pytest
import torch

from vexbench.registry import METRICS

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-metric.md"


@pytest.fixture(scope="module")
def ran():
    blocks = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    assert len(blocks) == 2
    names = {"__name__": "how_to_metric"}
    known = set(METRICS)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        exec(compile("\n".join(blocks), PAGE.name, "exec"), names)
    yield names
    for name in set(METRICS) - known:
        METRICS._entries.pop(name)


def test_the_new_metric_is_in_the_registry(ran):
    entry = METRICS["half_mass_area"]
    assert (entry.needs, entry.parameters, entry.family) == (("maps",), {"share": 0.5}, "complexity")
    assert METRICS["drop_at_the_top"].needs == ("maps", "probe")


def test_the_new_metric_measures_what_it_says(ran):
    maps = torch.zeros(3, 4, 4)
    maps[0, 0, :2] = -1
    maps[1] = 1
    scores = ran["half_mass_area"](maps, share=0.5)
    assert scores[:2].tolist() == [1 / 16, 8 / 16]
    assert scores[2].isnan()
