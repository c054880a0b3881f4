"""Learning curves: nothing that was logged is invisible."""

from mixtune.analyse.report.curves import ALL_TASKS, curve_figure, log_line
from mixtune.analyse.report.sparks import HEIGHT, STROKE, WIDTH, spark_cards

LOG = [{"step": 10, "loss": 2.0, "task_loss": {"clock": 1.0}}, {"step": 20, "loss": 1.0, "task_loss": {}}]
STYLES = {"lora": "s0"}


def curves(log):
    return {choice: {"lora": log_line(log, choice)} for choice in (ALL_TASKS, "clock")}


def test_one_logged_point_can_be_seen() -> None:
    drawn = {trace["meta"]["choice"]: trace for trace in curve_figure(curves(LOG), STYLES)["data"]}
    assert (drawn[ALL_TASKS]["mode"], drawn["clock"]["mode"]) == ("lines", "lines+markers")
    assert (drawn["clock"]["x"], drawn["clock"]["y"]) == ([10], [1.0])


def test_one_logged_point_is_a_stroke_at_its_loss() -> None:
    (card,) = spark_cards(curves(LOG), STYLES, ["lora"])
    assert card["lines"][0]["points"] == f"{WIDTH - STROKE}.0,0.0 {WIDTH}.0,0.0" and card["lines"][0]["last"] == "1.00"
    twice = [LOG[0], {"step": 20, "loss": 1.0, "task_loss": {"clock": 0.5}}]
    (card,) = spark_cards(curves(twice), STYLES, ["lora"])
    assert card["lines"][0]["points"] == f"{WIDTH / 2:.1f},0.0 {WIDTH}.0,{HEIGHT / 2:.1f}"
