"""The sentence about routers: what was learnt is only what untrained routers do not show."""

from __future__ import annotations

import pytest

from fake_analyses import routing
from mixtune.analyse.report import routing as page


@pytest.mark.parametrize(
    ("learnt", "end"),
    [
        (0.1, "95 % interval +7.0 to +13.0; guessing 5.0 %): training made the choices tell more about the task."),
        (-0.1, "training made the choices tell less about the task."),
        (0.02, "95 % interval −1.0 to +5.0; guessing 5.0 %): a difference within the noise."),
    ],
)
def test_trained_routers_are_held_against_untrained_ones(learnt, end) -> None:
    said = page.routing_answer(routing(learnt=learnt, per_task=2))
    assert f"{60 + 100 * learnt:.1f} % of the prompts of seen tasks" in said[0].text and end in said[0].text
    assert "of 60.0 % with untrained ones" in said[0].text


def test_nothing_is_said_of_what_was_not_measured() -> None:
    assert page.routing_answer(routing(per_task=2) | {"purity": []}) == []


def test_many_points_are_thinned_evenly(monkeypatch) -> None:
    content = routing(per_task=6)
    monkeypatch.setattr(page, "MOST_POINTS", 70)
    maps = page.map_data(content)["maps"]["all"]["trained"]
    assert {len(x) for x, _ in maps} == {2}
    assert page.map_data(content)["colour"][0] == "s0"
