import pytest
import torch
from scipy.stats import spearmanr

from vexbench.metrics.similarity import spearman, ssim, unit


def test_unit_stretches_each_map_alone():
    maps = torch.stack([torch.tensor([[-1.0, 0.0], [1.0, 3.0]]), torch.full((2, 2), 7.0), torch.zeros(2, 2)])
    assert unit(maps).tolist() == [[[0, 0.25], [0.5, 1]], [[0, 0], [0, 0]], [[0, 0], [0, 0]]]
    assert unit(7 + 1e-6 * torch.rand(1, 8, 8)).eq(0).all()
    assert unit(1e-20 * torch.rand(1, 8, 8)).max() == 1


def test_ssim_anchors():
    maps = torch.rand(3, 20, 30)
    assert torch.allclose(ssim(maps, maps), torch.ones(3), atol=1e-6)
    a, b = torch.full((1, 16, 16), 0.2), torch.full((1, 16, 16), 0.9)
    assert ssim(a, b).item() == pytest.approx((2 * 0.2 * 0.9 + 1e-4) / (0.2**2 + 0.9**2 + 1e-4), abs=1e-5)
    assert ssim(torch.zeros(1, 16, 16), torch.zeros(1, 16, 16)).item() == 1
    assert (ssim(maps, 1 - maps) < 0).all()
    assert ssim(torch.rand(2, 4, 5), torch.rand(2, 4, 5)).isfinite().all()
    assert torch.allclose(ssim(maps, maps.flip(2)), ssim(maps.flip(2), maps), atol=1e-6)


@pytest.mark.parametrize("ties", [False, True])
def test_spearman_is_that_of_scipy(ties):
    source = torch.Generator().manual_seed(0)
    first, second = torch.randn(2, 4, 9, 8, generator=source)
    if ties:
        first, second = first.relu(), (2 * second).round()
    expected = [spearmanr(a.flatten(), b.flatten()).statistic for a, b in zip(first, second)]
    assert spearman(first, second).tolist() == pytest.approx(expected, abs=1e-6)


def test_spearman_of_constant_maps():
    flat, slope = torch.zeros(1, 3, 3), torch.arange(9.0).view(1, 3, 3)
    assert spearman(flat, flat).item() == 1
    assert spearman(flat, slope).item() == 0
    assert spearman(slope, slope**3).item() == pytest.approx(1)
    assert spearman(slope, -slope).item() == pytest.approx(-1)
