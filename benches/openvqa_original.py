"""Times a part of OpenVQA (a checkout of MILVLG/openvqa at f8f9966) on a CPU, without GloVe.

    python openvqa_original.py CHECKOUT WHAT CONFIG.json

in a directory made by openvqa_world.py. CONFIG.json holds DATASET, MODEL and the program's keys, which come before those of
the model's own YAML file. WHAT is train or evaluate. The last line of the output is a JSON object of what was found. The files
of the checkout stay as they are. What does not run on a CPU or with a current PyTorch is changed from here:

- `.cuda()` does nothing; the YAML file is read with a Loader; MODEL may be any file's name
- en_vectors_web_lg and the GQA metrics (which need tqdm) are empty stand-ins: neither is used here
- dropout is not in place: BUTD's and BAN's, in place on the output of a ReLU, fails in the backward pass
- BUTD and BAN on GQA get the area as a box's fifth number, as the MCAN adapter does, and USE_AUX_FEAT False; without, they crash
- feature files are in memory before the first step: reading them is not timed
"""
import json
import sys
import types
from importlib import import_module
from pathlib import Path

import numpy
import torch
import yaml
from stamps import between, on_cpu, stamped

checkout, what, config = sys.argv[1:]
sys.path[0] = checkout  # in place of this folder, whose openvqa.py would be taken for the package
sys.modules["en_vectors_web_lg"] = types.ModuleType("en_vectors_web_lg")
sys.modules["openvqa.datasets.gqa.eval.gqa_eval"] = types.SimpleNamespace(GQAEval=None)
with open(config, encoding="utf-8") as file:
    keys = json.load(file)
with open(Path(checkout, "configs", keys["DATASET"], keys["MODEL"] + ".yml"), encoding="utf-8") as file:
    keys = yaml.safe_load(file) | {"PIN_MEM": False} | keys

on_cpu()
begin_dropout = torch.nn.Dropout.__init__
torch.nn.Dropout.__init__ = lambda self, p=0.5, inplace=False: begin_dropout(self, p)
if keys["DATASET"] == "gqa" and keys["MODEL_USE"] in ("butd", "ban"):
    keys["USE_AUX_FEAT"] = False
    adapter = import_module(f"openvqa.models.{keys['MODEL_USE']}.adapter").Adapter
    forward = adapter.gqa_forward

    def with_area(self, features):
        box = features["BBOX_FEAT"]
        area = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
        return forward(self, features | {"BBOX_FEAT": torch.cat((box, area.unsqueeze(-1)), -1)})

    adapter.gqa_forward = with_area

from openvqa.models.model_loader import CfgLoader  # noqa: E402
from openvqa.utils import optim  # noqa: E402
from utils.exec import Execution  # noqa: E402

settings = CfgLoader(keys["MODEL_USE"]).load()
settings.add_args(keys)
settings.proc()


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
