import pytest
import torch

from mixtune.routing.generating import GenerationPrompt


def test_generation_repeats_rows_and_ends_with_the_prompt():
    prompt = GenerationPrompt(torch.tensor([[False, True], [True, True]]))
    assert prompt.expand(4, 3).int().tolist() == [[0, 1, 0], [0, 1, 0], [1, 1, 0], [1, 1, 0]]
    for batch, length in ((3, 3), (2, 1)):
        with pytest.raises(ValueError, match="does not start with the prompt"):
            prompt.expand(batch, length)
