"""CIFAR-10, CIFAR-100 (fine labels) and MNIST, asked openly and by ranking the class names.

Names stand in the order of their label numbers, with spaces for underscores.
"""

from __future__ import annotations

from functools import partial

from mixtune.evaluate import metrics
from mixtune.evaluate.benchmarks.folders import cifar_folder, class_folder, first_layout, mnist_folder
from mixtune.evaluate.benchmarks.table import Benchmark, Columns, Protocol
from mixtune.evaluate.scoring import answers

CIFAR10 = tuple("airplane automobile bird cat deer dog frog horse ship truck".split())
CIFAR100 = tuple(
    name.replace("_", " ")
    for name in """apple aquarium_fish baby bear beaver bed bee beetle bicycle bottle bowl boy bridge bus butterfly
    camel can castle caterpillar cattle chair chimpanzee clock cloud cockroach couch crab crocodile cup dinosaur
    dolphin elephant flatfish forest fox girl hamster house kangaroo keyboard lamp lawn_mower leopard lion
    lizard lobster man maple_tree motorcycle mountain mouse mushroom oak_tree orange orchid otter palm_tree
    pear pickup_truck pine_tree plain plate poppy porcupine possum rabbit raccoon ray road rocket rose sea
    seal shark shrew skunk skyscraper snail snake spider squirrel streetcar sunflower sweet_pepper table
    tank telephone television tiger tractor train trout tulip turtle wardrobe whale willow_tree wolf woman
    worm""".split()
)
DIGITS = tuple("0123456789")


def _classes(name: str, title: str, obtain: str, dataset: str, columns: Columns, options: tuple[str, ...]) -> Benchmark:
    noun = "digit" if options == DIGITS else "object"
    listed = "" if options == DIGITS else " Choose one of: {options}."
    own_layout = mnist_folder if options == DIGITS else cifar_folder
    return Benchmark(
        name=name,
        title=title,
        obtain=obtain,
        dataset=dataset,
        columns=columns,
        folder=first_layout(own_layout, class_folder),
        options=options,
        size=10_000,
        protocols={
            "official": Protocol(
                prompt=f"What {noun} is in this picture?{listed} Answer with one word or phrase.",
                score=answers.score_digit if options == DIGITS else answers.score_label,
                numbers=partial(metrics.mean_numbers, details=("exact",)),
                headlines=("accuracy",),
                source="no released scorer: right if the answer names this class and no other "
                "(scoring.answers.one_label); the prompt is mixtune's",
            )
        },
    )


def _label_columns(image: str, label: str, options: tuple[str, ...]) -> Columns:
    names = {str(number): option for number, option in enumerate(options)}
    return Columns(id=("id",), question=(), image=(image,), answers=(label,), answer_of=names)


_TORONTO = "take the binary version from www.cs.toronto.edu/~kriz/cifar.html, or a folder of pictures a class"
CLASS_NAMES = (
    _classes("cifar10", "CIFAR-10", _TORONTO, "uoft-cs/cifar10", _label_columns("img", "label", CIFAR10), CIFAR10),
    _classes(
        "cifar100", "CIFAR-100", _TORONTO, "uoft-cs/cifar100", _label_columns("img", "fine_label", CIFAR100), CIFAR100
    ),
    _classes(
        "mnist",
        "MNIST",
        "take t10k-images-idx3-ubyte.gz and t10k-labels-idx1-ubyte.gz, or a folder of pictures a digit",
        "ylecun/mnist",
        _label_columns("image", "label", DIGITS),
        DIGITS,
    ),
)
