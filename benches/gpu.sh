#!/usr/bin/env bash
# Compares a GPU with the CPU, then times the GPU. On a machine with an NVIDIA GPU:
#
#   benches/gpu.sh [BINARY]     BINARY: default target/release/mcan, built when it is not there
#
# On the demo world it trains tiny, small and large on both devices, without dropout and in file order, in float32 and in
# bfloat16; compares the logged losses; answers val and test with the GPU's float32 checkpoint on both; and times a second
# epoch on the GPU. Prints a table of each. Exit status: 0 all agree, 1 some differ or fail.
#
# Environment:
#   DEVICE   the device under test, as --GPU takes it (default 0); cpu compares the CPU with itself
#   MODELS   which models (default "tiny small large")
set -euo pipefail
cd "$(dirname "$0")/.."

device=${DEVICE:-0}
models=${MODELS:-tiny small large}
seed=7
tolerance_off=1e-3
tolerance_bf16=2e-2

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

# differing FILE FILE: how many answers differ.
differing() {
    python3 -c 'import json, sys
a, b = ([(e["question_id"], e["answer"]) for e in json.load(open(f))] for f in sys.argv[1:])
print(sum(x != y for x, y in zip(a, b, strict=True)), len(a))' "$1" "$2"
}

# check OK TEXT: counts a mismatch.
mismatches=0
verdict() {
    if [ "$1" = 1 ]; then echo agree; else echo DIFFER; fi
}

echo "device under test: $device $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | paste -sd, || true)"
mcan world --RUN=demo --GPU=cpu --SEED=$seed --MAX_EPOCH=1 --VERB=False

row='%-6s %-5s %-9s %-24s %-24s %-9s %s\n'
# shellcheck disable=SC2059 # the row is a format
print_row() { printf "$row" "$@"; }
echo
print_row model amp what CPU "device $device" differs verdict
for model in $models; do
    epochs=1
    [ "$model" = tiny ] && epochs=2
    for amp in off bf16; do
        tolerance=tolerance_$amp
        train "$model" cpu $amp $epochs "$model-$amp-cpu"
        train "$model" "$device" $amp $epochs "$model-$amp-device"
        apart=$(difference "$model-$amp-cpu" "$model-$amp-device")
        ok=$(awk -v apart="$apart" -v most="${!tolerance}" 'BEGIN { print apart <= most }')
        print_row "$model" $amp loss "$(losses "$model-$amp-cpu" | tail -n 1)" \
            "$(losses "$model-$amp-device" | tail -n 1)" "$apart" "$(verdict "$ok")"
        [ "$ok" = 1 ] || mismatches=$((mismatches + 1))
    done
    # Near ties may fall either way, so up to 1 answer in 100 may differ, and the accuracy by as much.
    answering=(--CKPT_V="$model-off-device" --CKPT_E=$epochs --VERB=False)
    for where in cpu "$device-device"; do
        mcan "val-$where" --RUN=val "${answering[@]}" --GPU="${where%-device}" --SET CACHE_PATH="answers/$where/"
        mcan "test-$where" --RUN=test "${answering[@]}" --GPU="${where%-device}" --SET RESULT_PATH="answers/$where/"
    done
    for what in val test; do
        name=result_run_$model-off-device.json
        [ $what = val ] || name=result_run_$model-off-device_epoch$epochs.json
        read -r apart all < <(differing "answers/cpu/$name" "answers/$device-device/$name")
        shown=("$all answers" "$all answers")
        if [ $what = val ]; then
            for side in 0 1; do
                where=$([ $side = 0 ] && echo cpu || echo "$device-device")
                shown[side]="accuracy $(sed -n 's/^Overall Accuracy is: //p' "val-$where.out")"
            done
        fi
        ok=$((apart * 100 <= all))
        print_row "$model" off $what "${shown[@]}" "$apart/$all" "$(verdict $ok)"
        [ $ok = 1 ] || mismatches=$((mismatches + 1))
    done
done

echo
echo "Seconds of an epoch of 3600 questions on device $device, batch 64, dropout on, the second of two epochs:"
for model in $models; do
    for amp in off bf16; do
        mcan "time-$model-$amp" --RUN=train --SPLIT=train --EVAL_EE=False --MODEL="$model" --GPU="$device" --AMP=$amp \
            --MAX_EPOCH=2 --VERSION="time-$model-$amp" --SEED=$seed --BS=64 --ACCU=1 --PRELOAD=True --VERB=False \
            --SET USE_GLOVE=false
        printf '%-6s %-5s %s\n' "$model" $amp "$(sed -n 's/^epoch 2: .*, //p' "time-$model-$amp.out")"
    done
done
[ $mismatches = 0 ] || { echo "gpu.sh: $mismatches comparisons differ" >&2 && exit 1; }
