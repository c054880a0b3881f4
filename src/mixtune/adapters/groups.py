"""Which linears share a router: what `router_scope` means for the name of a linear."""

from __future__ import annotations

import re

ROUTER_SCOPES = ("linear", "input", "mlp", "layer")

# Last parts of the names of linears that are given one and the same input, as transformers' language models call them.
SAME_INPUT = (
    ("q_proj", "k_proj", "v_proj"),
    ("query", "key", "value"),
    ("gate_proj", "up_proj"),
    ("w1", "w3"),
)


def router_name(linear: str, scope: str) -> str:
    """Name of the router of the linear called `linear`; linears with the same name of a router share it.

    linear: its own. input: that of the first of SAME_INPUT beside it, its own for any other. mlp: the module it lies
    in. layer: the first numbered module around it, a decoder layer; its own outside of one.
    """
    block, _, last = linear.rpartition(".")
    if scope == "input":
        group = next((names for names in SAME_INPUT if last in names), (last,))
        return f"{block}.{group[0]}"
    if scope == "mlp":
        return block
    if scope == "layer":
        numbered = re.match(r".*?\.\d+(?=\.)", linear)
        return numbered[0] if numbered else linear
    return linear
