"""What each field of `MixtureConfig` may hold, whatever the others say."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Mapping
from typing import Any

LARGEST = sys.float_info.max


def is_number(value: Any) -> bool:
    """Whether it is a real, finite number; True and False are none."""
    return isinstance(value, (int, float)) and not isinstance(value, bool) and abs(value) <= LARGEST


def is_whole(value: Any) -> bool:
    """Whether it is an int; True and False are none."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_list_of(value: Any, holds: Callable[[Any], bool]) -> bool:
    """Whether it is a list, tuple or set of what `holds` says."""
    return isinstance(value, (list, tuple, set, frozenset)) and all(map(holds, value))


def is_text(value: Any) -> bool:
    """Whether it is a str."""
    return isinstance(value, str)


def is_pattern(value: Any) -> bool:
    """Whether it is a regular expression that compiles."""
    try:
        return is_text(value) and bool(re.compile(value))
    except re.error:
        return False


Rule = tuple[str, Callable[[Any], bool]]
FINITE: Rule = ("must be a finite number", is_number)
TEXT: Rule = ("must be text", is_text)
YES_OR_NO: Rule = ("must be True or False", lambda value: isinstance(value, bool))
NOT_NEGATIVE: Rule = ("must be a whole number of at least 0", lambda value: is_whole(value) and value >= 0)
NAMES: Rule = (
    "must be a regular expression or a list of names",
    lambda value: is_pattern(value) or is_list_of(value, is_text),
)
RULES: Mapping[str, Rule] = {
    "preset": TEXT,
    "context": TEXT,
    "router": TEXT,
    "conditional": TEXT,
    "gate": TEXT,
    "pooling": TEXT,
    "dense": TEXT,
    "router_scope": TEXT,
    "router_aux_loss_scope": TEXT,
    "r": ("must be a whole number of at least 1", lambda value: is_whole(value) and value >= 1),
    "lora_alpha": FINITE,
    "scaling": FINITE,
    "lora_dropout": ("must lie in [0, 1) and be a number", lambda value: is_number(value) and 0 <= value < 1),
    "num_factors": NOT_NEGATIVE,
    "num_experts": NOT_NEGATIVE,
    "top_k": NOT_NEGATIVE,
    "ifs_weight": FINITE,
    "keep_selection": YES_OR_NO,
    "router_trainable": YES_OR_NO,
    "random_routing": YES_OR_NO,
    "router_bias": YES_OR_NO,
    "router_center": YES_OR_NO,
    "router_aux_loss_coef": ("must be a finite number of at least 0", lambda value: is_number(value) and value >= 0),
    "target_modules": NAMES,
    "exclude_modules": NAMES,
    "mixture_modules": ("must be a regular expression", is_pattern),
    "modules_to_save": ("must be a list of names, such as ['lm_head']", lambda value: is_list_of(value, is_text)),
    "layers_to_transform": (
        "must be a whole number or a list of them",
        lambda value: is_whole(value) or is_list_of(value, is_whole),
    ),
    "layers_pattern": NAMES,
    "init_weights": YES_OR_NO,
}
NEEDED = ("preset", "ifs_weight", "init_weights")  # no preset or default stands in for None


def check_fields(values: Mapping[str, Any]) -> None:
    """Hold fields, by name, against `RULES`; None, where it is allowed, and fields without a rule pass.

    Raises ValueError naming the field, its value and the rule.
    """
    for name, (rule, holds) in RULES.items():
        value = values.get(name)
        if (value is not None or name in NEEDED) and not holds(value):
            raise ValueError(f"{name}: {rule}, got {value!r}")
