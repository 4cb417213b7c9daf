import numpy as np

from vexbench.datasets.shuffled import shuffled
from vexbench.registry import DATASETS


def test_everything_goes_with_its_image():
    plain = DATASETS["scenes"].function(per_class=3, variant="shortcut")
    mixed = shuffled(plain, 0)
    assert mixed.ids != plain.ids
    assert sorted(mixed.ids) == sorted(plain.ids)
    assert mixed.revision == plain.revision
    for place, id in enumerate(mixed.ids):
        row = plain.ids.index(id)
        label = mixed.labels[place]
        assert label == plain.labels[row]
        assert np.array_equal(mixed.image(place, 32), plain.image(row, 32))
        assert np.array_equal(mixed.region(place, label, 32), plain.region(row, label, 32))
        assert np.array_equal(mixed.cue(place, 32), plain.cue(row, 32))


def test_seed_decides_the_order():
    plain = DATASETS["scenes"].function(per_class=3)
    assert shuffled(plain, 0).ids == shuffled(plain, 0).ids != shuffled(plain, 1).ids
