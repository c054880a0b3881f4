"""What the page is given to draw the choices of tasks."""

import numpy as np

from mixtune.analyse.report.usage import usage_data
from mixtune.analyse.selections import Usage

LAYERS = ("layers.0.mlp.up_proj", "layers.1.mlp.up_proj")


def test_experts_have_one_side_and_factors_two() -> None:
    counts_SNLE = np.zeros((2, 2, 2, 3), dtype=int)
    counts_SNLE[:, 0, :, 0] = counts_SNLE[:, 1, :, 2] = 4
    assert {"a", "b"} & usage_data(Usage(counts_SNLE=counts_SNLE, tasks=("t", "u"), layers=LAYERS)).keys() == {"a"}
    counts_SNLE[1, 0, 1] = [0, 4, 0]
    found = usage_data(Usage(counts_SNLE=counts_SNLE, tasks=("t", "u"), layers=LAYERS))
    assert found["a"][1] == [[1000, 0, 0], [0, 0, 1000]] and found["b"][1] == [[0, 1000, 0], [0, 0, 1000]]
