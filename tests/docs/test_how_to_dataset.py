"""The how-to page's data set: registered, and seen by a study with its evidence."""

import re
from pathlib import Path

import torch

import vexbench as vb
from vexbench.registry import DATASETS

PAGE = Path(__file__).parents[2] / "docs/how-to/add-a-dataset.md"


def test_the_page_registers_a_data_set(tmp_path):
    known = dict(DATASETS)
    (code,) = re.findall(r"^```python\n(.*?)^```", PAGE.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    network = torch.nn.Sequential(torch.nn.AdaptiveAvgPool2d((1, 2)), torch.nn.Flatten(), torch.nn.Linear(6, 2))
    with torch.no_grad():
        network[2].weight[:] = torch.tensor([[1.0, -1.0] * 3, [-1.0, 1.0] * 3])
    try:
        exec(compile(code, str(PAGE), "exec"), {"__name__": "how_to"})
        config = vb.StudyConfig(
            datasets=["discs"],
            models=[vb.Classifier(network, input_size=32)],
            methods=["input_intensity"],
            metrics=["auc"],
            out=tmp_path / "study",
        )
        rows = vb.run(config).frame()
    finally:
        DATASETS._entries.clear()
        DATASETS._entries.update(known)
    assert rows["score"].to_list() == [1.0, 1.0]
    assert rows["correct"].all()
