#!/usr/bin/env python3
"""Times training steps of mcan on a GPU, end to end, on made-up input of VQA-v2's shape; and of the reference beside it.

    python benches/gpu_compare.py [MODEL ...] [--device 0] [--steps N] [--checkout CHECKOUT] [--binary PROGRAM]

A step is an optimizer step of 64 questions, whatever the model's ACCU, input included; the figure is that of the second of
two epochs. MODEL is small, large or tiny; default small large. Needs numpy, and torch with CUDA for the reference
(CHECKOUT is MILVLG/mcan-vqa at 6b165e9), whose features are preloaded too. Memory is what libtorch held at most.
"""
import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from world import World

HERE = Path(__file__).resolve().parent
BATCH = 64
COMMON = {"SEED": 7, "USE_GLOVE": False, "BATCH_SIZE": BATCH, "TRAIN_SPLIT": "train", "EVAL_EVERY_EPOCH": False, "VERBOSE": False}
SIZES = {  # what configs/*.yml say; each takes a batch whole
    "small": {},
    "large": {"HIDDEN_SIZE": 1024, "FLAT_OUT_SIZE": 2048, "LR_BASE": 0.00005, "GRAD_ACCU_STEPS": 1},
    "tiny": {"LAYER": 1, "HIDDEN_SIZE": 64, "MULTI_HEAD": 4, "FLAT_MLP_SIZE": 64, "FLAT_OUT_SIZE": 128},
}
WAYS = {  # of mcan: (keys, flags)
    "float32": ({"TF32": False}, ["--PRELOAD=True"]),
    "TF32": ({"TF32": True}, ["--PRELOAD=True"]),
    "bf16": ({}, ["--AMP=bf16", "--PRELOAD=True"]),
    "bf16, features on the device": ({}, ["--AMP=bf16", "--PRELOAD=gpu"]),
}


def output_of(command, folder):
    process = subprocess.run(list(map(str, command)), cwd=folder, capture_output=True, text=True)
    if process.returncode != 0:
        sys.exit(f"{' '.join(map(str, command))} failed:\n{process.stderr[-2000:]}")
    return process.stdout


def mcan(arguments, world, model, way):
    """(milliseconds a step, peak GB or None)"""
    keys, flags = WAYS[way]
    keys = COMMON | SIZES[model] | keys | {"OVERWRITE": True, "MAX_EPOCH": 2, "VERSION": "ours"}
    settings = [f"--SET={key}={json.dumps(value)}" for key, value in keys.items()]
    command = [arguments.binary, "--RUN=train", f"--MODEL={model}", f"--GPU={arguments.device}", *flags, *settings]
    output = output_of(command, world.root)
    found = re.search(r"^epoch 2: .* ([\d.]+) s(?:, ([\d.]+) GB)?", output, re.MULTILINE)
    return 1000 * float(found[1]) / arguments.steps, found[2] and float(found[2])


def reference(arguments, world, model):
    """The same; the first half of the steps warms up."""
    keys = COMMON | SIZES[model] | {"RUN_MODE": "train", "MODEL": model, "MAX_EPOCH": 2, "VERSION": "theirs", "PRELOAD": True}
    keys |= {"GPU": str(arguments.device), "ON_GPU": arguments.device != "cpu", "NUM_WORKERS": 4}
    file = world.root / "config.json"
    file.write_text(json.dumps(keys), encoding="utf-8")
    output = output_of([sys.executable, HERE / "reference.py", arguments.checkout, "train", file], world.root)
    found = json.loads(output.splitlines()[-1])
    return statistics.mean(found["step_ms"][arguments.steps :]), found.get("gpu_gb")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="*", choices=[[], *SIZES], default=["small", "large"], metavar="MODEL")
    parser.add_argument("--device", default="0")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--checkout", type=os.path.abspath)
    parser.add_argument("--binary", type=os.path.abspath, default=HERE.parent / "target/release/mcan")
    arguments = parser.parse_args()
    print(f"{'training step':<44}{'ms':>9}{'GB':>8}{'times':>9}")
    with tempfile.TemporaryDirectory(prefix="mcan-gpu-") as folder:
        world = World(folder)
        world.questions("train", arguments.steps * BATCH, 1)
        world.features("train", arguments.steps * BATCH // 5 + 1, 1, deflated=False)
        for model in arguments.models:
            theirs, memory = reference(arguments, world, model) if arguments.checkout else (None, None)
            if theirs:
                print(line(f"{model}, the reference", theirs, memory, None), flush=True)
            for way in WAYS:
                ours, memory = mcan(arguments, world, model, way)
                print(line(f"{model}, {way}", ours, memory, theirs and theirs / ours), flush=True)


def line(what, milliseconds, memory, ratio):
    memory, ratio = (f"{memory:.2f}" if memory else "-"), (f"{ratio:.1f}x" if ratio else "-")
    return f"{what:<44}{milliseconds:>9.2f}{memory:>8}{ratio:>9}"


if __name__ == "__main__":
    main()
