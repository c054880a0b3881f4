import pytest
import torch
from torch.nn import functional as F

from mixtune.training.logits import count_supervised, head_at, supervised_loss, supervised_mask
from tolerances import TOL


def random_batch(model, lengths=(9, 7), supervised=(2, 3)):
    """Text rows of random ids, right-padded; the last `supervised` tokens of each are labels."""
    generator = torch.Generator().manual_seed(0)
    width = max(lengths)
    ids_BT = torch.randint(5, 60, (len(lengths), width), generator=generator)
    labels_BT = torch.full_like(ids_BT, -100)
    mask_BT = torch.zeros_like(ids_BT)
    for row, (length, count) in enumerate(zip(lengths, supervised, strict=True)):
        labels_BT[row, length - count : length] = ids_BT[row, length - count : length]
        mask_BT[row, :length] = 1
    return {"input_ids": ids_BT, "attention_mask": mask_BT, "labels": labels_BT}


@pytest.mark.parametrize("supervised", [(2, 3), (0, 3), (9, 1), (1, 1)])
def test_losses_are_those_of_the_full_logits(tiny_llava, supervised):
    model, _ = tiny_llava()
    batch = random_batch(model, supervised=supervised)
    found = supervised_loss(model, batch)
    logits_BTV = model(input_ids=batch["input_ids"], attention_mask=batch["attention_mask"]).logits
    labels_BT = batch["labels"]
    full = F.cross_entropy(logits_BTV[:, :-1].flatten(0, 1), labels_BT[:, 1:].flatten(), reduction="none")
    kept = (labels_BT[:, 1:] != -100).flatten()
    torch.testing.assert_close(found.nll, full[kept], **TOL[torch.float32])
    assert found.rows.bincount(minlength=2).tolist() == (labels_BT[:, 1:] != -100).sum(dim=1).tolist()
    assert found.nll.dtype == torch.float32
    assert count_supervised(labels_BT) == found.nll.numel()


def test_the_head_sees_only_the_supervised_rows_and_is_left_as_it_was(tiny_llava):
    model, _ = tiny_llava()
    batch = random_batch(model)
    with head_at(model.get_output_embeddings(), supervised_mask(batch["labels"])):
        assert model(input_ids=batch["input_ids"]).logits.shape == (5, model.config.text_config.vocab_size)
    assert model(input_ids=batch["input_ids"]).logits.shape[:2] == (2, 9)


def test_a_sequence_lengthened_by_the_model_is_refused(tiny_llava):
    model, _ = tiny_llava()
    with (
        pytest.raises(ValueError, match=r"labels have shape \(2, 5\).*\(2, 9, 32\)"),
        head_at(model.get_output_embeddings(), torch.ones(2, 5, dtype=torch.bool)),
    ):
        model(input_ids=random_batch(model)["input_ids"])
    assert not model.get_output_embeddings()._forward_pre_hooks
