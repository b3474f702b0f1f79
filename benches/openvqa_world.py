"""Made-up input of the shape of OpenVQA's three data sets, in its folders: what openvqa.py times. Needs numpy."""
import itertools

import numpy as np
from world import HEIGHT, PARTS, WIDTH, World, write_json


class Vqa(World):
    """VQA-v2, as in world.py, with boxes."""

    QUESTIONS, FEATURES = "data/vqa/raw", "data/vqa/feats"
    ANSWER_FOLDERS = ("openvqa/datasets/vqa",)

    def fill(self):
        super().fill()
        for part in PARTS.values():
            (self.root / self.FEATURES / part).mkdir(parents=True)

    def boxes(self, n):
        return boxes(self.numbers, n)

    def split(self, part, count, first_image):
        """`count` questions of 3 to 12 words about as many images as they need."""
        self.questions(part, count, first_image)
        self.features(part, count // 5 + 1, first_image, deflated=False)


class Gqa(World):
    """GQA: 1843 answers, 2933 words, 49 cells an image, as published; regions as in VQA-v2."""

    RAW, FEATURES = "data/gqa/raw", "data/gqa/feats"
    LONGEST, QUESTIONS_PER_IMAGE = 29, 12
    FILES = {"train": "train_balanced", "val": "val_balanced", "testdev": "testdev_balanced", "test": "submission_all"}

    def fill(self):
        del self.words[2930:], self.answers[1843:]
        words = {word: i for i, word in enumerate(["PAD", "UNK", "CLS", *self.words])}
        answers = [{a: i for i, a in enumerate(self.answers)}, {str(i): a for i, a in enumerate(self.answers)}]
        write_json(self.root / "openvqa/datasets/gqa/dicts.json", [*answers, words, self.LONGEST])
        for name in *self.FILES.values(), "val_all", "testdev_all":
            write_json(self.file(name), {})
        write_json(self.root / self.RAW / "eval/val_choices.json", {})
        (self.root / self.RAW / "eval/train_choices").mkdir()
        for kind in "gqa-frcn", "gqa-grid":
            (self.root / self.FEATURES / kind).mkdir(parents=True)

    def file(self, name):
        return self.root / self.RAW / f"questions1.2/{name}_questions.json"

    def split(self, part, count, first_image):
        """`count` questions of 4 to 14 words, about 9, about as many images as they need."""
        questions = {}
        for i in range(count):
            image = first_image + i // self.QUESTIONS_PER_IMAGE
            text = " ".join(self.random.choices(self.words, k=self.random.randint(4, 14))) + "?"
            entry = {"question": text, "imageId": str(image), "isBalanced": True}
            if part != "test":
                entry |= self.answered(f"{first_image + i:08}")
            questions[f"{first_image + i:08}"] = entry
        write_json(self.file(self.FILES[part]), questions)
        for image in range(first_image, first_image + count // self.QUESTIONS_PER_IMAGE + 1):
            x = self.regions()
            arrays = {"x": x, "bbox": boxes(self.numbers, len(x)), "width": WIDTH, "height": HEIGHT}
            np.savez(self.root / self.FEATURES / f"gqa-frcn/{image}.npz", **arrays)
            np.savez(self.root / self.FEATURES / f"gqa-grid/{image}.npz", x=self.pooled(2048, 49).T)

    def answered(self, question):
        """What only a question with an answer has."""
        answer = self.random.choice(self.answers)
        operations = [{"operation": "select", "dependencies": [], "argument": "w1 (1)"}]
        operations.append({"operation": "query", "dependencies": [0], "argument": "w2"})
        return {
            "answer": answer,
            "fullAnswer": answer,
            "groups": {"global": None, "local": "w1"},
            "entailed": [question],
            "equivalent": [question],
            "types": {"detailed": "directOf", "semantic": "attr", "structural": "query"},
            "semantic": operations,
            "semanticStr": "select: w1 (1)->query: w2 [0]",
            "annotations": {"question": {}, "answer": {}, "fullAnswer": {}},
        }


class Clevr(World):
    """CLEVR: 28 answers, 196 cells an image, and 43 words in the longest question, as published; 80 words."""

    RAW, FEATURES = "data/clevr/raw", "data/clevr/feats"
    LONGEST, QUESTIONS_PER_IMAGE = 43, 10

    def fill(self):
        del self.words[80:], self.answers[28:]
        for part in "train", "val", "test":
            (self.root / self.FEATURES / part).mkdir(parents=True)
            self.write(part, [])
        words = itertools.cycle(self.words)
        # Every word and every answer, so that the network has its full size.
        texts = (" ".join(itertools.islice(words, self.LONGEST)) for _ in self.answers)
        self.write("val", [self.entry("val", i, 0, *given) for i, given in enumerate(zip(texts, self.answers))])

    def write(self, part, questions):
        info = {"split": part, "license": "none", "version": "1.0", "date": "none"}
        path = self.root / self.RAW / f"questions/CLEVR_{part}_questions.json"
        write_json(path, {"info": info, "questions": questions})

    def entry(self, part, number, image, text, answer):
        entry = {"image_index": image, "image_filename": f"CLEVR_{part}_{image:06}.png", "question_index": number, "split": part}
        entry |= {"question": text + "?"}
        if part == "test":
            return entry
        program = [{"function": "scene", "inputs": [], "value_inputs": []}, {"function": "count", "inputs": [0], "value_inputs": []}]
        return entry | {"question_family_index": 1, "answer": answer, "program": program}

    def split(self, part, count, first_image):
        """`count` questions of 5 to 31 words, about 18, about as many images as they need."""
        questions = []
        for i in range(count):
            text = " ".join(self.random.choices(self.words, k=self.random.randint(5, 31)))
            image = first_image + i // self.QUESTIONS_PER_IMAGE
            questions.append(self.entry(part, i, image, text, self.random.choice(self.answers)))
        self.write(part, questions)
        for image in range(first_image, first_image + count // self.QUESTIONS_PER_IMAGE + 1):
            np.savez(self.root / self.FEATURES / part / f"{image}.npz", x=self.pooled(1024, 196).T)


def boxes(numbers, n):
    """x1, y1, x2, y2 of n regions in pixels."""
    corners = np.sort(numbers.uniform(0, 1, (n, 2, 2)), axis=1) * (WIDTH - 1, HEIGHT - 1)
    return corners.reshape(n, 4).astype(np.float32)


WORLDS = {"vqa": Vqa, "gqa": Gqa, "clevr": Clevr}
