import numpy as np
import pytest

from vexbench.stats.tradeoff import front


@pytest.mark.parametrize(
    ("cost", "loss", "expected"),
    [
        ([1, 2, 3], [3, 2, 1], [True, True, True]),
        ([1, 2, 3], [1, 2, 3], [True, False, False]),
        ([1, 1, 2], [2, 2, 1], [True, True, True]),  # equal points do not beat each other
        ([1, 1], [2, 1], [False, True]),
        ([1, 2], [1, 1], [True, False]),
        ([1, np.nan, 3], [2, 0, np.nan], [True, False, False]),
        ([5], [5], [True]),
        ([], [], []),
    ],
)
def test_known_fronts(cost: list[float], loss: list[float], expected: list[bool]) -> None:
    assert front(np.array(cost, dtype=float), np.array(loss, dtype=float)).tolist() == expected
