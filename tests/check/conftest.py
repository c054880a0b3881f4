"""Examples for the tiny LLaVA."""

import pytest

from mixtune.check import Example
from routed import sample


@pytest.fixture(scope="session")
def examples():
    """Four samples of different lengths, a picture in each."""
    found = [sample(seed, prompt, answer) for seed, (prompt, answer) in enumerate([(9, 4), (14, 3), (5, 1), (11, 7)])]
    return [
        Example(
            inputs={"input_ids": each["ids"][None], "pixel_values": each["pixels"][None]},
            prompt_length=int((each["labels"] == -100).sum()),
        )
        for each in found
    ]
