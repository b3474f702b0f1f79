#!/usr/bin/env bash
# Compares a GPU with the CPU, then times the GPU. On a machine with an NVIDIA GPU:
#
#   benches/gpu.sh [BINARY]     BINARY: default target/release/mcan, built when it is not there
#
# On the demo world it trains tiny, small and large on both devices, without dropout and in file order, in float32 and in
# bfloat16; compares the logged losses; answers val and test with the GPU's float32 checkpoint on both; and times an
# epoch on the GPU. Exit status: 0 all agree, 1 some differ or fail. Needs Python 3, and 10 GB in $TMPDIR for large.
#
# Environment:
#   DEVICE   the device under test, as --GPU takes it (default 0); cpu compares the CPU with itself
#   MODELS   which models (default "tiny small large")
#   REPEATS  how often the timed epoch has each question (default 20)
set -euo pipefail
cd "$(dirname "$0")/.."

device=${DEVICE:-0}
models=${MODELS:-tiny small large}
repeats=${REPEATS:-20}
seed=7

binary=${1:-target/release/mcan}
if ! [ -x "$binary" ]; then
    [ $# = 0 ] || { echo "gpu.sh: there is no program $binary" >&2 && exit 1; }
    cargo build --release
fi
binary=$(cd "$(dirname "$binary")" && pwd)/$(basename "$binary")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"

# mcan WHAT FLAGS...: runs the program on the demo world; WHAT names its output, which is shown if it fails.
mcan() {
    local what=$1
    shift
    if ! "$binary" --DATA_PATH=datasets/demo/vqa --FEAT_PATH=datasets/demo/coco_extract "$@" >"$what.out" 2>&1; then
        echo "gpu.sh: failed: mcan $*" >&2
        tail -n 5 "$what.out" >&2
        return 1
    fi
}

# train MODEL DEVICE AMP EPOCHS VERSION
train() {
    mcan "$5" --RUN=train --SPLIT=train --EVAL_EE=False --MODEL="$1" --GPU="$2" --AMP="$3" --MAX_EPOCH="$4" --VERSION="$5" \
        --SEED=$seed --BS=32 --ACCU=1 --PRELOAD=True --VERB=False \
        --SET USE_GLOVE=false --SET DROPOUT_R=0.0 --SET SHUFFLE_MODE=none
}

# losses VERSION: those of its log, one a line.
losses() { sed -n 's/^epoch = .* loss = //p' "results/log/log_run_$1.txt"; }

# difference VERSION VERSION: the largest relative difference of their losses; fails when they are not equally many.
difference() {
    paste <(losses "$1") <(losses "$2") | awk '
        NF != 2 { exit 1 }
        { d = ($1 - $2) / $1; if (d < 0) d = -d; if (d > most) most = d }
        END { if (!NR) exit 1; printf "%.1e", most }'
}

# accuracy WHAT: what val printed, a dash for test.
accuracy() { sed -n 's/^Overall Accuracy is: //p' "$1.out" | grep . || echo -; }

# differing FILE FILE: how many answers differ.
differing() {
    python3 -c 'import json, sys
a, b = ([(e["question_id"], e["answer"]) for e in json.load(open(f))] for f in sys.argv[1:])
print(sum(x != y for x, y in zip(a, b, strict=True)), len(a))' "$1" "$2"
}

# Makes the training questions $repeats times as many, so that an epoch is long enough to be timed.
repeat_training_questions() {
    python3 -c 'import json, sys
for file, key in ("v2_OpenEnded_mscoco_train2014_questions", "questions"), ("v2_mscoco_train2014_annotations", "annotations"):
    path = f"datasets/demo/vqa/{file}.json"
    whole = json.load(open(path))
    step = 1 + max(entry["question_id"] for entry in whole[key])
    whole[key] = [e | {"question_id": e["question_id"] + i * step} for i in range(int(sys.argv[1])) for e in whole[key]]
    json.dump(whole, open(path, "w"))' "$repeats"
}

mismatches=0
# row OK COLUMNS...: prints the columns and the verdict, and counts a mismatch.
row() {
    local verdict=agree
    [ "$1" = 1 ] || { verdict=DIFFER && mismatches=$((mismatches + 1)); }
    shift
    printf '%-6s %-5s %-5s %-16s %-16s %-9s %s\n' "$@" "$verdict"
}

echo "device under test: $device $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | paste -sd, || true)"
mcan world --RUN=demo --GPU=cpu --SEED=$seed --MAX_EPOCH=1 --VERB=False

echo
printf '%-6s %-5s %-5s %-16s %-16s %-9s %s\n' model amp what CPU "device $device" apart verdict
for model in $models; do
    epochs=1
    [ "$model" = tiny ] && epochs=2
    for amp in off bf16; do
        tolerance=1e-3
        [ $amp = off ] || tolerance=2e-2
        train "$model" cpu $amp $epochs "$model-$amp-cpu"
        train "$model" "$device" $amp $epochs "$model-$amp-device"
        apart=$(difference "$model-$amp-cpu" "$model-$amp-device")
        ok=$(awk -v apart="$apart" -v most=$tolerance 'BEGIN { print apart <= most }')
        row "$ok" "$model" $amp loss "$(losses "$model-$amp-cpu" | tail -n 1)" \
            "$(losses "$model-$amp-device" | tail -n 1)" "$apart"
    done
    answering=(--CKPT_V="$model-off-device" --CKPT_E="$epochs" --VERB=False)
    for side in cpu device; do
        where=cpu
        [ $side = cpu ] || where=$device
        mcan val-$side --RUN=val "${answering[@]}" --GPU="$where" --SET CACHE_PATH=answers/$side/
        mcan test-$side --RUN=test "${answering[@]}" --GPU="$where" --SET RESULT_PATH=answers/$side/
    done
    for what in val test; do
        name=result_run_$model-off-device.json
        [ $what = val ] || name=result_run_$model-off-device_epoch$epochs.json
        read -r apart all < <(differing answers/cpu/"$name" answers/device/"$name")
        # Near ties may fall either way: up to 1 answer in 100 may differ, and with it the accuracy.
        row $((apart * 100 <= all)) "$model" off $what "$(accuracy $what-cpu)" "$(accuracy $what-device)" "$apart/$all"
    done
    rm -r ckpts/ckpt_"$model"-*
done

repeat_training_questions
echo
echo "Second of two epochs on device $device, batch 64, its checkpoint included:"
for model in $models; do
    for amp in off bf16; do
        version=time-$model-$amp
        mcan "$version" --RUN=train --SPLIT=train --EVAL_EE=False --MODEL="$model" --GPU="$device" --AMP=$amp --MAX_EPOCH=2 \
            --VERSION="$version" --SEED=$seed --BS=64 --ACCU=1 --PRELOAD=True --VERB=False --SET USE_GLOVE=false
        printf '%-6s %-5s %s for %d questions\n' "$model" $amp "$(sed -n 's/^epoch 2: .*, //p' "$version.out")" \
            $((3600 * repeats))
        rm -r "ckpts/ckpt_$version"
    done
done
[ $mismatches = 0 ] || { echo "gpu.sh: $mismatches comparisons differ" >&2 && exit 1; }
