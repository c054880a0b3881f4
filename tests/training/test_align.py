import pytest
import torch
from torch.nn import functional as F

from mixtune.config import TrainSettings
from mixtune.training import align
from mixtune.training.align import (
    WarmData,
    collect,
    content_words,
    projector_inputs,
    warm_loss,
    warm_start,
    word_vector,
)
from mixtune.training.parts import projector
from tolerances import TOL


def settings(**given) -> TrainSettings:
    return TrainSettings(output_dir="unused", learning_rate=1e-3, stage="align", **given)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("A red square is on the left.", ["red", "square", "left"]),
        ("it is the", ["it", "is", "the"]),
        ("Bar 3: 17%", ["Bar", "3", "17"]),
        ("?!", []),
    ],
)
def test_content_words_name_things(text, words):
    assert content_words(text) == words


def test_a_captions_vectors_are_its_words_embeddings(tiny_llava):
    model, processor = tiny_llava()
    table_VD = model.get_input_embeddings().weight.detach()
    ids = processor.tokenizer("red square")["input_ids"]
    assert torch.equal(word_vector("a red square", processor.tokenizer, table_VD), table_VD[ids])
    assert word_vector("?", processor.tokenizer, table_VD) is None


def test_features_are_what_the_projector_receives(tiny_llava):
    model, _ = tiny_llava()
    pixels = torch.randn(3, 3, 28, 28)
    inputs = projector_inputs(model, pixels)
    projected = torch.stack(list(model.get_image_features(pixel_values=pixels).pooler_output))
    torch.testing.assert_close(projector(model)[1](inputs), projected, **TOL[torch.float32])
    assert not projector(model)[1]._forward_pre_hooks and not inputs.requires_grad


def test_the_loss_is_the_formula():
    generator = torch.Generator().manual_seed(0)
    z_BPD, words_BD = torch.randn(4, 3, 8, generator=generator), torch.randn(4, 8, generator=generator)
    centre_D, log_norm = torch.randn(8, generator=generator), 0.3
    scores = torch.stack(
        [torch.stack([F.cosine_similarity(z.mean(0) - centre_D, w - centre_D, dim=0) for w in words_BD]) for z in z_BPD]
    ) / align.TEMPERATURE  # fmt: skip
    rows = -scores.log_softmax(dim=1).diagonal().mean()
    columns = -scores.log_softmax(dim=0).diagonal().mean()
    scale = ((z_BPD.norm(dim=-1).log() - log_norm) ** 2).mean()
    torch.testing.assert_close(
        warm_loss(z_BPD, words_BD, centre_D, log_norm), (rows + columns) / 2 + scale, **TOL[torch.float32]
    )


def test_equal_captions_are_no_negatives_of_each_other():
    z_BPD, words_BD = torch.randn(2, 3, 8), torch.randn(8).expand(2, 8)
    loss = warm_loss(z_BPD, words_BD, torch.zeros(8), z_BPD.norm(dim=-1).log().mean().item())
    scale = (z_BPD.norm(dim=-1).log() - z_BPD.norm(dim=-1).log().mean()).square().mean()
    torch.testing.assert_close(loss, scale, **TOL[torch.float32])


def test_image_tokens_come_to_mean_the_caption_at_the_scale_of_words(tiny_llava):
    model, processor = tiny_llava()
    model.requires_grad_(False)
    projector(model)[1].requires_grad_(True)
    captions = ["red square", "green", "the blue picture", "yellow left", "?"]
    torch.manual_seed(0)
    pixels = torch.randn(5, 3, 28, 28)
    data = collect(model, processor.tokenizer, lambda i: pixels[i], captions)
    assert data.features.shape == (4, 4, 32)
    losses = warm_start(
        model, data, settings(warm_start_steps=300, warm_start_learning_rate=1e-2, warm_start_batch_size=4)
    )
    assert len(losses) == 300 and losses[-1] < 0.1 * losses[0]
    z_BPD = projector(model)[1](data.features.float())
    v_BD, u_BD = z_BPD.mean(1) - data.words.mean(0), data.words - data.words.mean(0)
    assert (F.normalize(v_BD, dim=-1) @ F.normalize(u_BD, dim=-1).T).argmax(dim=1).tolist() == [0, 1, 2, 3]
    assert abs(z_BPD.norm(dim=-1).log().mean().item() - data.log_norm) < 0.1


def test_features_beyond_the_memory_limit_are_left_out(tiny_llava, monkeypatch):
    model, processor = tiny_llava()
    monkeypatch.setattr(align, "CACHE_BYTES", 5 * 4 * 32 * 2)
    data = collect(model, processor.tokenizer, lambda i: torch.randn(3, 28, 28), ["red"] * 9, batch_size=2)
    assert len(data.features) == len(data.words) == 5
    assert data.bytes == 5 * 4 * 32 * 2


def test_captions_without_words_are_an_error(tiny_llava):
    model, processor = tiny_llava()
    with pytest.raises(ValueError, match=r"train\.warm_start_steps: no sample"):
        collect(model, processor.tokenizer, lambda i: torch.randn(3, 28, 28), ["?", "..."])


def test_a_seed_fixes_the_warm_start(tiny_llava):
    found = []
    for _ in range(2):
        model, _ = tiny_llava()
        torch.manual_seed(3)
        data = WarmData(features=torch.randn(6, 4, 32), words=torch.randn(6, 32), log_norm=0.0)
        found.append(warm_start(model, data, settings(warm_start_steps=4, warm_start_batch_size=3)))
    assert found[0] == found[1]
