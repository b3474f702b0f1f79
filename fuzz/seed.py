#!/usr/bin/env python3
"""Fills fuzz/corpus/TARGET/ with small sound inputs: the fixtures of mcan-data, and what the fixtures do not have.

FUZZ_CORPUS names another folder than fuzz/corpus.
"""

import io
import json
import os
import struct
import tarfile
import zipfile
from pathlib import Path

FUZZ = Path(__file__).resolve().parent
CORPUS = Path(os.environ.get("FUZZ_CORPUS") or FUZZ / "corpus")
DATA = FUZZ.parent / "crates" / "mcan-data" / "tests" / "data"
FEATURE_SIZE = 64  # as in the targets


def seed(target, name, content):
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(content)


def npy(descr, shape, data, fortran=False):
    header = str({"descr": descr, "fortran_order": fortran, "shape": shape})
    header += " " * (-(len(header) + 11) % 64) + "\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + data


def archive(members, method=zipfile.ZIP_STORED):
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as file:
        for name, content in members.items():
            file.writestr(name, content)
    return out.getvalue()


def floats(count):
    return struct.pack(f"<{count}f", *(0.5 * i for i in range(count)))


def safetensors(arrays):
    header, data = {}, b""
    for name, (dtype, shape, content) in arrays.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [len(data), len(data) + len(content)]}
        data += content
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    return struct.pack("<Q", len(text)) + text + data


def npz_seeds():
    regions = 3
    for fortran in (False, True):
        members = {
            "x.npy": npy("<f4", (FEATURE_SIZE, regions), floats(FEATURE_SIZE * regions), fortran),
            "bbox.npy": npy("<f4", (regions, 4), floats(4 * regions)),
            "image_w.npy": npy("<i8", (), struct.pack("<q", 640)),
            "image_h.npy": npy("<i8", (), struct.pack("<q", 480)),
        }
        seed("npy", f"{fortran}", members["x.npy"])
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            seed("npz", f"{fortran}-{method}.npz", archive(members, method))
    archive_seeds(archive(members, zipfile.ZIP_DEFLATED))


def archive_seeds(features):
    for name, format in (("gnu", tarfile.GNU_FORMAT), ("pax", tarfile.PAX_FORMAT)):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=format) as file:
            for path in ("train2014/COCO_train2014_000000000009.jpg.npz", "long/" * 30 + "COCO_train2014_7.jpg.npz"):
                member = tarfile.TarInfo(path)
                member.size = len(features)
                file.addfile(member, io.BytesIO(features))
        seed("archive", name, out.getvalue())


def bank_seeds():
    for dtype, width in (("F32", 4), ("F16", 2)):
        arrays = {
            "x": (dtype, [3, FEATURE_SIZE], bytes(3 * FEATURE_SIZE * width)),
            "offset": ("I64", [3], struct.pack("<3q", 0, 1, 3)),
            "image_id": ("I64", [2], struct.pack("<2q", 9, 262148)),
        }
        seed("bank", dtype, safetensors(arrays))


def hdf5_seeds():
    for path in (DATA / "hdf5").glob("*/*.h5"):
        seed("hdf5", f"{path.parent.name}-{path.name}", path.read_bytes())


def checkpoint_seeds():
    for path in (DATA / "checkpoints").glob("*.pkl"):
        for target in ("checkpoint", "pt"):
            seed(target, path.name, path.read_bytes())
        if zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as file:
                pickles = [name for name in file.namelist() if name.endswith("data.pkl")]
                seed("pickle", path.stem, file.read(pickles[0]))
        else:
            seed("pickle", path.stem, path.read_bytes())


def glove_seeds():
    model = DATA / "glove" / "spacy-2.1"
    for mode, name in (("w", "package.tar"), ("w:gz", "package.tar.gz")):
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode=mode) as file:
            file.add(model, "en_vectors_web_lg")
        seed("glove", name, out.getvalue())
    text = b"cat 0.1 -0.2 3e-1\n10am 1 2 3\n. . 1 2 3\n"
    seed("glove", "text", text)
    seed("glove", "text.zip", archive({"glove.txt": text}, zipfile.ZIP_DEFLATED))
    seed("tokenizer", "spacy-2.1", (model / "tokenizer").read_bytes())


def json_seeds():
    questions = {"questions": [{"question_id": 10, "image_id": 1, "question": "What's on the man-made table?"}]}
    answers = [
        {"answer": text, "answer_id": i, "answer_confidence": "yes"} for i, text in enumerate(["a cat", "2", "don't"])
    ]
    annotation = {"question_id": 10, "image_id": 1, "question_type": "what", "answer_type": "other"}
    annotation |= {"multiple_choice_answer": "cat", "answers": answers}
    program = [{"function": name, "inputs": [], "value_inputs": []} for name in ("scene", "unique", "query_size")]
    clevr = {"image_index": 3, "question": "What size is the cube; is it big?", "answer": "large", "program": program}
    test = {"image_index": 3, "question": "Are there any cubes?"}
    seed("clevr", "test", json.dumps({"questions": [test]}).encode())
    gqa = {"question": "What color is the man?", "imageId": "n1", "answer": "red", "isBalanced": True, "entailed": ["07"]}
    gqa |= {"types": {"structural": "query", "semantic": "attr", "detailed": "directOf"}, "groups": {"global": "color"}}
    gqa |= {"semantic": [{"operation": "query", "argument": "color"}]}
    seed("gqa", "questions", json.dumps({"07": gqa}).encode())
    seed("gqa", "choices", json.dumps({"07": {"valid": ["red"], "plausible": ["red"]}}).encode())
    words = {"PAD": 0, "UNK": 1, "CLS": 2, "what": 3}
    seed("gqa", "dicts", json.dumps([{"red": 0}, {"0": "red"}, words, 5]).encode())
    lists = {"questions": questions, "clevr": {"questions": [clevr]}, "annotations": {"annotations": [annotation]}}
    for name, value in lists.items():
        text = json.dumps(value).encode()
        seed(name, "plain", text)
        for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            seed(name, f"{method}.zip", archive({f"{name}.json": text}, method))
    seed("dictionary", "plain", json.dumps([{"yes": 0, "no": 1}, {"0": "yes", "1": "no"}]).encode())
    result = json.dumps([{"answer": "yes", "question_id": 1}, {"question_id": 2, "answer": "\u00e9\n"}]).encode()
    seed("results", "plain", result)
    seed("results", "result.zip", archive({"result.json": result}))


def config_seeds():
    for path in (FUZZ.parent / "configs").glob("*.yml"):
        seed("config", path.stem, path.read_bytes())
    more = b"OPT_BETAS: [0.9, 0.98]\nQUESTION_PATH: {train: a.json}\nVERSION: 5\nEVAL_EVERY_EPOCH: true\nSEED: null\n"
    seed("config", "more", more)


if __name__ == "__main__":
    npz_seeds()
    bank_seeds()
    hdf5_seeds()
    checkpoint_seeds()
    glove_seeds()
    json_seeds()
    config_seeds()
