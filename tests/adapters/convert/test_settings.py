import pytest
import torch

import released_files as made
from mixtune.adapters.convert.reading import read_released
from mixtune.adapters.convert.settings import ReleasedSettings, mixlora_settings, mole_settings


@pytest.fixture
def mixlora(tmp_path):
    """Factory of a released MixLoRA folder's files with changed settings."""

    def build(**changes):
        return read_released(made.write_mixlora(tmp_path, made.mixlora(made.base("linear")), **changes))

    return build


@pytest.fixture
def silent(tmp_path, mixlora):
    """The same without a settings file."""
    mixlora()
    (tmp_path / "cmoa_args.bin").unlink()
    return read_released(tmp_path)


def test_the_file_s_settings_are_taken(mixlora):
    config = mixlora_settings(mixlora(), ReleasedSettings()).config
    assert (config.preset, config.conditional, config.num_factors, config.r) == ("mixlora-released", "released", 6, 2)
    assert (config.scale, config.ifs_weight, config.lora_dropout) == (6.0, 0.7, 0.05)
    assert config.pooling == "all" and config.gate == "none" and not config.keep_selection
    assert config.modules_to_save == ["multi_modal_projector"]


def test_given_settings_come_first(mixlora):
    resolved = mixlora_settings(mixlora(), ReleasedSettings(lora_alpha=3.0, projector=False))
    assert resolved.config.scale == 1.5 and resolved.config.modules_to_save is None
    assert resolved.origins["lora_alpha"] == "given" and resolved.origins["r"] == "cmoa_args.bin"


def test_without_a_file_settings_must_be_given(silent):
    with pytest.raises(ValueError, match=r"cond_type, r, lora_alpha: must be given, because cmoa_args.bin is absent"):
        mixlora_settings(silent, ReleasedSettings())
    with pytest.raises(ValueError, match=r"^lora_alpha: must be given"):
        mixlora_settings(silent, ReleasedSettings(cond_type="input", r=2))
    given = ReleasedSettings(cond_type="input_lora_a_param", r=2, lora_alpha=12)
    resolved = mixlora_settings(silent, given)
    assert resolved.config.scale == 6.0 and resolved.origins["ifs_weight"] == "published"


def test_an_older_file_lacks_the_weight_of_the_conditional_term(mixlora):
    files = mixlora()
    del files.settings["ifs_weight"]
    assert mixlora_settings(files, ReleasedSettings()).config.ifs_weight == 1.0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cond_type": "input_lora_a_parm"}, "cond_type: 'input_lora_a_parm'.*did you mean 'input_lora_a_param'"),
        ({"cond_type": "random"}, "cond_type: 'random' cannot be converted"),
        ({"n_experts": 8}, "n_experts: cmoa_args.bin says 8, the selectors have 6 rows"),
        ({"n_selected": 7}, "num_factors: 6 is less than r = 7"),
        ({"n_selected": None}, "r: must be given, because cmoa_args.bin does not say"),
        ({"lora_alpha": "12"}, r"lora_alpha: must be a number, got '12' \(cmoa_args.bin\)"),
        ({"lora_alpha": float("nan")}, "lora_alpha: must be a number, got nan"),
        ({"mix_mm_projector": True}, "mix_mm_projector: True cannot be converted"),
        ({"used_scored_weight": True}, "multiplied by their scores"),
        ({"independent_rank": False}, "B takes the selection of A"),
        ({"mix_loraA": False}, "one A instead of a pool"),
        ({"mix_start_layer": 4}, "mix_start_layer: 4 cannot be converted"),
        ({"mix_start_layer": torch.zeros(2)}, "mix_start_layer: tensor"),
        ({"lora_bias": "all"}, "lora_bias: 'all' cannot be converted"),
    ],
)
def test_what_cannot_be_converted_is_refused(mixlora, changes, message):
    with pytest.raises(ValueError, match=message):
        mixlora_settings(mixlora(**changes), ReleasedSettings())


def test_llava_mole_reads_its_sizes_off_the_tensors(tmp_path):
    files = read_released(made.write_mole(tmp_path, made.mole(made.base(), r=4)))
    resolved = mole_settings(files, ReleasedSettings())
    config = resolved.config
    assert (config.preset, config.r, config.num_experts, config.scale) == ("llava-mole-released", 4, 3, 2.0)
    assert resolved.origins["lora_alpha"] == "published" and resolved.origins["r"] == "the tensors"
    assert mole_settings(files, ReleasedSettings(lora_alpha=1, r=4)).config.scale == 0.25
    with pytest.raises(ValueError, match="r: 8 was given, the experts' lora_A have 4 rows"):
        mole_settings(files, ReleasedSettings(r=8))
    with pytest.raises(ValueError, match="cond_type: 'input' is a setting of MixLoRA"):
        mole_settings(files, ReleasedSettings(cond_type="input"))


def test_sizes_need_their_tensors(tmp_path):
    torch.save({"llm.mlp.router.bias": torch.zeros(3)}, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"no tensor is called ...\.moe_gate\.0\.lora_A, so the number of ranks"):
        mole_settings(read_released(tmp_path), ReleasedSettings())
