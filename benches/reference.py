"""Times a part of the reference (a checkout of MILVLG/mcan-vqa at 6b165e9), without GloVe.

    python reference.py CHECKOUT WHAT CONFIG.json

in a directory made by world.py. CONFIG.json holds the program's keys; with ON_GPU it runs on a GPU, else on the CPU. WHAT is
train, evaluate, input, score or start. The last line of the output is a JSON object of what was found.
"""
import json
import sys
import time
import types

import torch
from stamps import between, on_cpu, stamped

start = time.perf_counter()
checkout, what, config = sys.argv[1:]
sys.path.insert(0, checkout)
sys.modules["en_vectors_web_lg"] = types.ModuleType("en_vectors_web_lg")
with open(config, encoding="utf-8") as file:
    keys = json.load(file)
on_gpu = keys.pop("ON_GPU", False)
if not on_gpu:
    on_cpu()

from cfgs.base_cfgs import Cfgs  # noqa: E402
from core import exec as program  # noqa: E402
from core.model import net, optim  # noqa: E402

settings = Cfgs()
settings.add_args(keys)
settings.proc()


def train():
    """Milliseconds between the ends of optimizer steps, input and all."""
    steps = []
    stamped(optim.WarmupOptimizer, "step", steps)
    program.Execution(settings).run("train")
    return {"step_ms": between(steps)}


def evaluate():
    """Milliseconds between the ends of forward passes, input and all."""
    passes = []
    stamped(net.Net, "forward", passes)
    program.Execution(settings).run("test")
    return {"step_ms": between(passes)}


def read():
    """Training samples per second that one core makes ready."""
    execution = program.Execution(settings)
    loader = torch.utils.data.DataLoader(execution.dataset, batch_size=settings.BATCH_SIZE, drop_last=True)
    count, began = 0, time.perf_counter()
    for batch in loader:
        count += len(batch[0])
    return {"samples_per_s": count / (time.perf_counter() - began)}


def score():
    """Seconds to score an answer file, reading the files included."""
    began = time.perf_counter()
    questions, annotations = settings.QUESTION_PATH["val"], settings.ANSWER_PATH["val"]
    truth = program.VQA(annotations, questions)
    evaluation = program.VQAEval(truth, truth.loadRes(settings.RESULT_FILE, questions), n=2)
    evaluation.evaluate()
    return {"seconds": time.perf_counter() - began, "accuracy": evaluation.accuracy["overall"]}


def begin():
    """Seconds from the start of the program to the end of its first training step."""
    steps = []
    stamped(optim.WarmupOptimizer, "step", steps, stop_after=1)
    try:
        program.Execution(settings).run("train")
    except (StopIteration, RuntimeError):
        pass
    return {"seconds": steps[0][1] - start}


found = {"train": train, "evaluate": evaluate, "input": read, "score": score, "start": begin}[what]()
if on_gpu:
    found["gpu_gb"] = torch.cuda.max_memory_reserved() / 1e9
print("\n" + json.dumps(found))
