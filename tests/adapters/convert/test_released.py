import json
import warnings
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors import safe_open
from safetensors.torch import load_file

import released_files as made
from mixtune.adapters.convert import ReleasedSettings, convert_released
from mixtune.training.parts import load_adapter
from routed import batch, prompts, sample
from tolerances import TOL

EXACT = TOL[torch.float64]
GOLDEN = Path(__file__).parents[2] / "golden"
SAMPLES = [sample(0, 9), sample(1, 14)]


@pytest.fixture
def batch64():
    """Two samples of different lengths in float64: the released code pools over answers and padding too."""
    found = batch(SAMPLES, labels=False)
    return {**found, "pixel_values": found["pixel_values"].double()}


def loaded(folder, activation, **options):
    """The converted adapter on its base, as peft loads it, in float64."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        return PeftModel.from_pretrained(made.base(activation), folder, **options).double().eval()


def logits(model, inputs):
    with torch.no_grad():
        return model(**inputs).logits


def golden(pattern):
    """Tensors and settings of the golden files, which the released modules themselves made."""
    for path in sorted(GOLDEN.glob(pattern)):
        with safe_open(path, "pt") as file:
            yield {name: file.get_tensor(name) for name in file.keys()}, file.metadata()  # noqa: SIM118


def test_the_reference_of_these_tests_is_the_released_mixlora():
    names = {
        "router_a": "cmoa_selector.loraA_selector",
        "router_b_given_a": "cmoa_loarB_extra_selector.loraA_param2loraB_selector",
        "choice_embed": "cmoa_loarB_extra_selector.loraA_choice_embed",
        "router_b_given_choice": "cmoa_loarB_extra_selector.loraA_choice2loraB_selector",
    }  # fmt: skip
    seen = set()
    for tensors, meta in golden("mixlora_*"):
        flag, alpha, r = meta["cond_type"], float(meta["lora_alpha"]), int(meta["r"])
        settings = {"cond_type": flag, "lora_alpha": alpha, "n_selected": r, "ifs_weight": float(meta["ifs_weight"])}
        second = "cmoa_selector" if flag == "input" else "cmoa_loarB_extra_selector"
        names["router_b"] = f"{second}.loraB_selector"
        own = {
            f"{ours}.weight": tensors[f"{name}.weight"] for name, ours in names.items() if f"{name}.weight" in tensors
        }
        for side in "AB":
            pool = tensors[f"factors_{side.lower()}"]
            own |= {f"lora_{side}.default.{e}": factor[None] for e, factor in enumerate(pool)}
        y = made.ReleasedMixLoRA(tensors["base.weight"], own, settings)(tensors["x"]) + tensors.get("base.bias", 0.0)
        torch.testing.assert_close(y, tensors["y"], **EXACT)
        seen.add(flag)
    assert seen == set(made.FLAGS)


def test_the_reference_of_these_tests_is_the_released_llava_mole():
    modes = set()
    for tensors, meta in golden("mole_*"):
        inner = torch.nn.ModuleDict()
        own = {name: tensors[name] for name in ("router.weight", "router.bias")}
        for name in ("gate", "up", "down"):
            weight = tensors[f"{name}_proj.weight"]
            inner[f"{name}_proj"] = torch.nn.Linear(*weight.t().shape, bias=False, dtype=weight.dtype)
            inner[f"{name}_proj"].weight.data = weight
            for side in "AB":
                bank = tensors[f"{name}_proj.lora_{side}"]
                own |= {f"moe_{name}.{e}.lora_{side}": each for e, each in enumerate(bank)}
        mlp = made.ReleasedMLP(inner, own, float(meta["lora_alpha"]) / int(meta["r"]))
        mlp.train(meta["dense"] == "False")
        torch.testing.assert_close(mlp(tensors["x"]), tensors["y"], **EXACT)
        modes.add(meta["dense"])
    assert modes == {"True", "False"}


@pytest.mark.parametrize("flag", made.FLAGS)
@pytest.mark.parametrize(("r", "alpha"), [(2, 12), (3, 6)])
def test_mixlora_computes_what_the_released_code_computes(tmp_path, batch64, flag, r, alpha):
    base = made.base("linear")
    tensors = made.mixlora(base, flag, r)
    source = made.write_mixlora(tmp_path / "released", tensors, cond_type=flag, n_selected=r, lora_alpha=alpha)
    convert_released(source, made.on_meta("linear"), tmp_path / "out")
    settings = {**made.SETTINGS, "cond_type": flag, "n_selected": r, "lora_alpha": alpha}
    released = made.released_mixlora(base, tensors, settings)
    converted = loaded(tmp_path / "out", "linear")
    expected = logits(released, batch64)
    torch.testing.assert_close(logits(converted, batch64), expected, **EXACT)
    assert (logits(base.double(), batch64) - expected).abs().max() > 0.1


def test_mixlora_writes_answers_as_released(tmp_path):
    """D7: while decoding the released code pools over the one new token."""
    base = made.base("linear")
    tensors = made.mixlora(base)
    convert_released(made.write_mixlora(tmp_path / "released", tensors), base, tmp_path / "out")
    released = made.released_mixlora(base, tensors, made.SETTINGS)
    inputs = prompts(SAMPLES)
    inputs["pixel_values"] = inputs["pixel_values"].double()
    options = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    options |= {"return_dict_in_generate": True, "output_logits": True}
    expected, found = (model.generate(**inputs, **options) for model in (released, loaded(tmp_path / "out", "linear")))
    assert torch.equal(found.sequences, expected.sequences)
    torch.testing.assert_close(torch.stack(found.logits), torch.stack(expected.logits), **EXACT)


@pytest.mark.parametrize("training", [False, True], ids=["dense", "top-1"])
@pytest.mark.parametrize(("r", "alpha"), [(2, None), (3, 4.5)])
def test_llava_mole_computes_what_the_released_code_computes(tmp_path, batch64, training, r, alpha):
    base = made.base()
    tensors = made.mole(base, r)
    source = made.write_mole(tmp_path, tensors)
    given = ReleasedSettings(lora_alpha=alpha, lora_dropout=0.0)
    convert_released(source, made.on_meta(), tmp_path / "out", given)
    released = made.released_mole(base, tensors, 2.0 if alpha is None else alpha / r)
    converted = loaded(tmp_path / "out", "gelu", is_trainable=training)
    for model in (released, converted):
        model.train(training)
    expected = logits(released, batch64)
    torch.testing.assert_close(logits(converted, batch64), expected, **EXACT)
    released.train(not training)
    assert (logits(released, batch64) - expected).abs().max() > 0.01


def test_half_precision_files_and_peft_names(tmp_path, batch64):
    """A file of peft's lacks the adapter's name in its keys; the projector lies in a file of its own."""
    base = made.base("linear")
    tensors = {key: value.bfloat16() for key, value in made.mixlora(base).items()}
    folder = made.write_mixlora(tmp_path / "released", {})
    (folder / "pytorch_model.bin").unlink()
    own = {key.replace(".default", ""): value for key, value in tensors.items() if "lora_" in key or "cmoa_" in key}
    torch.save(own, folder / "adapter_model.bin")
    torch.save({key: value for key, value in tensors.items() if "projector" in key}, folder / "non_lora_trainables.bin")
    result = convert_released(folder, base, tmp_path / "out")
    assert result.read == ("adapter_model.bin", "cmoa_args.bin", "non_lora_trainables.bin")
    expected = logits(made.released_mixlora(base, tensors, made.SETTINGS), batch64)
    torch.testing.assert_close(logits(loaded(tmp_path / "out", "linear"), batch64), expected, **EXACT)


def test_mixtune_loads_it_and_the_base_is_not_touched(tmp_path):
    base = made.base("linear")
    before = {name: value.clone() for name, value in base.state_dict().items()}
    source = made.write_mixlora(tmp_path / "released", made.mixlora(base))
    convert_released(source, base, tmp_path / "out", base_name="some/base")
    assert before.keys() == base.state_dict().keys()
    assert all(torch.equal(value, before[name]) for name, value in base.state_dict().items())
    ours = load_adapter(made.base("linear"), tmp_path / "out")
    assert ours.peft_config["default"].base_model_name_or_path == "some/base"
    inputs = batch(SAMPLES, labels=False)
    peft = PeftModel.from_pretrained(made.base("linear"), tmp_path / "out").eval()
    assert torch.equal(logits(ours, inputs), logits(peft, inputs))


def test_every_key_is_reported(tmp_path):
    base = made.base("linear")
    surprise = f"{made.MIXLORA}layers.0.mlp.surprise.weight"
    tensors = made.mixlora(base) | {surprise: torch.zeros(3)}
    source = made.write_mixlora(tmp_path / "released", tensors)
    torch.save({}, source / "training_args.bin")
    result = convert_released(source, base, tmp_path / "out")
    used = [key for keys in result.used.values() for key in keys]
    assert sorted([*used, *result.checked, *result.left_over]) == sorted(tensors)
    start = f"{made.MIXLORA}layers.1.mlp.up_proj."
    ours = "base_model.model.model.language_model.layers.1.mlp.up_proj.mixture_A.weight"
    assert result.used.keys() == load_file(tmp_path / "out" / "adapter_model.safetensors").keys()
    assert result.used[ours] == tuple(f"{start}lora_A.default.{e}" for e in range(made.FACTORS))
    assert result.checked[f"{start}weight"] == "the frozen base's; its values were compared"
    assert result.left_over[surprise] == "no rule of this layout names it"
    tower = f"{made.MIXLORA}vision_tower.vision_tower.vision_model.post_layernorm.weight"
    assert "vision tower" in result.left_over[tower]
    assert "language model" in result.left_over["base_model.model.lm_head.weight"]
    assert result.settings["lora_alpha"] == 12 and result.origins["lora_alpha"] == "cmoa_args.bin"
    assert result.not_read == ("training_args.bin",)
    written = json.loads((tmp_path / "out" / "conversion.json").read_text())
    assert written["left_over"] == result.left_over and written["used"][ours] == list(result.used[ours])
    lines = "\n".join(result.summary())
    assert f"{surprise}: no rule" in lines and "preset mixlora-released" in lines
    assert lines in (tmp_path / "out" / "README.md").read_text()


def test_llava_mole_says_what_it_cannot_carry_over(tmp_path):
    result = convert_released(made.write_mole(tmp_path, made.mole(made.base())), made.on_meta(), tmp_path / "out")
    assert "computes without it" in result.left_over["in_adaptor.visual_start_token"]
    assert result.left_over["epoch"] == "of type int, not a tensor"
    block = f"{made.MOLE}layers.0.mlp.original_module.gate_proj.weight"
    assert result.checked[block] == "the frozen base's; its shape was compared"


KEY = f"{made.MIXLORA}layers.1.mlp.up_proj.lora_A.default.3"
FROZEN = f"{made.MIXLORA}layers.1.mlp.up_proj.weight"


def rename(tensors):
    tensors[KEY.replace("lora_A", "lora_a")] = tensors.pop(KEY)


def extra_factor(tensors):
    tensors[KEY.replace("default.3", "default.6")] = tensors[KEY]


def misshapen(tensors):
    tensors[KEY] = tensors[KEY][:, :5].clone()


def whole_numbers(tensors):
    tensors[KEY] = tensors[KEY].long()


def broken(tensors):
    tensors[KEY] = torch.full_like(tensors[KEY], torch.nan)


def too_large(tensors):
    tensors[KEY] = torch.full_like(tensors[KEY], 1e300, dtype=torch.float64)


def without_values(tensors):
    tensors[KEY] = tensors[KEY].to("meta")


def sparse(tensors):
    tensors[KEY] = tensors[KEY].to_sparse()


def frozen_without_values(tensors):
    tensors[FROZEN] = tensors[FROZEN].to("meta")


def frozen_sparse(tensors):
    tensors[FROZEN] = tensors[FROZEN].to_sparse()


def other_base(tensors):
    tensors[KEY.partition("lora")[0] + "weight"] += 0.01


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop(KEY), f"missing: {KEY} (for base_model.model.model.language_model.layers.1.mlp"),
        (rename, f"; did you mean '{KEY.replace('lora_A', 'lora_a')}'?"),
        (extra_factor, f"no place: {KEY.replace('default.3', 'default.6')}"),
        (misshapen, f"{KEY}: wrong shape: expected [1, 32], found [1, 5]"),
        (whole_numbers, f"{KEY}: expected floating point numbers, found torch.int64"),
        (broken, f"{KEY}: holds values that are no finite numbers in float32"),
        (too_large, f"{KEY}: holds values that are no finite numbers in float32"),
        (without_values, f"{KEY}: holds a shape without values: it was saved from the meta device"),
        (sparse, f"{KEY}: expected a dense tensor, found torch.sparse_coo"),
        (frozen_without_values, f"{FROZEN}: holds a shape without values"),
        (frozen_sparse, f"{FROZEN}: expected a dense tensor, found torch.sparse_coo"),
        (other_base, f"{made.MIXLORA}layers.1.mlp.up_proj.weight: another base: its weight is"),
        (
            lambda tensors: tensors.pop(f"{made.MIXLORA}mm_projector.bias"),
            "missing: mm_projector.bias (for base_model.model.model.multi_modal_projector",
        ),
        (lambda tensors: tensors.update(made.mole(made.base())), "the files mix two layouts"),
        (dict.clear, "not a state dict"),
    ],
)
def test_a_checkpoint_that_is_not_whole_is_refused(tmp_path, change, message):
    base = made.base("linear")
    tensors = made.mixlora(base)
    change(tensors)
    source = made.write_mixlora(tmp_path / "released", tensors)
    with pytest.raises(ValueError) as caught:
        convert_released(source, base, tmp_path / "out")
    assert message in str(caught.value)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("dtype", [torch.float8_e4m3fn, torch.float8_e5m2])
def test_float8_files_are_read_as_their_values(tmp_path, batch64, dtype):
    base = made.base("linear")
    tensors = {
        key: value.to(dtype) if "lora_" in key or "cmoa_" in key else value for key, value in made.mixlora(base).items()
    }
    convert_released(made.write_mixlora(tmp_path / "released", tensors), base, tmp_path / "out")
    expected = logits(made.released_mixlora(base, tensors, made.SETTINGS), batch64)
    torch.testing.assert_close(logits(loaded(tmp_path / "out", "linear"), batch64), expected, **EXACT)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (made.on_meta("linear", layers=1), f"no place: {made.MIXLORA}layers.1.self_attn.q_proj.lora_A.default.0"),
        (made.on_meta("linear", layers=3), f"missing: {made.MIXLORA}layers.2.self_attn.q_proj.lora_A.default.0"),
        (made.on_meta("linear", width=48), "another base: it has [48, 48] there, found [32, 32]"),
        (made.base("linear", seed=5), "another base: its weight is 1"),  # 100 % and more: nothing in common
    ],
)
def test_another_base_is_refused(tmp_path, other, message):
    source = made.write_mixlora(tmp_path / "released", made.mixlora(made.base("linear")))
    with pytest.raises(ValueError) as caught:
        convert_released(source, other, tmp_path / "out")
    assert message in str(caught.value)


def test_neither_layout_is_refused(tmp_path):
    torch.save({"model.layers.0.mlp.up_proj.weight": torch.zeros(2, 2)}, tmp_path / "pytorch_model.bin")
    with pytest.raises(ValueError, match=r"neither released layout.*found model.layers.0.mlp.up_proj.weight"):
        convert_released(tmp_path, made.on_meta(), tmp_path / "out")
