#!/usr/bin/env bash
# How long a run takes to start, and how much memory it takes, beside a folder of very many images.
#
#     benches/million.sh [IMAGES=1000000] [FOLDER=a new temporary one, removed at the end]
#
# The demo's world is made and trained on for an epoch; then the folder of its test images gets as many more names, hard
# links to a few small files. Answering the demo's test questions is timed with the few images, with the many, and with
# the bank that the many are packed to.
set -euo pipefail

images=${1:-1000000}
mcan=${MCAN:-$(cd "$(dirname "$0")/.." && pwd)/target/release/mcan}
if [ $# -ge 2 ]; then
    folder=$2
    mkdir -p "$folder"
else
    folder=$(mktemp -d)
    trap 'rm -rf "$folder"' EXIT
fi
cd "$folder"
"$mcan" --RUN=demo --MAX_EPOCH=1 --SEED=1 --GPU=cpu >demo.txt 2>&1
features=datasets/demo/coco_extract/test2015

# timed NAME FLAGS...: seconds and the most memory of one run
timed() {
    local name=$1 began ended most=0 now
    shift
    began=$(date +%s%N)
    "$mcan" "$@" --GPU=cpu --DATA_PATH=datasets/demo/vqa --FEAT_PATH=datasets/demo/coco_extract >out.txt 2>err.txt &
    local child=$!
    while kill -0 $child 2>/dev/null; do
        now=$(awk '/^VmHWM/ { print $2 }' /proc/$child/status 2>/dev/null || true)
        most=${now:-$most}
        sleep 0.05
    done
    wait $child || { cat err.txt; exit 1; }
    ended=$(date +%s%N)
    printf '%-28s %6.1f s, %4d MB at most\n' "$name" "$(((ended - began) / 100000000))e-1" $((most / 1000))
}

answer=(--RUN=test --CKPT_V=demo --CKPT_E=1)
timed "a few images" "${answer[@]}"

# One small image; file systems limit how many names a file may have.
small=$(find "$features" -name '*.npz' -printf '%s %p\n' | sort -n | awk 'NR == 1 { print $2 }')
python3 - "$small" "$features" "$images" <<'PYTHON'
import os, shutil, sys
small, folder, images = sys.argv[1], sys.argv[2], int(sys.argv[3])
first = 10_000_000
for image in range(first, first + images):
    path = f"{folder}/COCO_test2015_{image:012}.jpg.npz"
    if (image - first) % 30_000 == 0:
        shutil.copy(small, path)
        named = path
    else:
        os.link(named, path)
PYTHON

timed "$images images" "${answer[@]}"
timed "$images images, once more" "${answer[@]}"
timed "the same, features preloaded" "${answer[@]}" --PRELOAD=True
