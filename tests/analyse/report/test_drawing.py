"""Figures of the page."""

from mixtune.analyse.report.drawing import Cells, ringed


def room(*columns: str) -> float:
    """Pixels that a table of differences with these columns has beside its two rows."""
    rows, numbers = ["clock", "count"], [[0.1] * len(columns)] * 2
    texts = [["+10"] * len(columns)] * 2
    figure = ringed(Cells(rows=rows, columns=columns, values=numbers, texts=texts, told=[]), 0.5)
    assert figure.layout.meta["longest"] == max(map(len, columns))
    return figure.layout.height


def test_names_of_columns_have_the_room_that_the_longest_one_needs() -> None:
    assert room("lora", "mixlora") == room("lora")
    assert room("lora", "instruction-mole-uncentered") - room("lora") > 6 * len("uncentered")
