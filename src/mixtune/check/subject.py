"""The model under check, and how the checks run it.

Shape suffixes: B rows, T positions, N generated tokens, V vocabulary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedConfig

from mixtune.adapters import record_routing
from mixtune.adapters.hooks import ATTRIBUTE, ModelHooks
from mixtune.adapters.layer import MixtureLinear
from mixtune.adapters.plan import LayerPlan
from mixtune.check.examples import Example, Inputs, NotApplicableError, Row, Side, batch, positions
from mixtune.check.results import Tally
from mixtune.routing.routers import RouterOutput

NEW_TOKENS = 5


@dataclass(frozen=True)
class Seen:
    """What one forward gave: logits [B, T, V], and selections by router with indices [B, K] or [B, T, K]."""

    logits: Tensor
    routed: dict[str, RouterOutput]


@dataclass(frozen=True)
class Written:
    """What `generate` gave: sequences [B, T], the N new tokens [B, N], their raw logits [B, N, V], and all the rest."""

    tokens: Tensor
    logits: Tensor
    output: Any


class Subject:
    """A model that carries a mixture, with examples on its device. `bare` switches the mixture off for a while.

    inner: the model whose forward is hooked. layers: its adapted linears. plans: what each does for the active
    adapters. words: token ids that are plain text; special: those that are not.
    """

    def __init__(self, model: nn.Module, examples: Sequence[Example], tolerance: float, pad_token_id: int) -> None:
        self.model: Any = model
        self.hooks = ModelHooks.find(model)
        self.inner: Any = next(module for module in model.modules() if ATTRIBUTE in module.__dict__)
        self.layers = [each for each in model.modules() if isinstance(each, MixtureLinear)]
        self.plans: list[tuple[MixtureLinear, LayerPlan]] = [
            (layer, layer.mixture_plan[name])
            for layer in self.layers
            for name in layer.active_adapters
            if name in layer.mixture_plan
        ]
        self.tolerance, self.pad_token_id = tolerance, pad_token_id
        self.randomised = False
        self.examples = _moved(examples, self.inner)
        self.special = special_tokens(self.inner.config)
        seen = torch.cat([each.inputs["input_ids"][0] for each in self.examples]).unique()
        self.words = torch.tensor([number for number in seen.tolist() if number not in self.special]).to(seen)
        named = inspect.signature(type(self.inner).forward).parameters
        # Multimodal rotary positions are three numbers a token, which the model works out by itself.
        self._rotary: Any = next((each for each in self.inner.modules() if hasattr(each, "get_rope_index")), None)
        self._positions = "position_ids" in named and self._rotary is None
        self._known: dict[Any, Any] = {}

    @property
    def adapters(self) -> list[str]:
        """Names of the active adapters."""
        return list(dict.fromkeys(plan.adapter for _, plan in self.plans))

    @property
    def parameters(self) -> dict[str, nn.Parameter]:
        """The mixture's parameters of the active adapters, by their names in the inner model."""
        return {
            name: parameter
            for name, parameter in self.inner.named_parameters()
            if ".mixture_" in name and name.split(".")[-2] in self.adapters
        }

    @property
    def few(self) -> list[Example]:
        """Two examples, for what takes long."""
        return self.examples[:2]

    @contextmanager
    def bare(self) -> Iterator[None]:
        """Run the layers without what the mixture adds; trained copies of other modules stay."""
        for layer in self.layers:
            layer._disable_adapters = True
        try:
            yield
        finally:
            for layer in self.layers:
                layer._disable_adapters = False

    def run(self, inputs: Inputs, **given: Any) -> Any:
        """The model's output for `inputs`, with positions that padding does not shift where it takes positions."""
        if self._positions and "position_ids" not in inputs:
            here = inputs["input_ids"].shape[1]  # the mask covers what a cache holds too
            given = {"position_ids": positions(inputs["attention_mask"])[:, -here:], **given}
        if self._rotary is not None:
            given = {**self._numbered_on(inputs, given.get("past_key_values")), **given}
        return self.model(**inputs, **given)

    def _numbered_on(self, inputs: Inputs, cache: Any) -> Inputs:
        """Multimodal rotary positions of what follows a prompt: the model remembers how far they lag behind."""
        if cache is None:
            self._rotary.rope_deltas = None  # it is another prompt's
            return {}
        here = inputs["input_ids"].shape[1]
        lag = 0 if self._rotary.rope_deltas is None else self._rotary.rope_deltas
        return {"position_ids": (positions(inputs["attention_mask"])[:, -here:] + lag).expand(3, -1, -1)}

    def look(self, inputs: Inputs, seed: int | None = None, **given: Any) -> Seen:
        """One forward without gradient or cache; with a `seed`, selections drawn at random are the same each time."""
        if seed is not None:
            torch.manual_seed(seed)
        with torch.no_grad(), record_routing(self.model) as record:
            logits = self.run(inputs, use_cache=False, **given).logits
        return Seen(logits, dict(record.selections))

    def together(self, side: Side = "right", **options: Any) -> Inputs:
        """All examples, with their answers, in one batch."""
        return self.batch([each.whole() for each in self.examples], side, **options)

    def in_a_batch(self) -> tuple[Inputs, Seen]:
        """All examples padded on the right, as in training, and one forward over them; made once."""
        inputs = self.together()
        return inputs, self._once("together", lambda: self.look(inputs))

    def alone(self) -> list[Seen]:
        """A forward over each example by itself; made once."""
        return self._once("alone", lambda: [self.look(self.batch([each.whole()], "right")) for each in self.examples])

    def greedy(self, examples: Sequence[Example]) -> Written:
        """What is written greedily after their prompts, with the usual cache; made once."""
        return self._once(tuple(map(id, examples)), lambda: self.write(examples))

    def forget(self) -> None:
        """Make again what was made once; call it after a change of the adapter's values."""
        self._known.clear()

    def _once(self, name: Any, make: Callable[[], Any]) -> Any:
        key = (name, self.layers[0]._disable_adapters)
        if key not in self._known:
            self._known[key] = make()
        return self._known[key]

    def batch(self, rows: Sequence[Row], side: Side, **options: Any) -> Inputs:
        """See `mixtune.check.examples.batch`."""
        return batch(rows, side, self.pad_token_id, **options)

    def write(self, examples: Sequence[Example], **options: Any) -> Written:
        """Generate NEW_TOKENS after the prompts of `examples`, greedily unless `options` say otherwise."""
        return self.go_on(self.batch([each.prompt() for each in examples], "left", labels=False), **options)

    def go_on(self, inputs: Inputs, **options: Any) -> Written:
        """Generate after these inputs; no special token is written, since it might call for a picture."""
        given = {
            "do_sample": False, "max_new_tokens": NEW_TOKENS, "min_new_tokens": NEW_TOKENS,
            "suppress_tokens": sorted(self.special) or None, "disable_compile": True, **options,
        }  # fmt: skip
        with torch.no_grad():
            output = self.model.generate(**inputs, **given, return_dict_in_generate=True, output_logits=True)
        logits = torch.stack(output.logits[:NEW_TOKENS], 1)
        return Written(output.sequences[:, -NEW_TOKENS:], logits, output)

    def forced(self, examples: Sequence[Example], tokens: Tensor) -> Tensor:
        """Logits [B, N, V] that a training forward gives for `tokens` [B, N] as answers to the examples' prompts."""
        rows = [each.continued(answer) for each, answer in zip(examples, tokens, strict=True)]
        count = tokens.shape[1]
        return self.look(self.batch(rows, "left")).logits[:, -count - 1 : -1]


def attended(values: Tensor, inputs: Inputs, row: int) -> Tensor:
    """What `values` [B, T, ...] holds at the positions of row `row` that are not padding."""
    return values[row][inputs["attention_mask"][row].bool()]


def same_text(tally: Tally, one: Written, other: Written, what: str) -> None:
    """Compare the logits of every step up to and including the first at which the texts part: that must be a tie."""
    same_BN = (one.tokens == other.tokens).long().cumprod(1).bool()
    seen_BN = torch.cat([torch.ones_like(same_BN[:, :1]), same_BN[:, :-1]], 1)
    tally.close(one.logits[seen_BN], other.logits[seen_BN], what)


def special_tokens(config: Any) -> set[int]:
    """Token ids that a configuration (and those inside it) gives a meaning of their own: pictures, ends, padding."""
    found: set[int] = set()
    for name, value in vars(config).items():
        if isinstance(value, PreTrainedConfig):
            found |= special_tokens(value)
        elif "token" in name and name.endswith(("_id", "_index", "_ids")):
            values = value if isinstance(value, (list, tuple)) else [value]
            found |= {each for each in values if isinstance(each, int) and not isinstance(each, bool) and each >= 0}
    size = getattr(config.get_text_config(), "vocab_size", None)
    return {each for each in found if size is None or each < size}


def need_two(subject: Subject) -> None:
    """Raises NotApplicableError unless there are two examples."""
    if len(subject.examples) < 2:
        raise NotApplicableError("needs two examples")


def _moved(examples: Sequence[Example], model: Any) -> list[Example]:
    """The examples where the model's embeddings are; pictures come in float32, a model in bfloat16 takes bfloat16."""
    like = next(model.get_input_embeddings().parameters())

    def move(value: Tensor) -> Tensor:
        return value.to(like.device, like.dtype if value.is_floating_point() and like.is_floating_point() else None)

    return [
        Example(inputs={name: move(value) for name, value in each.inputs.items()}, prompt_length=each.prompt_length)
        for each in examples
    ]
