"""The demo: one recipe tuned as a mixture and as plain LoRA, both held against the untuned model, and a report of it.

Every step finds what an interrupted demo left and goes on from there: assets, checkpoints and answered samples.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console

from mixtune.analyse import ReportSettings, write_report
from mixtune.analyse.console import results_table
from mixtune.analyse.runs import EVALUATION
from mixtune.config import Recipe, load_recipe
from mixtune.data import Sample
from mixtune.evaluate.asking import ask, some_of_each
from mixtune.evaluate.run import EvaluationResult, evaluate
from mixtune.evaluate.settings import EvaluateSettings
from mixtune.pocket.benchmark import SUITE, TABLE
from mixtune.pocket.prepare import MODEL, prepare_pocket, resolve
from mixtune.train import train
from mixtune.training.loading import load_model, placed
from mixtune.training.parts import load_adapter

UNTUNED, ARMS = "untuned", ("lora", "mixlora")
PER_TASK, BATCH_SIZE = 27, 64
SMOKE_STEPS, SMOKE_PER_TASK = 10, 1
SMOKE_NOTE = "A smoke run: a few steps and questions, to show that everything works. Its numbers mean nothing."


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What to run: the recipe both arms share, the folder of the runs, whether only to show that it works (``smoke``),
    and whether to go on where an earlier one stopped (``resume``).
    """

    recipe: Path
    out: Path
    smoke: bool
    resume: bool
    console: Console

    def run(self) -> Path:
        """Prepare, tune both arms, evaluate all three models, write the report; returns the path of its page."""
        given = load_recipe(self.recipe)
        if given.model.name_or_path != MODEL:
            raise ValueError(
                f"{self.recipe}: model.name_or_path: '{given.model.name_or_path}'; the demo is of '{MODEL}'"
            )
        self.step(1, "the pocket model, its pictures and its tasks")
        recipe = resolve(given, say=self.console.print)
        prepare_pocket(say=self.console.print)
        samples = some_of_each(ask(SUITE, TABLE).samples, SMOKE_PER_TASK if self.smoke else PER_TASK)
        for number, arm in enumerate(ARMS, start=2):
            self.step(number, f"tune {arm}")
            train(self.arm(recipe, arm), resume=self.resume)
        self.step(4, "question the untuned model and both adapters on seen and unseen tasks")
        results = {name: self.evaluate(recipe, name, samples).results for name in (UNTUNED, *ARMS)}
        self.step(5, "report")
        self.console.print(results_table(results))
        settings = ReportSettings(
            note=SMOKE_NOTE if self.smoke else "", command=f"make demo{' DEMO=smoke' if self.smoke else ''}"
        )
        return write_report(self.out, self.out / "report.html", settings)

    def step(self, number: int, title: str) -> None:
        """Head a step's output."""
        self.console.rule(f"step {number} of 5: {title}", align="left")

    def arm(self, recipe: Recipe, preset: str) -> Recipe:
        """The recipe with another preset and folder, everything else equal; a few steps only in a smoke run."""
        assert recipe.adapter is not None
        update = {"output_dir": str(self.out / preset)} | ({"max_steps": SMOKE_STEPS} if self.smoke else {})
        return recipe.model_copy(
            update={
                "adapter": recipe.adapter.model_copy(update={"preset": preset}),
                "train": recipe.train.model_copy(update=update),
            }
        )

    def evaluate(self, recipe: Recipe, name: str, samples: Sequence[Sample]) -> EvaluationResult:
        """Answers and accuracies of the untuned model or of an arm's saved adapter."""
        self.console.print(f"[bold]{name}")
        model, processor = load_model(recipe.model)
        asked = placed(model if name == UNTUNED else load_adapter(model, self.out / name))
        about = {"model": "pocket", "adapter": None if name == UNTUNED else name}
        folder = self.out / name / EVALUATION
        settings = EvaluateSettings(batch_size=BATCH_SIZE, resume=self.resume)
        return evaluate(asked, processor, samples, settings, folder, about=about)
