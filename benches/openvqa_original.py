"""Times a part of OpenVQA (a checkout of MILVLG/openvqa at f8f9966) on a CPU, without GloVe.

    python openvqa_original.py CHECKOUT WHAT CONFIG.json

in a directory made by openvqa_world.py. CONFIG.json holds DATASET, MODEL and the program's keys, which come before those of
the model's own YAML file. WHAT is train or evaluate. The last line of the output is a JSON object of what was found. The files
of the checkout stay as they are: openvqa_on_cpu.py says what is changed from outside. Besides, feature files are in memory before
the first step: reading them is not timed.
"""
import json
import sys
from importlib import import_module
from pathlib import Path

import numpy
import openvqa_on_cpu
from stamps import between, stamped

checkout, what, config = sys.argv[1:]
openvqa_on_cpu.prepare(checkout)
with open(config, encoding="utf-8") as file:
    keys = json.load(file)
settings = openvqa_on_cpu.settings(Path(checkout, "configs", keys["DATASET"], keys["MODEL"] + ".yml"), keys)

from openvqa.utils import optim  # noqa: E402
from utils.exec import Execution  # noqa: E402


def in_memory(dataset):
    """Reads the feature files of the data set; numpy.load gives them from here then."""
    read, files = numpy.load, {}
    for paths in "iid_to_frcn_feat_path", "iid_to_grid_feat_path":
        for path in getattr(dataset, paths, {}).values():
            with read(path) as arrays:
                files[path] = dict(arrays)
    numpy.load = files.__getitem__


def run():
    execution = Execution(settings)
    in_memory(execution.dataset)
    execution.run(settings.RUN_MODE)


def train():
    """Milliseconds between the ends of optimizer steps, input and all."""
    steps = []
    stamped(optim.WarmupOptimizer, "step", steps)
    run()
    return {"step_ms": between(steps)}


def evaluate():
    """Milliseconds between the ends of forward passes, input and all."""
    passes = []
    stamped(import_module(f"openvqa.models.{settings.MODEL_USE}.net").Net, "forward", passes)
    run()
    return {"step_ms": between(passes)}


found = {"train": train, "evaluate": evaluate}[what]()
print("\n" + json.dumps(found))
