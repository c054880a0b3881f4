"""The eight benchmarks of the founding paper's Table 1 (Shen et al. 2024, arXiv 2402.15896), a row each."""

from __future__ import annotations

from functools import partial
from pathlib import Path

from mixtune.evaluate import metrics
from mixtune.evaluate.benchmarks.classes import CLASS_NAMES
from mixtune.evaluate.benchmarks.folders import mme_folder
from mixtune.evaluate.benchmarks.table import Benchmark, Columns, Protocol
from mixtune.evaluate.scoring import answers, yesno

SHORT = "\nAnswer the question using a single word or phrase."
AS_ASKED = "{question}"
LMMS_EVAL = "EvolvingLMMs-Lab/lmms-eval at 75571cf, lmms_eval/tasks"
VLMEVALKIT = "open-compass/VLMEvalKit at e8e78f0, vlmeval/dataset"


def _without_yes_no(question: str) -> str:
    """lmms-eval takes MME's own request out before it adds its own."""
    return question.strip().replace(" Please answer yes or no.", "")


def last_word(path: Path) -> str:
    """What follows the last underscore of a file's name: "random" of coco_pope_random.json."""
    return path.stem.rpartition("_")[2]


MME = Benchmark(
    name="mme",
    title="MME",
    size=2374,
    obtain="ask for MME_Benchmark_release_version.zip as BradyFU/Awesome-Multimodal-Large-Language-Models says",
    dataset="lmms-lab-encoder/MME",
    columns=Columns(part=("category",), cluster=("image_path", "question_id")),
    folder=mme_folder,
    options=("Yes", "No"),
    pairs=True,
    protocols={
        "official": Protocol(
            prompt=AS_ASKED,
            score=yesno.score_mme,
            numbers=metrics.mme_numbers,
            headlines=("perception", "cognition", "total"),
            source="calculation.py of MME's eval_tool.zip; Fu et al. 2023, arXiv 2306.13394",
        ),
        "lmms-eval": Protocol(
            prompt="{question}\nAnswer the question using a single word or phrase.",
            rephrase=_without_yes_no,
            score=yesno.score_mme_lmms_eval,
            numbers=metrics.mme_numbers,
            headlines=("perception", "cognition", "total"),
            source=f"{LMMS_EVAL}/mme",
            differs="another request in the prompt; strips the answer, drops periods, takes y and n",
        ),
        "vlmevalkit": Protocol(
            prompt=AS_ASKED,
            score=yesno.score_yes_no_word,
            numbers=metrics.mme_numbers,
            headlines=("perception", "cognition", "total"),
            source=f"{VLMEVALKIT}/utils/yorn.py",
            differs="yes or no anywhere in the answer, wrong if both; its optional judge model is not used",
        ),
    },
)

POPE = Benchmark(
    name="pope",
    title="POPE",
    size=9000,
    obtain="output/coco of RUCAIBox/POPE (coco_pope_random, _popular, _adversarial.json) and COCO's val2014 pictures",
    dataset="lmms-lab-encoder/POPE",
    columns=Columns(
        id=("question_id", "index", "id"),
        question=("text", "question"),
        answers=("label", "answer"),
        part=("category",),
        cluster=("image_source", "image_path", "image"),
    ),
    files=("coco_pope_random.json", "coco_pope_popular.json", "coco_pope_adversarial.json"),
    part_of_file=last_word,
    images=("val2014", "images"),
    options=("yes", "no"),
    protocols={
        "official": Protocol(
            prompt=AS_ASKED,
            score=yesno.score_pope,
            numbers=metrics.pope_numbers,
            headlines=("accuracy", "f1", "yes_ratio"),
            source="RUCAIBox/POPE at 3df3ba1, evaluate.py; Li et al. 2023, arXiv 2305.10355",
        ),
        "lmms-eval": Protocol(
            prompt="{question}" + SHORT,
            score=yesno.score_pope_lmms_eval,
            numbers=partial(metrics.pope_numbers, lmms_eval=True),
            headlines=("accuracy", "f1", "yes_ratio"),
            source=f"{LMMS_EVAL}/pope",
            differs='the whole answer must be yes or no ("Yes." is wrong); other answers are no false negatives; its '
            "yes-ratio is that of the targets",
        ),
        "vlmevalkit": Protocol(
            prompt=AS_ASKED,
            score=yesno.score_yes_no_word,
            numbers=metrics.pope_numbers,
            headlines=("accuracy", "f1", "yes_ratio"),
            source=f"{VLMEVALKIT}/utils/yorn.py",
            differs='yes or no anywhere in the answer, wrong if both or none; its "Overall" is the F1 of all splits',
        ),
    },
)

TEXTVQA = Benchmark(
    name="textvqa",
    title="TextVQA",
    size=5000,
    obtain="TextVQA_0.5.1_val.json and the train_val_images (train_images) from textvqa.org/dataset",
    dataset="lmms-lab-encoder/textvqa",
    split="validation",
    columns=Columns(image=("image", "image_id", "image_path"), cluster=("image_id", "image_path")),
    files=("TextVQA_0.5.1_val.json",),
    images=("train_images", "train_val_images/train_images", "images"),
    protocols={
        "official": Protocol(
            prompt="{question}" + SHORT,
            score=answers.score_soft,
            numbers=metrics.mean_numbers,
            headlines=("accuracy",),
            source="TextVQAAccuracyEvaluator, facebookresearch/mmf, mmf/utils/m4c_evaluators.py; Singh et al. 2019, "
            "arXiv 1904.08920; the prompt is that of LLaVA-1.5, without OCR tokens",
        ),
        "lmms-eval": Protocol(
            prompt="{question}" + SHORT,
            rephrase=str.capitalize,
            score=answers.score_soft,
            numbers=metrics.mean_numbers,
            headlines=("accuracy",),
            source=f"{LMMS_EVAL}/textvqa",
            differs="all letters of the question but the first become small, those of names too",
        ),
        "vlmevalkit": Protocol(
            prompt="{question}" + SHORT,
            score=answers.score_soft_vlmevalkit,
            numbers=metrics.mean_numbers,
            headlines=("accuracy",),
            source=f"{VLMEVALKIT}/utils/vqa_eval.py",
            differs="its normal form keeps a period after a digit and 's on its word",
        ),
    },
)

VSR = Benchmark(
    name="vsr",
    title="VSR (zero-shot test)",
    size=1222,
    obtain="data/splits/zeroshot/test.jsonl of cambridgeltl/visual-spatial-reasoning and the COCO pictures its data/ "
    "page lists, in a folder images beside it",
    dataset="RunsenXu/VSR",
    columns=Columns(
        id=("index",),
        question=("caption", "text", "question"),
        answers=("label", "gt_value", "answer"),
        answer_of={"1": "true", "0": "false", "yes": "true", "no": "false", "true": "true", "false": "false"},
    ),
    files=("test.jsonl", "zeroshot/test.jsonl"),
    images=("images", "trainval2017", "../images", "../../images"),
    options=("true", "false"),
    protocols={
        "official": Protocol(
            prompt='Is this statement about the picture true or false? "{question}" Answer with one word.',
            score=yesno.score_true_false,
            numbers=metrics.mean_numbers,
            headlines=("accuracy",),
            source="accuracy of true/false labels, Liu et al. 2023 (TACL), arXiv 2205.00363; the prompt is mixtune's",
        ),
        "vlmevalkit": Protocol(
            prompt=AS_ASKED,
            score=yesno.score_true_false_vlmevalkit,
            numbers=metrics.mean_numbers,
            headlines=("accuracy",),
            source=f"{VLMEVALKIT}/utils/yorn.py",
            differs="its TSV file asks each caption as a question; yes or no anywhere in the answer, wrong if both",
        ),
    },
)

SNLI_VE = Benchmark(
    name="snli-ve",
    title="SNLI-VE (test)",
    size=17901,
    obtain="snli_ve_test.jsonl of necla-ml/SNLI-VE and the flickr30k-images folder",
    columns=Columns(
        id=("pairID", "id"),
        question=("sentence2", "sentence", "hypothesis"),
        answers=("gold_label", "label"),
        image=("image", "Flickr30K_ID", "Flikr30kID"),
        cluster=("Flickr30K_ID", "filename"),
        answer_of={"0": "entailment", "1": "neutral", "2": "contradiction"},
    ),
    files=("snli_ve_test.jsonl",),
    images=("flickr30k-images", "flickr30k_images", "images"),
    options=("entailment", "neutral", "contradiction"),
    protocols={
        "official": Protocol(
            prompt='What does the picture say about this sentence: "{question}"? Answer with one word: entailment if '
            "it must be true, contradiction if it cannot be, neutral if neither.",
            score=answers.score_label,
            numbers=metrics.mean_numbers,
            headlines=("accuracy",),
            source="accuracy of three labels, Xie et al. 2019, arXiv 1901.06706; the prompt and the reading of answers "
            "are mixtune's",
        )
    },
)


FOUNDING = (MME, TEXTVQA, VSR, SNLI_VE, *CLASS_NAMES, POPE)
MMAVG = ("textvqa", "vsr", "snli-ve", "cifar10", "cifar100", "mnist", "pope")
"""The columns that MMAvg is the plain mean of: all but MME."""
