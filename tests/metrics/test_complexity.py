import pytest
import torch

from vexbench.metrics.complexity import sparseness


def test_anchors():
    one = torch.zeros(1, 8, 8)
    one[0, 3, 4] = 5
    assert sparseness(one).item() == pytest.approx(1 - 1 / 64)
    assert sparseness(torch.full((1, 224, 224), 0.1)).item() == pytest.approx(0, abs=1e-7)
    # 0, 1, 2, 3: mean absolute difference 5/4 over twice the mean 3/2
    assert sparseness(torch.tensor([[[3.0, 0.0], [2.0, 1.0]]])).item() == pytest.approx((20 / 16) / 3)


def test_size_counts_not_sign_nor_scale():
    maps = torch.randn(5, 9, 7, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(sparseness(maps), sparseness(maps.abs()))
    assert torch.allclose(sparseness(maps), sparseness(maps * 1e-12))
    # values of one size and both signs are flat, though their sum is 0
    assert sparseness(torch.tensor([[[1.0, -1.0], [-1.0, 1.0]]])).item() == pytest.approx(0, abs=1e-7)


def test_zero_map_is_not_defined_and_leaves_the_others_alone():
    maps = torch.stack([torch.zeros(4, 4), torch.eye(4)])
    scores = sparseness(maps)
    assert scores[0].isnan()
    assert scores[1].item() == pytest.approx(0.75)


def test_maps_are_not_written_into():
    maps = torch.randn(2, 4, 4)
    before = maps.clone()
    sparseness(maps)
    assert maps.equal(before)
