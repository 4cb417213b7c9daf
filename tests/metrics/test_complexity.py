import pytest
import torch
from PIL import Image

from vexbench.errors import VexbenchError
from vexbench.metrics.complexity import effective_complexity, entropy_complexity, file_size, sparseness


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


def test_entropy_of_one_pixel_is_zero_and_of_all_alike_one():
    one = torch.zeros(1, 8, 8)
    one[0, 3, 4] = -5
    assert entropy_complexity(one).item() == 0
    assert entropy_complexity(torch.full((1, 50, 70), -0.1)).item() == pytest.approx(1)
    # 1/2, 1/4, 1/4: 1.5 bits out of 2
    maps = torch.tensor([[[2.0, 0.0], [-1.0, 1.0]]])
    assert entropy_complexity(maps).item() == pytest.approx(0.75)
    assert torch.allclose(entropy_complexity(1e-12 * maps), entropy_complexity(maps))


def test_effective_complexity_counts_what_is_above_a_share_of_the_maximum():
    maps = torch.tensor([[[10.0, -0.2], [0.05, 0.0]]])
    assert effective_complexity(maps).item() == 0.5  # the size counts, not the sign
    assert effective_complexity(maps, threshold=0.001).item() == 0.75
    assert effective_complexity(maps, threshold=0.0).item() == 0.75  # zeros are never counted
    assert effective_complexity(1e-9 * maps).item() == 0.5  # relative to the map's own maximum
    both = torch.cat([maps, 1e6 * torch.ones(1, 2, 2)])
    assert effective_complexity(both).tolist() == [0.5, 1]  # and to no other map's
    edge = torch.tensor([[[1.0, 0.5]]])
    assert effective_complexity(edge, threshold=0.5).item() == 0.5  # above, not at


def test_file_size_is_that_of_the_written_file(tmp_path):
    noise = torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(0))
    levels = (255 * noise[0] / noise.max()).round().to(torch.uint8).numpy()
    Image.fromarray(levels).save(tmp_path / "map.png", compress_level=9)
    assert file_size(noise).item() == pytest.approx((tmp_path / "map.png").stat().st_size / 64**2)
    assert 0.95 < file_size(noise).item() < 1.1


def test_file_size_grows_with_detail_and_not_with_scale():
    source = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 8, 8, generator=source).repeat_interleave(8, 1).repeat_interleave(8, 2)
    noise, flat = torch.rand(1, 64, 64, generator=source), torch.ones(1, 64, 64)
    sizes = file_size(torch.cat([flat, coarse, noise]))
    assert sizes[0] < sizes[1] / 2 < sizes[2] / 4
    assert file_size(1e-6 * coarse).item() == file_size(coarse).item()
    assert file_size(torch.cat([coarse, 100 * noise]))[0] == file_size(coarse)[0]  # each map by its own maximum
    assert file_size(-coarse).item() == file_size(coarse).item()


@pytest.mark.parametrize("metric", [sparseness, entropy_complexity, effective_complexity, file_size])
def test_no_metric_defines_a_map_of_zeros_or_writes_into_one(metric):
    maps = torch.stack([torch.zeros(4, 4), torch.eye(4), -torch.ones(4, 4)])
    before = maps.clone()
    assert metric(maps).isnan().tolist() == [True, False, False]
    assert maps.equal(before)
    assert metric(maps[1:2]).item() == metric(maps)[1].item()


def test_a_map_of_one_pixel():
    one = torch.full((1, 1, 1), 3.0)
    assert sparseness(one).item() == 0
    assert effective_complexity(one).item() == 1
    assert entropy_complexity(one).isnan().item()  # ln 1 = 0: neither spread nor not
    assert file_size(one).item() > 60  # the head of a file


@pytest.mark.parametrize("threshold", [-0.1, 1.0, float("nan")])
def test_a_threshold_that_is_no_share_is_told(threshold):
    with pytest.raises(VexbenchError, match="threshold must be a share"):
        effective_complexity(torch.ones(1, 2, 2), threshold=threshold)
