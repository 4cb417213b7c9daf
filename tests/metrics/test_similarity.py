import pytest
import torch
from scipy.spatial import distance
from scipy.stats import pearsonr, spearmanr

from vexbench.metrics.similarity import SIMILARITIES, cosine, pearson, spearman, ssim, top_k, unit


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


@pytest.mark.parametrize("scale", [1, 1e-30, 1e30])
def test_pearson_and_cosine_are_those_of_scipy(scale):
    first, second = torch.randn(2, 4, 9, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    pairs = [(a.flatten().numpy(), b.flatten().numpy()) for a, b in zip(first, second)]
    expected = [pearsonr(a, b).statistic for a, b in pairs]
    assert pearson(scale * first, second).tolist() == pytest.approx(expected, abs=1e-6)
    expected = [1 - distance.cosine(a, b) for a, b in pairs]
    assert cosine(scale * first, second).tolist() == pytest.approx(expected, abs=1e-6)


def test_a_shift_matters_to_the_cosine_alone_and_a_sign_to_both():
    maps = torch.rand(1, 8, 8)
    assert pearson(maps, maps + 3).item() == pytest.approx(1)
    assert cosine(maps, maps + 3).item() < 0.999
    assert cosine(maps, -2 * maps).item() == pearson(maps, -2 * maps).item() == -1


def test_pearson_and_cosine_where_they_are_not_defined():
    zero, flat, slope = torch.zeros(1, 3, 3), torch.full((1, 3, 3), 0.1), torch.arange(9.0).view(1, 3, 3)
    assert pearson(flat, zero).item() == 1
    assert pearson(flat, slope).item() == pearson(slope, flat).item() == 0
    assert cosine(zero, zero).item() == 1
    assert cosine(zero, slope).item() == cosine(slope, zero).item() == 0
    assert cosine(flat, 2 * flat).item() == pytest.approx(1)


def test_top_k_counts_what_the_largest_values_have_in_common():
    first, second = torch.arange(100.0).view(1, 10, 10), torch.arange(100.0).view(1, 10, 10)
    second[0, 9, 9] = -1  # its second place goes to 97
    assert top_k(first, second).item() == 0.5
    assert top_k(first, second, share=0.1).item() == pytest.approx(0.9)
    assert top_k(first, second, share=1.0).item() == 1
    assert top_k(first, -first, share=0.5).item() == 0
    assert top_k(first, first**3).item() == 1
    assert top_k(first, first, share=0.001).item() == 1  # one pixel at least
    assert top_k(torch.rand(2, 1, 1), torch.rand(2, 1, 1)).tolist() == [1, 1]


def test_top_k_lets_no_order_among_equals_decide():
    flat, slope = torch.zeros(1, 10, 10), torch.arange(100.0).view(1, 10, 10)
    assert top_k(flat, flat + 1).item() == pytest.approx(1)
    assert top_k(flat, slope).item() == top_k(flat, -slope).item() == pytest.approx(0.02)
    # two of four equal pixels in each; chance would find one of the two
    first, second = torch.zeros(2, 1, 10, 10)
    first[0, 0, :4], second[0, 0, 3:7] = 1, 1
    assert top_k(first, first).item() == pytest.approx(1)
    assert top_k(first, second).item() == pytest.approx(0.25)


@pytest.mark.parametrize("name", SIMILARITIES)
def test_every_similarity_is_symmetric_and_one_for_equal_maps(name):
    first, second = unit(torch.randn(2, 3, 12, 14).relu().flatten(0, 1)).unflatten(0, (2, 3))
    compare = SIMILARITIES[name]
    assert torch.allclose(compare(first, first), torch.ones(3), atol=1e-6)
    assert torch.allclose(compare(first, second), compare(second, first), atol=1e-6)
    assert compare(first, second).dtype == torch.float32
    assert compare(first[:0], second[:0]).shape == (0,)
