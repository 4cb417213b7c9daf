import pytest
import torch
from torch import nn

from vexbench.models.card import parameters
from vexbench.models.networks import AttentionCNN, PlainCNN, SelfAttention


@pytest.mark.parametrize("network", [PlainCNN, AttentionCNN])
def test_shapes_at_any_size(network):
    module = network(6, width=4).eval()
    for size in (24, 33):
        assert module.features(torch.rand(2, 3, size, size)).shape == (2, 64, size // 8, size // 8)
        assert module(torch.rand(2, 3, size, size)).shape == (2, 6)


def test_about_a_million_parameters():
    assert 0.7e6 < parameters(PlainCNN(6)) < 1.2e6
    assert parameters(PlainCNN(6, width=8)) < 250_000


@pytest.mark.parametrize("network", [PlainCNN, AttentionCNN])
def test_the_head_is_the_mean_over_space_and_one_linear_layer(network):
    module = network(5, width=4).eval()
    seen = {}
    last = module.attention if isinstance(module, AttentionCNN) else module.features
    last.register_forward_hook(lambda _, __, output: seen.update(features=output))
    logits = module(torch.rand(3, 3, 40, 40))
    class_maps = torch.einsum("nchw,kc->nkhw", seen["features"], module.classifier.weight)
    torch.testing.assert_close(class_maps.mean((2, 3)) + module.classifier.bias, logits, rtol=1e-5, atol=1e-6)


def test_no_part_overwrites_its_input():
    assert not [part for part in AttentionCNN(2, width=2).modules() if getattr(part, "inplace", False)]


def test_attention_is_the_papers_formula():
    torch.manual_seed(0)
    block, x = SelfAttention(16), torch.randn(2, 16, 3, 4)
    assert torch.equal(block(x), x), "γ starts at zero"
    nn.init.constant_(block.gamma, 0.7)
    expected = x.clone()
    for n in range(2):
        f, g, h = (part(x[n : n + 1])[0].flatten(1) for part in (block.key, block.query, block.value))
        for j in range(12):
            beta = torch.softmax(torch.stack([f[:, i] @ g[:, j] for i in range(12)]), 0)
            torch.testing.assert_close(block.affinity(x)[n, j], beta)
            expected[n, :, j // 4, j % 4] += 0.7 * sum(beta[i] * h[:, i] for i in range(12))
    torch.testing.assert_close(block(x), expected)
