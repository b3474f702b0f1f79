#!/usr/bin/env python3
"""Times the reference and mcan in turn on the same made-up input of VQA-v2's shape, and prints the ratios.

    python benches/compare.py CHECKOUT [WORK ...] [--binary PROGRAM] [--rounds N] [--steps N]
    python benches/compare.py --against PROGRAM [WORK ...] ...

CHECKOUT is MILVLG/mcan-vqa at 6b165e9. With --against, another build of mcan takes the reference's place: a change is
paired with its parent commit in the same run (train-small, train-large, evaluate and input). Needs a Python with torch and numpy, which the reference runs in, and `cargo build
--release` done. WORK is any of: train-small train-large evaluate input score start; default all. Each side has two threads on
a CPU. A round runs each program once; a figure is the median over the steps of a run (without the first), of which the median
over the rounds is shown, and the ratio is the median of the rounds' ratios. `score` and `start` have one round: the reference
takes minutes. bfloat16 is left out on a CPU without instructions for it, where mcan computes in float32.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path

from world import World

HERE = Path(__file__).resolve().parent
BATCH = 64
THREADS = "2"
COMMON = {"SEED": 7, "USE_GLOVE": False, "BATCH_SIZE": BATCH, "MAX_EPOCH": 1, "TRAIN_SPLIT": "train", "EVAL_EVERY_EPOCH": False}
SIZES = {  # what configs/*.yml say
    "small": {"MODEL": "small"},
    "large": {"MODEL": "large", "HIDDEN_SIZE": 1024, "FLAT_OUT_SIZE": 2048, "LR_BASE": 0.00005, "GRAD_ACCU_STEPS": 2},
    "tiny": {"MODEL": "tiny", "LAYER": 1, "HIDDEN_SIZE": 64, "MULTI_HEAD": 4, "FLAT_MLP_SIZE": 64, "FLAT_OUT_SIZE": 128},
}


def has_bf16():
    """Whether this CPU multiplies bfloat16, as mcan asks for it."""
    try:
        return "avx512_bf16" in Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False


PRECISIONS = [("off", "float32")] + [("bf16", "bfloat16")] * has_bf16()


def measured(command, folder, until=None, threads=THREADS):
    """Runs `command` in `folder`; (output, peak memory in GB, seconds until the line that starts with `until`)."""
    env = os.environ | {"OMP_NUM_THREADS": threads, "RAYON_NUM_THREADS": threads}
    reached, output, began = None, [], time.perf_counter()
    with tempfile.TemporaryFile("w+", encoding="utf-8") as errors:
        process = subprocess.Popen(command, cwd=folder, env=env, stdout=subprocess.PIPE, stderr=errors, text=True)
        for line in process.stdout:
            output.append(line)
            if until and line.startswith(until):
                reached = time.perf_counter() - began
                process.terminate()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        if status != 0 and reached is None:
            errors.seek(0)
            sys.exit(f"{' '.join(map(str, command))} failed:\n{errors.read()[-2000:]}")
    return "".join(output), usage.ru_maxrss / 1e6, reached or time.perf_counter() - began


class Bench:
    """The two programs in one world."""

    DRIVER = HERE / "reference.py"

    def __init__(self, arguments, world):
        self.arguments = arguments
        self.world = world

    def reference(self, what, threads=THREADS, **keys):
        """What the driver found, and its peak memory in GB; with --against, the same of the other build of mcan."""
        if self.arguments.against:
            return self.other_build(what, threads, **keys)
        config = self.world.root / "config.json"
        config.write_text(json.dumps(COMMON | keys), encoding="utf-8")
        command = [sys.executable, self.DRIVER, self.arguments.checkout, what, config]
        output, memory, _ = measured(command, self.world.root, threads=threads)
        return json.loads(output.splitlines()[-1]), memory

    def other_build(self, what, threads, **keys):
        """What another build of mcan does, in the form of reference.py."""
        run = keys.pop("RUN_MODE")
        output, memory, _ = self.mcan(f"--RUN={run}", threads=threads, program=self.arguments.against, **keys)
        if what == "input":
            return {"samples_per_s": 1000 / ms_per_sample(output)}, memory
        return {"step_ms": [median_ms(output)]}, memory

    def mcan(self, *flags, until=None, threads=THREADS, program=None, **keys):
        """What mcan printed, its peak memory in GB and its seconds."""
        keys = COMMON | keys | {"PROFILE": True, "OVERWRITE": True}
        model = [f"--{flag}={keys.pop(flag)}" for flag in ("DATASET", "MODEL") if flag in keys]
        settings = [f"--SET={key}={json.dumps(value)}" for key, value in keys.items()]
        program = program or self.arguments.binary
        return measured([program, *flags, *model, "--GPU=cpu", *settings], self.world.root, until, threads)

    def rounds(self, reference, ours, count=None):
        """Runs all in turn; each function returns (figure, memory), lower figures are better. `ours`: by name of the work."""
        runs = [(reference(), {work: run() for work, run in ours.items()}) for _ in range(count or self.arguments.rounds)]
        for work in ours:
            theirs, mine = (statistics.median(figures) for figures in zip(*((a[0], b[work][0]) for a, b in runs)))
            ratios = sorted(a[0] / b[work][0] for a, b in runs)
            digits = 3 if self.arguments.against else 1
            memory = max(a[1] for a, _ in runs), max(b[work][1] for _, b in runs)
            print(
                f"{work:<44}{theirs:>10.3f}{mine:>10.3f}{statistics.median(ratios):>8.{digits}f}x  ({ratios[0]:.{digits}f} to {ratios[-1]:.{digits}f})"
                f"{memory[0]:>9.2f}{memory[1]:>8.2f}",
                flush=True,
            )

    def by_precision(self, theirs, mine, work):
        """The reference has float32 alone; another build of mcan computes in the same precision as this one."""
        if not self.arguments.against:
            self.rounds(theirs, {work.format(name): partial(mine, amp) for amp, name in PRECISIONS})
            return
        for amp, name in PRECISIONS:
            self.rounds(partial(theirs, AMP=amp), {work.format(name): partial(mine, amp)})

    # ---- the kinds of work

    def train(self, model):
        questions = self.arguments.steps * BATCH
        self.world.questions("train", questions, 1)
        self.world.features("train", questions // 5 + 1, 1)
        # Reading is another line; here the features are in memory and one worker makes batches of them.
        size = SIZES[model] | {"PRELOAD": True, "NUM_WORKERS": 1}

        def theirs(**keys):
            found, memory = self.reference("train", RUN_MODE="train", VERSION="theirs", **size, **keys)
            return statistics.median(found["step_ms"]), memory

        def mine(amp):
            output, memory, _ = self.mcan("--RUN=train", f"--AMP={amp}", VERSION="ours", **size)
            return median_ms(output), memory

        self.by_precision(theirs, mine, f"training step, {model}, {{}} (ms)")

    def evaluate(self):
        questions = self.arguments.steps * BATCH
        self.train_once()
        self.world.questions("test", questions, 200000)
        self.world.features("test", questions // 5 + 1, 200000)
        size = SIZES["small"] | {"PRELOAD": True, "NUM_WORKERS": 1, "CKPT_VERSION": "ours", "CKPT_EPOCH": 1}

        def theirs(**keys):
            found, memory = self.reference("evaluate", RUN_MODE="test", **size, **keys)
            return statistics.median(found["step_ms"]) / (BATCH // 2), memory

        def mine(amp):
            output, memory, _ = self.mcan("--RUN=test", f"--AMP={amp}", **size)
            return median_ms(output) / (BATCH // 2), memory

        self.by_precision(theirs, mine, "evaluation, small, {} (ms/question)")

    def train_once(self):
        """A checkpoint to evaluate."""
        self.world.questions("train", BATCH, 1)
        self.world.features("train", BATCH // 5 + 1, 1)
        self.mcan("--RUN=train", VERSION="ours", **SIZES["small"])

    def input(self):
        questions = 16 * BATCH
        self.world.questions("train", questions, 1)
        tiny = SIZES["tiny"] | {"PRELOAD": False, "NUM_WORKERS": 0}

        def theirs():
            found, memory = self.reference("input", threads="1", RUN_MODE="train", **tiny)
            return 1000 / found["samples_per_s"], memory

        def mine():
            output, memory, _ = self.mcan("--RUN=train", threads="1", VERSION="ours", **tiny)
            return ms_per_sample(output), memory

        for kind in "deflated", "stored", "bank":
            if kind == "bank":
                self.mcan("--RUN=pack")
            else:
                self.world.features("train", questions // 5 + 1, 1, deflated=kind == "deflated")
            self.rounds(theirs, {f"input, {kind}, one core (ms/sample)": mine})
        for bank in self.world.root.glob("datasets/coco_extract/*.safetensors"):
            bank.unlink()

    def score(self):
        ids = self.world.questions("val", 214354, 300000)
        given = [{"question_id": i, "answer": self.world.random.choice(self.world.answers)} for i in ids]
        file = self.world.root / "answers.json"
        file.write_text(json.dumps(given), encoding="utf-8")

        def theirs():
            found, memory = self.reference("score", RUN_MODE="val", RESULT_FILE=str(file))
            return found["seconds"], memory

        def mine():
            _, memory, seconds = self.mcan("--RUN=score", f"--RESULT_FILE={file}")
            return seconds, memory

        self.rounds(theirs, {"scoring 214,354 answers (s)": mine}, count=1)

    def start(self):
        """658,111 questions of VQA-v2 on 82,783 + 40,504 images, 485,000 of VG; the test questions are there for the words."""
        for part, images, first in ("train", 82783, 1), ("val", 40504, 100001):
            self.world.questions(part, images * 16 // 3, first, images)
            self.world.link_features(part, images, first)
        self.world.questions("vg", 485000, 1, 82783)
        self.world.questions("test", 0, 0)
        size = SIZES["small"] | {"TRAIN_SPLIT": "train+val+vg", "NUM_WORKERS": 1}

        def theirs():
            found, memory = self.reference("start", RUN_MODE="train", VERSION="theirs", **size)
            return found["seconds"], memory

        def mine():
            _, memory, seconds = self.mcan("--RUN=train", until="Profile: the first step", VERSION="ours", **size)
            return seconds, memory

        self.rounds(theirs, {"start to first step (s)": mine}, count=1)


def heading(arguments):
    other = "other" if arguments.against else "reference"
    print(f"{'lower is better':<44}{other:>10}{'mcan':>10}{'ratio':>9}{'':>16}{'GB, each':>13}", flush=True)


def ms_per_sample(output):
    return float(re.search(r"waiting for input +([\d.]+) ms", output)[1]) / BATCH


def median_ms(output):
    return float(re.search(r"steps, median ([\d.]+) ms", output)[1])


def main():
    works = {"train-small": lambda b: b.train("small"), "train-large": lambda b: b.train("large")}
    works |= {"evaluate": Bench.evaluate, "input": Bench.input, "score": Bench.score, "start": Bench.start}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="[CHECKOUT] WORK", help=" ".join(works))
    parser.add_argument("--against", type=os.path.abspath, metavar="PROGRAM", help="another build of mcan, in place of the reference")
    parser.add_argument("--binary", type=os.path.abspath, default=HERE.parent / "target/release/mcan")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=12)
    arguments = parser.parse_intermixed_args()
    if not arguments.against and not arguments.words:
        parser.error("name a checkout of the reference, or another build with --against")
    arguments.checkout = None if arguments.against else os.path.abspath(arguments.words.pop(0))
    arguments.work = arguments.words
    for work in arguments.work:
        if work not in works:
            parser.error(f"there is no work {work}; there is {' '.join(works)}")
    heading(arguments)
    for work in arguments.work or works:
        with tempfile.TemporaryDirectory(prefix="mcan-compare-") as folder:
            works[work](Bench(arguments, World(folder)))


if __name__ == "__main__":
    main()
