"""Made-up input of VQA-v2's shape: what the two programs of compare.py are timed on. Needs numpy."""
import json
import os
import random
from pathlib import Path

import numpy as np

WORDS = 20572  # with PAD and UNK
ANSWERS = 3129
QUESTIONS_PER_IMAGE = 5
REGION_SIZE = 2048
WIDTH, HEIGHT = 640, 480
PARTS = {"train": "train2014", "val": "val2014", "test": "test2015"}


def write_json(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


class World:
    """A working directory for either program: datasets/, core/data/answer_dict.json, results/, ckpts/."""

    QUESTIONS, FEATURES = "datasets/vqa", "datasets/coco_extract"
    ANSWER_FOLDERS = "core/data", "datasets/vqa"

    def __init__(self, root, seed=1):
        self.root = Path(root)
        self.random = random.Random(seed)
        self.numbers = np.random.default_rng(seed)
        self.words = [f"w{i:x}" for i in range(WORDS - 2)]
        self.answers = [f"a{i:x}" for i in range(ANSWERS)]
        for folder in "log", "cache", "result_test", "pred":
            (self.root / "results" / folder).mkdir(parents=True, exist_ok=True)
        (self.root / "ckpts").mkdir(exist_ok=True)
        self.fill()

    def fill(self):
        """What is there before any question or image."""
        dictionary = [{a: i for i, a in enumerate(self.answers)}, {str(i): a for i, a in enumerate(self.answers)}]
        for place in self.ANSWER_FOLDERS:
            write_json(self.root / place / "answer_dict.json", dictionary)
        for part in PARTS:
            self.questions(part, 0, 0)
        self.vocabulary()

    def vocabulary(self):
        """The Visual Genome questions: all words, so that the embedding has its full size."""
        texts = [" ".join(self.words[i : i + 12]) for i in range(0, len(self.words), 12)]
        entries = [{"image_id": 1, "question_id": 10**9 + i, "question": text} for i, text in enumerate(texts)]
        write_json(self.root / self.QUESTIONS / "VG_questions.json", {"questions": entries})
        write_json(self.root / self.QUESTIONS / "VG_annotations.json", {"annotations": []})

    def questions(self, part, count, first_image, images=None):
        """`count` questions of 3 to 12 words with ten answers each, five an image, or more when there are only so many `images`."""
        questions, annotations = [], []
        kinds = ("other", "yes/no", "number")
        for i in range(count):
            image = first_image + i // QUESTIONS_PER_IMAGE % (images or count)
            ids = {"image_id": image, "question_id": (10**9 if part == "vg" else first_image * 1000) + i}
            text = " ".join(self.random.choices(self.words, k=self.random.randint(3, 12))) + "?"
            questions.append(ids | {"question": text})
            first, second = (self.answers[min(int(self.random.paretovariate(0.4)), ANSWERS - 1)] for _ in range(2))
            given = [first if self.random.random() < 0.7 else second for _ in range(10)]
            annotations.append(
                ids
                | {"question_type": f"w{i % 65}", "answer_type": kinds[i % 3], "multiple_choice_answer": first}
                | {"answers": [{"answer": a, "answer_confidence": "yes", "answer_id": n + 1} for n, a in enumerate(given)]}
            )
        names = ("v2_OpenEnded_mscoco_{}_questions", "v2_mscoco_{}_annotations") if part in PARTS else ("VG_questions", "VG_annotations")
        asked, answered = (self.root / self.QUESTIONS / f"{name.format(PARTS.get(part))}.json" for name in names)
        # What the reference's evaluator copies.
        head = dict.fromkeys(("info", "task_type", "data_type", "data_subtype", "license"), "")
        write_json(asked, head | {"questions": questions})
        if part != "test":
            write_json(answered, {"annotations": annotations})
        return [entry["question_id"] for entry in questions]

    def features(self, part, images, first_image, deflated=True):
        """An .npz an image as published: Fortran order, about normal(37, 15) regions within 10 to 100."""
        folder = self.root / self.FEATURES / PARTS[part]
        folder.mkdir(parents=True, exist_ok=True)
        for image in range(first_image, first_image + images):
            x = self.regions()
            arrays = {"x": x.T, "bbox": self.boxes(len(x)), "num_bbox": len(x), "image_w": WIDTH, "image_h": HEIGHT}
            save = np.savez_compressed if deflated else np.savez
            save(folder / f"COCO_{PARTS[part]}_{image:012}.jpg.npz", **arrays)

    def regions(self):
        """Those of an image."""
        n = int(np.clip(self.numbers.normal(37, 15), 10, 100))
        return self.pooled(n, REGION_SIZE)

    def pooled(self, *shape):
        """Features as a pooled ReLU gives them."""
        return np.maximum(self.numbers.normal(0, 1, shape), 0).astype(np.float32)

    def boxes(self, n):
        """A model that does not look at them finds zeros."""
        return np.zeros((n, 4), np.float32)

    def link_features(self, part, images, first_image):
        """As many names for one tiny .npz of a single number per region: enough for a program to find every image."""
        folder = self.root / self.FEATURES / PARTS[part]
        folder.mkdir(parents=True, exist_ok=True)
        for image in range(first_image, first_image + images):
            path = folder / f"COCO_{PARTS[part]}_{image:012}.jpg.npz"
            if (image - first_image) % 30000 == 0:  # file systems limit the names of a file
                np.savez(path, x=np.ones((REGION_SIZE, 10), np.float32))
                named = path
            else:
                os.link(named, path)
