import pytest
import torch

from vexbench.metrics.shortcuts import shortcut_detection


def test_share_of_the_positive_values_on_the_cue():
    maps = torch.tensor([[[1.0, 2.0], [-10.0, 5.0]]])
    cue = torch.tensor([[[False, True], [True, False]]])
    assert shortcut_detection(maps, cue).item() == pytest.approx(2 / 8)
    assert shortcut_detection(7 * maps, cue).item() == pytest.approx(2 / 8)
    assert shortcut_detection(-maps, cue).item() == 1  # by its sign, not by its size
    assert shortcut_detection(torch.ones(1, 2, 2), cue).item() == 0.5


def test_not_defined_without_a_cue_or_without_mass():
    cues = torch.zeros(4, 3, 3, dtype=torch.bool)
    cues[1:, 1, 1] = True
    maps = torch.stack([torch.ones(3, 3), torch.ones(3, 3), -torch.ones(3, 3), torch.zeros(3, 3)])
    scores = shortcut_detection(maps, cues)
    assert scores.isnan().tolist() == [True, False, True, True]
    assert scores[1].item() == pytest.approx(1 / 9)
    assert shortcut_detection(torch.ones(1, 1, 1), torch.ones(1, 1, 1, dtype=torch.bool)).item() == 1
