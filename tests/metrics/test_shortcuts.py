import pytest
import torch

import vexbench as vb
from vexbench.datasets.scenes import CLASS_NAMES, MARKED, scenes
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


SEA = CLASS_NAMES.index(MARKED)


@pytest.fixture(scope="module")
def scenes_of_others():
    """A dozen test scenes that are no sea: images and cues of those with the mark, and the same scenes without it."""
    marked, plain = (scenes(per_class=6, size=96, variant=variant) for variant in ("shortcut", "plain"))
    rows = [row for row, label in enumerate(marked.labels) if label != SEA and marked.cue(row, 96).any()][:12]
    with_mark, without = (
        torch.stack([torch.from_numpy(data.image(row)) for row in rows]).permute(0, 3, 1, 2) / 255
        for data in (marked, plain)
    )
    cues = torch.stack([torch.from_numpy(marked.cue(row, 96)) for row in rows])
    return with_mark, without, cues, torch.tensor([marked.labels[row] for row in rows])


def test_the_embedded_network_relies_on_the_mark(scenes_of_others):
    with_mark, without, _, labels = scenes_of_others
    shortcut, demo = vb.demo_classifier("shortcut"), vb.demo_classifier()
    with torch.no_grad():
        assert (shortcut.logits(with_mark).argmax(1) == SEA).float().mean() > 0.8
        assert (shortcut.logits(without).argmax(1) == labels).float().mean() > 0.8
        assert (demo.logits(with_mark).argmax(1) == labels).float().mean() > 0.8


def test_grad_cam_tells_on_it(scenes_of_others):
    images, _, cues, labels = scenes_of_others
    shortcut, demo = vb.demo_classifier("shortcut"), vb.demo_classifier()
    with torch.no_grad():
        fooled = shortcut.logits(images).argmax(1) == SEA
    images, cues, labels = images[fooled], cues[fooled], labels[fooled]

    def found(classifier, targets, method):
        maps = vb.explain(classifier, images, targets, method)
        return vb.evaluate(classifier, images, targets, maps, "shortcut_detection", cues=cues).nanmean()

    sea = [SEA] * len(images)
    told = found(shortcut, sea, "grad_cam")
    assert told > 5 * found(shortcut, sea, "random")
    # a network that was not led astray looks elsewhere
    assert told > 5 * found(demo, labels, "grad_cam")
