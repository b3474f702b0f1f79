#!/usr/bin/env python3
"""Writes hdf5/: GQA's published files with few and narrow features, as h5py writes them. Needs h5py and numpy.

`objects` and `spatial` are stored as arrays are by default, `chunked` has the content of `objects` in compressed chunks of two
images, in the newest version of the format. `npz` has the files that OpenVQA's data/gqa/gqa_feat_preproc.py would write. Each
file of `bad` would take the place of objects/gqa_objects_1.h5.
"""

import json
import shutil
from pathlib import Path

import h5py
import numpy as np

FOLDER = Path(__file__).resolve().parent / "hdf5"
SIZE, REGIONS, SIDE = 4, 6, 3
# Image id: number of file, row, number of regions, width, height. Neither files nor rows are in the order of the ids.
IMAGES = {
    "n161313": (0, 1, 6, 500, 375),
    "2354786": (1, 0, 3, 640, 480),
    "07": (0, 0, 2, 333, 500),
    "7": (1, 2, 1, 1024, 768),
    "2370799": (0, 2, 0, 50, 60),
    "n5": (0, 4, 5, 800, 600),
}
# Of images that no JSON file names, too.
ROWS = {0: 5, 1: 3}


def save(folder, kind, arrays, info, **options):
    folder.mkdir(parents=True)
    (folder / f"gqa_{kind}_info.json").write_text(json.dumps(info))
    for number, content in arrays.items():
        with h5py.File(folder / f"gqa_{kind}_{number}.h5", "w", **options.get("file", {})) as file:
            for name, values in content.items():
                file.create_dataset(name, data=values, **options.get(name, {}))


def save_bad(sound):
    """Writes `bad`; `sound` are the arrays of objects/gqa_objects_1.h5."""
    folder = FOLDER / "bad"
    folder.mkdir()
    nan = sound["features"].copy()
    nan[2, 0, 3] = np.nan
    bad = {
        "double": sound | {"features": sound["features"].astype("f8")},
        "integer": sound | {"bboxes": sound["bboxes"].astype("i4")},
        "narrow": sound | {"features": sound["features"][:, :, :3]},
        "flat": sound | {"features": sound["features"][0]},
        "few_boxes": sound | {"bboxes": sound["bboxes"][:2]},
        "no_boxes": {"features": sound["features"]},
        "nan": sound | {"features": nan},
    }
    for name, arrays in bad.items():
        with h5py.File(folder / f"{name}.h5", "w") as file:
            for array, values in arrays.items():
                file[array] = values
    with h5py.File(folder / "linked.h5", "w") as file:
        file["bboxes"] = sound["bboxes"]
        file["features"] = h5py.ExternalLink("gqa_objects_0.h5", "features")
    with h5py.File(folder / "elsewhere.h5", "w") as file:
        file["bboxes"] = sound["bboxes"]
        file.create_dataset("features", sound["features"].shape, "f4", external=[("data.bin", 0, 10**6)])
    with h5py.File(folder / "huge.h5", "w") as file:
        file.create_dataset("features", (3, 2**23, SIZE), "f4", chunks=(1, 6, SIZE))
        file.create_dataset("bboxes", (3, 2**23, 4), "f4", chunks=(1, 6, 4))
    with h5py.File(folder / "huge_chunk.h5", "w") as file:
        file["bboxes"] = sound["bboxes"]
        chunked = file.create_dataset("features", (3, REGIONS, SIZE), "f4", chunks=(2**24, 1, SIZE), maxshape=(None, REGIONS, SIZE), compression=1)
        chunked.id.write_direct_chunk((0, 0, 0), b"x")


def main():
    shutil.rmtree(FOLDER, ignore_errors=True)
    random = np.random.default_rng(1)
    objects, spatial = {}, {}
    for number, rows in ROWS.items():
        corners = random.uniform(2, 300, (rows, REGIONS, 4)).astype("f4")
        features = random.standard_normal((rows, REGIONS, SIZE)).astype("f4")
        objects[number] = {"features": features, "bboxes": corners}
        spatial[number] = {"features": random.standard_normal((rows, SIZE, SIDE, SIDE)).astype("f4")}
    info = {
        id: {"file": file, "idx": row, "objectsNum": regions, "width": width, "height": height}
        for id, (file, row, regions, width, height) in IMAGES.items()
    }
    save(FOLDER / "objects", "objects", objects, info)
    save(FOLDER / "spatial", "spatial", spatial, {id: {k: v[k] for k in ("file", "idx")} for id, v in info.items()})
    packed = {"compression": "gzip", "shuffle": True}
    options = {"features": {"chunks": (2, 4, SIZE), **packed}, "bboxes": {"chunks": (3, 2, 3), **packed}}
    save(FOLDER / "chunked", "objects", objects, info, file={"libver": "latest"}, **options)
    save_bad(objects[1])
    for id, (file, row, regions, width, height) in IMAGES.items():
        for kind in ("frcn", "grid"):
            (FOLDER / "npz" / f"gqa-{kind}").mkdir(parents=True, exist_ok=True)
        x, bbox = objects[file]["features"][row, :regions], objects[file]["bboxes"][row, :regions]
        np.savez(FOLDER / "npz" / "gqa-frcn" / f"{id}.npz", x=x, bbox=bbox, width=width, height=height)
        cells = spatial[file]["features"][row].reshape(SIZE, SIDE * SIDE).transpose(1, 0)
        np.savez(FOLDER / "npz" / "gqa-grid" / f"{id}.npz", x=cells)


if __name__ == "__main__":
    main()
