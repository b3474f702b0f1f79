"""Runs OpenVQA (a checkout of MILVLG/openvqa at f8f9966) on a CPU, in file order, without GloVe.

    python openvqa_original.py CHECKOUT RUNS.json

RUNS.json is a list of runs, made one after the other: `folder` is the working directory, which holds data/, the dictionaries in
openvqa/datasets/, results/, ckpts/ and model.yml; `keys` are the program's, which come before those of model.yml.
benches/openvqa_on_cpu.py says what is changed for a CPU.
"""
import json
import os
import sys
from pathlib import Path

import torch

checkout, runs = sys.argv[1:]
sys.path[0] = str(Path(__file__).resolve().parent.parent / "benches")
import openvqa_on_cpu  # noqa: E402

openvqa_on_cpu.prepare(checkout)
from utils.exec import Execution  # noqa: E402

torch.utils.data.dataloader.RandomSampler = lambda dataset, generator: torch.utils.data.SequentialSampler(dataset)
torch.set_num_threads = lambda _: None  # those of OMP_NUM_THREADS
with open(runs, encoding="utf-8") as file:
    runs = json.load(file)
for run in runs:
    os.chdir(run["folder"])
    settings = openvqa_on_cpu.settings("model.yml", run["keys"])
    Execution(settings).run(settings.RUN_MODE)
