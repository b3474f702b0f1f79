#!/usr/bin/env python3
"""Times OpenVQA's own code and mcan in turn on the same made-up input, model by model, and prints the ratios.

    python benches/openvqa.py CHECKOUT [DATASET/MODEL ...] [--binary PROGRAM] [--rounds N] [--steps N] [--batch N]
    python benches/openvqa.py --against PROGRAM [DATASET/MODEL ...] ...

CHECKOUT is MILVLG/openvqa at f8f9966; openvqa_on_cpu.py says what of it is changed from outside to make it run. With
--against, another build of mcan takes its place. Needs a Python with torch, numpy and PyYAML, which the original runs in, and
`cargo build --release` done. DATASET/MODEL is as in `vqa/butd`; without any, or with `vqa`, `gqa` or `clevr` alone, those that
are timed by default, which leave out the largest.

Each side has two threads on a CPU. Each model is trained, with dropout, and then answers test questions with the weights that
its side has trained. The networks are those of configs/DATASET/MODEL.yml in full size, with 100 regions an image padded (vqa,
gqa), of which 10 to 100 are there, about 37. A step has 64 questions everywhere: of butd (512 as published) that is less than a
step, of ban_4 and ban_8 (512 in eight parts) one part of a step. mcan_large and clevr's mcan_small compute theirs in two
parts, as published. Evaluation takes half of a part at a time. Feature files are in memory.

A round runs each program once; a figure is the median over the steps of a run (without the first), of which the median over
the rounds is shown, and the ratio is the median of the rounds' ratios. Memory is the peak of all rounds. bfloat16 is left out
on a CPU without instructions for it. A model that fails on either side is named, and the others are timed.
"""
import argparse
import os
import statistics
import sys
import tempfile

from compare import BATCH, HERE, Bench, heading, median_ms
from openvqa_world import WORLDS

MODELS = {
    "vqa": ("mcan_small", "mmnasnet_small", "butd", "ban_4", "mfb", "mfh"),
    "gqa": ("mcan_small", "butd", "ban_4"),
    "clevr": ("mcan_small",),
}
LARGEST = {"vqa": ("mcan_large", "mmnasnet_large", "ban_8"), "gqa": ("mcan_large", "ban_8"), "clevr": ()}
PARTS = {"vqa/mcan_large": 2, "gqa/mcan_large": 4, "clevr/mcan_small": 2}  # GRAD_ACCU_STEPS where it is not 1


class OpenVqaBench(Bench):
    DRIVER = HERE / "openvqa_original.py"

    def model(self, name):
        dataset, model = name.split("/")
        batch, parts = self.arguments.batch, PARTS.get(name, 1)
        questions = self.arguments.steps * batch
        self.world.split("train", questions, 1)
        self.world.split("test", questions, 200000)
        keys = {"DATASET": dataset, "MODEL": model, "BATCH_SIZE": batch, "GRAD_ACCU_STEPS": parts}
        keys |= {"PRELOAD": True, "NUM_WORKERS": 1}

        def training(**extra):
            found, memory = self.reference("train", RUN_MODE="train", VERSION="theirs", **keys, **extra)
            return statistics.median(found["step_ms"]), memory

        def our_training(amp):
            output, memory, _ = self.mcan("--RUN=train", f"--AMP={amp}", VERSION="ours", **keys)
            return median_ms(output), memory

        def evaluation(**extra):
            found, memory = self.reference("evaluate", RUN_MODE="test", CKPT_VERSION="theirs", CKPT_EPOCH=1, **keys, **extra)
            return statistics.median(found["step_ms"]) / (batch // parts // 2), memory

        def our_evaluation(amp):
            output, memory, _ = self.mcan("--RUN=test", f"--AMP={amp}", CKPT_VERSION="ours", CKPT_EPOCH=1, **keys)
            return median_ms(output) / (batch // parts // 2), memory

        self.by_precision(training, our_training, f"{name}, step, {{}} (ms)")
        self.by_precision(evaluation, our_evaluation, f"{name}, {{}} (ms/question)")


def chosen(words):
    """DATASET/MODEL of each word, all by default; None for a word that means nothing."""
    for word in words or MODELS:
        dataset, _, model = word.partition("/")
        known = MODELS.get(dataset, ()) + LARGEST.get(dataset, ())
        if dataset in MODELS and not model:
            yield from (f"{dataset}/{each}" for each in MODELS[dataset])
        else:
            yield word if model in known else None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    everything = " ".join(f"{dataset}/{model}" for dataset in MODELS for model in MODELS[dataset] + LARGEST[dataset])
    parser.add_argument("words", nargs="*", metavar="[CHECKOUT] DATASET/MODEL", help=everything)
    parser.add_argument("--against", type=os.path.abspath, metavar="PROGRAM", help="another build of mcan, in place of the original")
    parser.add_argument("--binary", type=os.path.abspath, default=HERE.parent / "target/release/mcan")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=4, help="of training, two at least; the first is not counted")
    parser.add_argument("--batch", type=int, default=BATCH)
    arguments = parser.parse_intermixed_args()
    if not arguments.against and not arguments.words:
        parser.error("name a checkout of OpenVQA, or another build with --against")
    if arguments.steps < 2:
        parser.error("the first step is not counted: --steps is two or more")
    arguments.checkout = None if arguments.against else os.path.abspath(arguments.words.pop(0))
    names = list(chosen(arguments.words))
    if None in names:
        parser.error(f"there is {everything}")
    if any(arguments.batch // PARTS.get(name, 1) < 2 or arguments.batch % PARTS.get(name, 1) for name in names):
        parser.error("--batch is too small, or is no multiple of the parts of a step")
    heading(arguments)
    failed = False
    for name in names:
        with tempfile.TemporaryDirectory(prefix="mcan-openvqa-") as folder:
            try:
                OpenVqaBench(arguments, WORLDS[name.split("/")[0]](folder)).model(name)
            except SystemExit as problem:
                print(f"{name}: {problem}", flush=True)
                failed = True
    sys.exit(failed)


if __name__ == "__main__":
    main()
