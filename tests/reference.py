"""Runs the reference (a checkout of MILVLG/mcan-vqa at 6b165e9) on a CPU, in file order, without GloVe.

    python reference.py CHECKOUT CONFIG.json

in a working directory with datasets/, core/data/answer_dict.json, results/ and ckpts/. CONFIG.json holds its keys.
"""
import json
import random
import sys
import types

import torch

checkout, config = sys.argv[1:]
sys.path.insert(0, checkout)
sys.modules["en_vectors_web_lg"] = types.ModuleType("en_vectors_web_lg")
# It moves everything to a GPU; here that is where everything is already.
torch.Tensor.cuda = lambda self, *_: self
torch.nn.Module.cuda = lambda self, *_: self
random.shuffle = lambda items: None

from cfgs.base_cfgs import Cfgs  # noqa: E402
from core.exec import Execution  # noqa: E402

settings = Cfgs()
with open(config, encoding="utf-8") as file:
    settings.add_args(json.load(file))
settings.proc()
Execution(settings).run(settings.RUN_MODE)
