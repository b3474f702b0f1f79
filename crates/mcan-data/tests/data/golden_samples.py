"""Writes golden_samples.json: the samples that the reference makes of train+val+vg of the golden world.

    python golden_samples.py path/to/mcan-vqa path/to/golden/world/datasets/vqa > golden_samples.json

Each sample: [question id, image id, word ids without padding, [[answer index, score], ...] by index].
"""
import json
import sys
import types

reference, folder = sys.argv[1:3]
sys.path.insert(0, reference)
sys.modules["en_vectors_web_lg"] = types.ModuleType("en_vectors_web_lg")
from core.data.data_utils import ans_stat, proc_ans, proc_ques, ques_load, tokenize  # noqa: E402


def load(name, key):
    with open(f"{folder}/{name}", encoding="utf-8") as file:
        return json.load(file)[key]


coco = {"train": "train2014", "val": "val2014", "test": "test2015"}
questions = {s: load(f"v2_OpenEnded_mscoco_{c}_questions.json", "questions") for s, c in coco.items()}
questions["vg"] = load("VG_questions.json", "questions")
annotations = {s: load(f"v2_mscoco_{coco[s]}_annotations.json", "annotations") for s in ("train", "val")}
annotations["vg"] = load("VG_annotations.json", "annotations")
token_to_ix, _ = tokenize(sum(questions.values(), []), False)
ans_to_ix, _ = ans_stat(f"{folder}/answer_dict.json")

lines = []
by_id = ques_load(questions["train"] + questions["val"] + questions["vg"])
for split in ("train", "val", "vg"):
    for annotation in annotations[split]:
        words = proc_ques(by_id[str(annotation["question_id"])], token_to_ix, 14)
        scores = proc_ans(annotation, ans_to_ix)
        targets = [[int(i), round(float(scores[i]), 1)] for i in scores.nonzero()[0]]
        ids = [annotation["question_id"], annotation["image_id"]]
        lines.append(json.dumps(ids + [[int(w) for w in words if w], targets]))
print("[" + ",\n".join(lines) + "]")
