"""Makes OpenVQA (a checkout of MILVLG/openvqa at f8f9966) run on a CPU with a current PyTorch, without GloVe. Needs PyYAML.

The files of the checkout stay as they are. What does not run is changed from here:

- `.cuda()` does nothing; the YAML file is read with a Loader; MODEL may be any file's name
- en_vectors_web_lg is empty; tqdm, which the GQA metrics need, shows nothing
- dropout is not in place: BUTD's and BAN's, in place on the output of a ReLU, fails in the backward pass
- BUTD and BAN on GQA get the area as a box's fifth number, as the MCAN adapter does, and USE_AUX_FEAT False; without, they crash
"""
import os
import sys
import types
from importlib import import_module

import torch
import yaml
from stamps import on_cpu


def prepare(checkout):
    """Makes the checkout's packages those that are imported from now on."""
    sys.path[0] = os.path.abspath(checkout)  # in place of the script's folder, whose openvqa.py would be taken for the package
    sys.modules["en_vectors_web_lg"] = types.ModuleType("en_vectors_web_lg")
    sys.modules["tqdm"] = types.SimpleNamespace(tqdm=lambda items: items)
    import_module("openvqa.datasets.gqa.eval.gqa_eval")
    del sys.modules["tqdm"]  # PyTorch looks for it, too
    on_cpu()
    begin_dropout = torch.nn.Dropout.__init__
    torch.nn.Dropout.__init__ = lambda self, p=0.5, inplace=False: begin_dropout(self, p)
    for model in "butd", "ban":
        with_area(import_module(f"openvqa.models.{model}.adapter").Adapter)


def with_area(adapter):
    forward = adapter.gqa_forward

    def gqa_forward(self, features):
        box = features["BBOX_FEAT"]
        area = (box[..., 2] - box[..., 0]) * (box[..., 3] - box[..., 1])
        return forward(self, features | {"BBOX_FEAT": torch.cat((box, area.unsqueeze(-1)), -1)})

    adapter.gqa_forward = gqa_forward


def settings(model, keys):
    """What run.py makes of a model's YAML file and these keys, which come before those of the file."""
    from openvqa.models.model_loader import CfgLoader

    with open(model, encoding="utf-8") as file:
        keys = yaml.safe_load(file) | {"PIN_MEM": False} | keys
    if keys["DATASET"] == "gqa" and keys["MODEL_USE"] in ("butd", "ban"):
        keys["USE_AUX_FEAT"] = False
    found = CfgLoader(keys["MODEL_USE"]).load()
    found.add_args(keys)
    found.proc()
    return found
