"""The benchmarks of the second paper (Chen et al. 2024, LLaVA-MoLE, arXiv 2401.16160), a row each."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from mixtune.evaluate import metrics
from mixtune.evaluate.benchmarks.folders import tiny_lvlm_folder
from mixtune.evaluate.benchmarks.founding import LMMS_EVAL, SHORT, VLMEVALKIT, last_word
from mixtune.evaluate.benchmarks.table import Benchmark, Columns, Protocol
from mixtune.evaluate.scoring import answers


def _open_or_closed(targets: Sequence[str]) -> str:
    return "closed" if targets[0].strip().lower() in ("yes", "no") else "open"


PATHVQA = Benchmark(
    name="pathvqa",
    title="PathVQA (test)",
    size=6719,
    obtain="the hub dataset flaviagiammarino/path-vqa; the original test_qa.pkl is a pickle, which is not read",
    dataset="flaviagiammarino/path-vqa",
    files=("test.json", "test_qa.json", "test.jsonl"),
    images=("images", "images/test", "test"),
    part_of_answers=_open_or_closed,
    max_new_tokens=64,
    protocols={
        "official": Protocol(
            prompt="{question}",
            score=answers.score_pathvqa,
            numbers=metrics.pathvqa_numbers,
            headlines=("open_recall", "closed_accuracy"),
            source="LLaVA-Med (Li et al. 2023, arXiv 2306.00890): recall of open and accuracy of closed questions, "
            "microsoft/LLaVA-Med at b9a98a7, llava/eval/run_eval.py",
        )
    },
)

CHARTQA = Benchmark(
    name="chartqa",
    title="ChartQA (test)",
    size=2500,
    obtain="ChartQA Dataset/test (test_human.json, test_augmented.json, png) of vis-nlp/ChartQA",
    dataset="lmms-lab-encoder/ChartQA",
    columns=Columns(
        id=("index", "question_id", "id"),
        question=("query", "question"),
        answers=("label", "answer"),
        image=("image", "imgname", "image_path"),
        part=("type", "split"),
        part_of={"human_test": "human", "augmented_test": "augmented"},
        cluster=("imgname", "image_path"),
    ),
    files=("test_human.json", "test_augmented.json"),
    part_of_file=last_word,
    images=("png", "images"),
    max_new_tokens=32,
    protocols={
        "official": Protocol(
            prompt="{question}" + SHORT,
            score=answers.score_relaxed,
            numbers=partial(metrics.mean_numbers, name="relaxed_accuracy"),
            headlines=("relaxed_accuracy",),
            source="Masry et al. 2022 (arXiv 2203.10244), section 5.1, as google-research/pix2struct, "
            "pix2struct/metrics.py, computes it; the answer is stripped; the prompt is that of LLaVA-1.5",
        ),
        "lmms-eval": Protocol(
            prompt="{question}\nAnswer the question with a single word.",
            score=answers.score_relaxed_unstripped,
            numbers=partial(metrics.mean_numbers, name="relaxed_accuracy"),
            headlines=("relaxed_accuracy",),
            source=f"{LMMS_EVAL}/chartqa",
            differs="another request in the prompt; at most 16 new tokens; the answer is not stripped",
        ),
        "vlmevalkit": Protocol(
            prompt="{question}" + SHORT,
            score=answers.score_relaxed,
            numbers=partial(metrics.mean_numbers, name="relaxed_accuracy"),
            headlines=("relaxed_accuracy",),
            source=f"{VLMEVALKIT}/utils/vqa_eval.py",
            differs="nothing in the score",
        ),
    },
)

DOCVQA = Benchmark(
    name="docvqa",
    title="DocVQA (validation)",
    size=5349,
    obtain="val_v1.0_withQT.json and spdocvqa_images from rrc.cvc.uab.es, challenge 17, task 1 (the test split has no "
    "answers)",
    dataset="lmms-lab-encoder/DocVQA",
    config="DocVQA",
    split="validation",
    columns=Columns(cluster=("docId", "ucsf_document_id", "image_path")),
    files=("val_v1.0_withQT.json", "val_v1.0.json"),
    images=("spdocvqa_images", "images", "documents"),
    max_new_tokens=32,
    protocols={
        name: Protocol(
            prompt="{question}" + SHORT,
            score=answers.score_anls,
            numbers=partial(metrics.mean_numbers, name="anls"),
            headlines=("anls",),
            source=source,
            differs=differs,
        )
        for name, source, differs in (
            (
                "official",
                "evaluation script of the Robust Reading Competition, threshold 0.5; Biten et al. 2019, "
                "arXiv 1905.13648; Mathew et al. 2021, arXiv 2007.00398; the prompt is that of LLaVA-1.5",
                "",
            ),
            ("lmms-eval", "EvolvingLMMs-Lab/lmms-eval at 75571cf, lmms_eval/api/metrics.py", "nothing in the score"),
            ("vlmevalkit", f"{VLMEVALKIT}/utils/vqa_eval.py", "nothing in the score"),
        )
    },
)

TINY_LVLM = Benchmark(
    name="tiny-lvlm",
    title="Tiny LVLM-eHub",
    obtain="the ability-level subset (updated_datasets) linked in tiny_lvlm_evaluation/README.md of "
    "OpenGVLab/Multi-Modality-Arena",
    columns=Columns(answers=("gt_answers",), image=("image", "image_path"), part=("ability",)),
    folder=tiny_lvlm_folder,
    max_new_tokens=64,
    protocols={
        "official": Protocol(
            prompt="{question}",
            score=answers.score_containment,
            numbers=metrics.sum_of_parts,
            headlines=("overall",),
            source="OpenGVLab/Multi-Modality-Arena at bd2999a, tiny_lvlm_evaluation/updated_eval_tiny.py and "
            "utils/tools.py; Shao et al. 2023, arXiv 2308.03729",
        )
    },
)

SECOND = (PATHVQA, CHARTQA, DOCVQA, TINY_LVLM)
