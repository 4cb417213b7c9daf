"""F-Fidelity: known answers on a copy whose probability is additive, and which copies it takes."""

import json
from io import StringIO
from shutil import copytree

import pytest
import torch
from rich.console import Console
from torch import nn

from vexbench.errors import NotApplicable, VexbenchError
from vexbench.metrics import fine_tuned
from vexbench.metrics.fine_tuned import f_fidelity
from vexbench.models.base import Classifier
from vexbench.models.checkpoint import demo_classifier, load_classifier, save_checkpoint
from vexbench.models.finetune import finetune
from vexbench.models.masked import masked, named_digest, weights_digest
from vexbench.models.zoo import build
from vexbench.probe import Probe

CLASSES = ["buildings", "forest", "glacier", "mountain", "sea", "street"]


class Additive(nn.Module):
    """Probability 0.1 + 0.8 · Σ w x of class 0, and what it is asked."""

    def __init__(self, weights):
        super().__init__()
        self.weights, self.hidden = weights, []

    def forward(self, images):
        self.hidden += (1 - images.mean((1, 2, 3))).tolist()
        probability = 0.1 + 0.8 * (self.weights * images.mean(1)).sum((1, 2))
        return torch.stack([probability, 1 - probability], 1).log()


@pytest.fixture
def additive(monkeypatch):
    """White images, on black; the copy's card says that a tenth was hidden."""
    weights = torch.rand(16, 16, generator=torch.Generator().manual_seed(0)) ** 3
    weights = weights / weights.sum()
    classifier = Classifier(Additive(weights), card={"masked_share": 0.1})
    classifier.folding = False  # the module itself takes notes
    monkeypatch.setattr(fine_tuned, "_masked_copy", lambda *_: classifier)
    return Probe(classifier, torch.ones(2, 3, 16, 16), [0, 0]), weights


def test_fidelities_of_an_additive_probability(additive):
    probe, weights = additive
    worth = weights.flatten().sort(descending=True).values
    plus, minus = (
        sum(
            0.8 * min(0.5, 0.1 / (step / 10)) * (order[:counted].sum().item() / 9)
            for step, counted in enumerate((26, 52, 77, 103, 128, 154, 180, 205, 231), 1)
        )
        for order in (worth, worth.flip(0))
    )
    maps = weights.expand(2, -1, -1).contiguous()
    assert f_fidelity(maps, probe, form="plus", samples=100).tolist() == pytest.approx([plus] * 2, rel=0.05)
    assert f_fidelity(maps, probe, form="minus", samples=100).tolist() == pytest.approx([-minus] * 2, rel=0.05)
    assert f_fidelity(maps, probe, samples=100).tolist() == pytest.approx([plus - minus] * 2, rel=0.05)
    assert f_fidelity(-maps, probe, samples=100).tolist() == pytest.approx([minus - plus] * 2, rel=0.05)


@pytest.mark.parametrize(("alpha", "most"), [(0.5, 0.1), (0.05, 0.05)])
def test_no_more_is_hidden_than_the_copy_knows(additive, alpha, most):
    probe, weights = additive
    f_fidelity(weights.expand(2, -1, -1).contiguous(), probe, alpha=alpha, steps=20, samples=60)
    hidden = probe.classifier.module.hidden
    assert max(hidden) < most + 5 * (most * (1 - most) / 256) ** 0.5
    # with few pixels to choose from, the bound does not bite
    assert sum(hidden) / len(hidden) == pytest.approx(most * (0.5 if alpha == 0.05 else 0.92), rel=0.2)


def test_half_of_few_pixels_is_hidden_not_all(additive):
    """A bound alone would hide each of the first tenth."""
    probe, _ = additive
    f_fidelity(torch.rand(2, 16, 16, generator=torch.Generator().manual_seed(1)), probe, steps=10, samples=1)
    hidden = sorted(share for share in probe.classifier.module.hidden if share > 0)
    assert hidden[0] == pytest.approx(0.05, abs=0.03)


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        module = build("plain_cnn_small", 6)
    card = {
        "architecture": "plain_cnn_small",
        "class_names": CLASSES,
        "mean": [0.5, 0.4, 0.3],
        "std": [0.2] * 3,
        "input_size": 32,
    }
    return save_checkpoint(tmp_path_factory.mktemp("original"), module, card)


@pytest.fixture(scope="module")
def made(original, tmp_path_factory):
    """A copy, and what was said of it."""
    told, out = StringIO(), tmp_path_factory.mktemp("copy")
    given = {"data": "scenes", "params": {"per_class": 12}, "epochs": 1, "batch_size": 16, "device": "cpu"}
    with torch.random.fork_rng():
        finetune(original, out, console=Console(file=told, width=400), **given)
    return out, told.getvalue()


@pytest.fixture
def named(made):
    """The copy as the metric wants it named."""
    return f"{made[0]}@{named_digest(load_classifier(made[0]))}"


@pytest.fixture
def drawn():
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    return images, images.mean(1)


def test_a_copy_is_fine_tuned_and_taken_with_its_digest(original, made, drawn):
    (images, maps), (copy, told) = drawn, made
    network, other = load_classifier(original), load_classifier(copy)
    assert other.card["copy_of"] == weights_digest(network.module) != weights_digest(other.module)
    assert other.card["masked_share"] == 0.1
    assert set(other.card["accuracy_of"]) == {"original", "copy"}
    assert f"checkpoint={copy}@{named_digest(other)}" in told
    assert (copy / "model.safetensors").stat().st_size < 500_000
    weights = [load.module.state_dict()["classifier.weight"] for load in (network, other)]
    assert 0 < (weights[0] - weights[1]).abs().max() < 0.1
    probe = Probe(network, images, [0, 1])
    scores = f_fidelity(maps, probe, steps=4, samples=2, checkpoint=f"{copy}@{named_digest(other)}")
    assert scores.isfinite().all()
    assert (scores != 0).all()
    with pytest.raises(
        VexbenchError, match=f"name the copy by its digest, too: checkpoint={copy}@{named_digest(other)}"
    ):
        f_fidelity(maps, probe, checkpoint=str(copy))
    with pytest.raises(VexbenchError, match=f"@{named_digest(other)}"):
        f_fidelity(maps, probe, checkpoint=f"{copy}@00000000")
    with pytest.raises(VexbenchError, match="no copy that 'vexbench train --from CHECKPOINT' fine-tuned"):
        f_fidelity(maps, probe, checkpoint=f"{original}@{network.digest}")
    with pytest.raises(NotApplicable, match=r"no fine-tuned copy of this network .* --masked-share"):
        f_fidelity(maps, Probe(demo_classifier(), images, [0, 1]), checkpoint=f"{copy}@{named_digest(other)}")
    with pytest.raises(VexbenchError, match="holds a checkpoint already"):
        finetune(original, copy, data="scenes", params={})


@pytest.mark.parametrize("change", [{"masked_share": 0.4}, {"copy_of": "0123456789abcdef"}])
def test_a_card_that_was_edited_is_another_copy(original, made, named, drawn, tmp_path, change):
    images, maps = drawn
    probe, edited = Probe(load_classifier(original), images, [0, 1]), tmp_path / "edited"
    copytree(made[0], edited)
    card = json.loads((edited / "card.json").read_text())
    digest = named.rpartition("@")[2]
    f_fidelity(maps, probe, steps=2, samples=1, checkpoint=f"{edited}@{digest}")
    (edited / "card.json").write_text(json.dumps(card | change))
    with pytest.raises(VexbenchError, match="name the copy by its digest, too"):
        f_fidelity(maps, probe, steps=2, samples=1, checkpoint=f"{edited}@{digest}")


def test_what_holds_for_every_metric(original, named, drawn):
    images, maps = drawn
    network, given = load_classifier(original), {"steps": 4, "samples": 3, "checkpoint": named}
    state = torch.get_rng_state()
    expected = f_fidelity(maps, Probe(network, images, [0, 1]), **given)
    assert torch.equal(torch.get_rng_state(), state)
    assert expected.dtype == torch.float32
    for size in (1, 7):
        scores = f_fidelity(maps, Probe(network, images, [0, 1], batch_size=size), **given)
        assert torch.allclose(scores, expected, atol=1e-6)
    turned = f_fidelity(maps.flip(0), Probe(network, images.flip(0), [1, 0]), **given)
    assert torch.allclose(turned.flip(0), expected, atol=1e-6)
    alone = f_fidelity(maps[1:], Probe(network, images[1:], [1]), **given)
    assert torch.allclose(alone, expected[1:], atol=1e-6)
    for hard in (torch.zeros_like(maps), torch.ones_like(maps)):
        assert (f_fidelity(hard, Probe(network, images, [0, 1]), **given).abs() <= 1).all()


def test_data_of_other_classes_is_refused(tmp_path, original):
    other = tmp_path / "original"
    copytree(original, other)
    original = other
    card = json.loads((original / "card.json").read_text()) | {"class_names": list("abcdef")}
    (original / "card.json").write_text(json.dumps(card))
    with pytest.raises(
        VexbenchError, match="knows the classes a, b, c, d, e and 1 more, but Drawn scenes has buildings"
    ):
        finetune(original, tmp_path / "copy", data="scenes", params={"per_class": 5})
    with pytest.raises(VexbenchError, match="the masked share must lie between 0 and 1, not 1"):
        finetune(original, tmp_path / "copy", data="scenes", params={}, share=1.0)


def test_the_command_fine_tunes(original, tmp_path, monkeypatch):
    from typer.testing import CliRunner

    from vexbench.cli import app

    asked = []
    monkeypatch.setattr("vexbench.models.finetune.finetune", lambda *given, **more: asked.append((given, more)))
    out = tmp_path / "copy"
    ran = CliRunner().invoke(
        app, ["train", "--data", "scenes", "--from", str(original), "--masked-share", "0.2", "--out", str(out)]
    )
    assert ran.exit_code == 0, ran.output
    (((start, to), more),) = asked
    assert (start, to) == (original, out)
    assert (more["share"], more["data"], more["params"]) == (0.2, "scenes", {})
    assert more["epochs"] == 3


def test_missing_pixels_have_the_mean_colour(drawn):
    images, _ = drawn
    hidden = masked(images, (0.5, 0.4, 0.3), 0.25, torch.Generator().manual_seed(0))
    missing = (hidden != images).all(1)
    assert missing.float().mean() == pytest.approx(0.25, abs=0.05)
    assert ((hidden != images).any(1) == missing).all()  # all colours of a pixel, or none
    assert hidden.permute(0, 2, 3, 1)[missing].unique(dim=0).tolist() == [pytest.approx([0.5, 0.4, 0.3])]
    assert not missing[0].equal(missing[1])


def test_for_another_network_the_command_is_told(original, drawn):
    images, maps = drawn
    with pytest.raises(
        NotApplicable, match=r"the shipped copy, .* of this network .*: 'vexbench train --from CHECKPOINT"
    ):
        f_fidelity(maps, Probe(load_classifier(original), images, [0, 1]))


def test_the_shipped_copy_is_one_of_the_demo_network(drawn):
    images, maps = drawn
    scores = f_fidelity(maps, Probe(demo_classifier(), images, [0, 1]), steps=4, samples=2)
    assert scores.isfinite().all()


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"form": "minos"}, "did you mean minus"),
        ({"alpha": 0.0}, "alpha must lie between 0 and 1, not 0.0"),
        ({"steps": 1}, "steps must be 2 or more, not 1"),
        ({"samples": 0}, "samples must be 1 or more, not 0"),
        ({"checkpoint": "nowhere@12345678"}, "nowhere: no such file or folder"),
    ],
)
def test_mistakes_are_told(given, words, classifier, images, maps):
    with pytest.raises(VexbenchError, match=words):
        f_fidelity(maps, Probe(classifier, images, [0] * 6), **given)
