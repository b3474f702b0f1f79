#!/usr/bin/env bash
# Compares a GPU with the CPU, every fast path with its plain one, and times the GPU. On a machine with an NVIDIA GPU:
#
#   benches/gpu.sh [BINARY]     BINARY: default target/release/mcan, built when it is not there
#
# In this order: the unit tests that use a GPU (if there is cargo); then on the demo world, for tiny, small and large, and in
# float32, in TF32 and in bfloat16
#   - training without dropout and in file order on both devices: the logged losses;
#   - val and test with the GPU's float32 checkpoint on both: the answers;
#   - training with dropout on the GPU again, resumed, without page-locked memory, and with features held on the device, and as
#     a job of one process through NCCL: the same log, to the last digit;
#   - score and demo;
# then the time of a training step and the memory of the GPU, next to the reference's with CHECKOUT.
# Exit status: 0 all agree, 1 some differ or fail. Needs Python 3, with numpy for the times and torch for the reference, and 20 GB in
# $TMPDIR for large.
#
# Environment:
#   DEVICE    the device under test, as --GPU takes it (default 0); cpu compares the CPU with itself
#   MODELS    which models (default "tiny small large")
#   CHECKOUT  a checkout of MILVLG/mcan-vqa at 6b165e9 to time beside (default: none)
#   STEPS     steps that are timed (default 300; 0: none)
set -euo pipefail
cd "$(dirname "$0")/.."

device=${DEVICE:-0}
models=${MODELS:-tiny small large}
steps=${STEPS:-300}
seed=7
benches=$PWD/benches

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

# precision NAME: its flags.
precision() {
    case $1 in
    float32) echo "--AMP=off --SET TF32=false" ;;
    tf32) echo "--AMP=off --SET TF32=true" ;;
    bf16) echo "--AMP=bf16" ;;
    esac
}

# train MODEL DEVICE PRECISION EPOCHS VERSION FLAGS...
train() {
    local model=$1 where=$2 flags=() epochs=$4 version=$5
    read -ra flags <<<"$(precision "$3")"
    shift 5
    mcan "$version" --RUN=train --SPLIT=train --EVAL_EE=False --MODEL="$model" --GPU="$where" "${flags[@]}" \
        --MAX_EPOCH="$epochs" --VERSION="$version" --SEED=$seed --BS=32 --ACCU=1 --VERB=False --SET USE_GLOVE=false "$@"
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

# accuracy WHAT: what val printed last, a dash for test.
accuracy() { sed -n 's/^Overall Accuracy is: //p' "$1.out" | tail -n 1 | grep . || echo -; }

# differing FILE FILE: how many answers differ.
differing() {
    python3 -c 'import json, sys
a, b = ([(e["question_id"], e["answer"]) for e in json.load(open(f))] for f in sys.argv[1:])
print(sum(x != y for x, y in zip(a, b, strict=True)), len(a))' "$1" "$2"
}

mismatches=0
# row OK COLUMNS...: prints the columns and the verdict, and counts a mismatch.
row() {
    local verdict=agree
    [ "$1" = 1 ] || { verdict=DIFFER && mismatches=$((mismatches + 1)); }
    shift
    printf '%-6s %-8s %-14s %-16s %-16s %-9s %s\n' "$@" "$verdict"
}

# same_log VERSION VERSION: whether their losses and learning rates are the same to the last digit.
same_log() { cmp -s <(grep -v nowTime "results/log/log_run_$1.txt") <(grep -v nowTime "results/log/log_run_$2.txt"); }

# within A B MOST: 1 if the relative difference A of two things is at most MOST.
within() { awk -v apart="$1" -v most="$2" 'BEGIN { print apart <= most }'; }

# compare_losses MODEL PRECISION EPOCHS MOST WHAT FLAGS...: trains on both devices.
compare_losses() {
    local model=$1 kind=$2 epochs=$3 most=$4 what=$5 apart
    shift 5
    train "$model" cpu "$kind" "$epochs" "$model-$kind-cpu" --SET SHUFFLE_MODE=none --OVERWRITE=True "$@"
    train "$model" "$device" "$kind" "$epochs" "$model-$kind-device" --SET SHUFFLE_MODE=none --OVERWRITE=True "$@"
    apart=$(difference "$model-$kind-cpu" "$model-$kind-device")
    row "$(within "$apart" "$most")" "$model" "$kind" "$what" "$(losses "$model-$kind-cpu" | tail -n 1)" \
        "$(losses "$model-$kind-device" | tail -n 1)" "$apart"
}

# compare_answers MODEL PRECISION EPOCHS PERCENT: val and test with the checkpoint that the device made in float32.
compare_answers() {
    local model=$1 kind=$2 flags=() what name apart all
    local answering=(--CKPT_V="$1-float32-device" --CKPT_E="$3" --VERB=False)
    read -ra flags <<<"$(precision "$2")"
    for what in val test; do
        mcan $what-cpu --RUN=$what "${answering[@]}" --GPU=cpu --SET CACHE_PATH=answers/cpu/ --SET RESULT_PATH=answers/cpu/
        mcan $what-device --RUN=$what "${answering[@]}" --GPU="$device" "${flags[@]}" \
            --SET CACHE_PATH=answers/device/ --SET RESULT_PATH=answers/device/
        name=result_run_$model-float32-device.json
        [ $what = val ] || name=result_run_$model-float32-device_epoch$3.json
        read -r apart all < <(differing answers/cpu/"$name" answers/device/"$name")
        # Near ties may fall either way, and with them the accuracy.
        row $((apart * 100 <= all * $4)) "$model" "$kind" $what "$(accuracy $what-cpu)" "$(accuracy $what-device)" "$apart/$all"
    done
}

# compare_paths MODEL PRECISION: on the device alone, with dropout and shuffled, the plain path first.
compare_paths() {
    local model=$1 kind=$2 path flags version common=(--OVERWRITE=True --SET DROPOUT_R=0.1)
    train "$model" "$device" "$kind" 2 plain --PINM=False --NW=0 "${common[@]}"
    for path in again pinned table nccl resumed; do
        version=path-$path
        case $path in
        again) flags=(--PINM=False --NW=0) ;;
        pinned) flags=(--PINM=True --NW=4) ;;
        table) flags=(--PRELOAD=gpu) ;;
        nccl)
            # A job of one process.
            flags=(--PINM=True --NW=4)
            export RANK=0 LOCAL_RANK=0 WORLD_SIZE=1 MASTER_ADDR=127.0.0.1 MASTER_PORT=29517
            ;;
        resumed)
            train "$model" "$device" "$kind" 1 "$version" "${common[@]}"
            flags=(--RESUME=True --CKPT_V="$version" --CKPT_E=1)
            ;;
        esac
        train "$model" "$device" "$kind" 2 "$version" "${common[@]}" "${flags[@]}"
        unset RANK LOCAL_RANK WORLD_SIZE MASTER_ADDR MASTER_PORT
        row "$(same_log plain "$version" && echo 1 || echo 0)" "$model" "$kind" "$path" "-" \
            "$(losses "$version" | tail -n 1)" "$(difference plain "$version")"
        rm -r "ckpts/ckpt_$version"
    done
}

echo "device under test: $device $(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | paste -sd, || true)"
if [ "$device" != cpu ] && command -v cargo >/dev/null; then
    (cd "$benches/.." && cargo test --quiet --lib -- gpu varlen)
fi
mcan world --RUN=demo --GPU="$device" --SEED=$seed --MAX_EPOCH=1 --VERB=False
mcan pack --RUN=pack
mcan score --RUN=score --RESULT_FILE=results/cache/result_run_demo.json
row "$([ "$(accuracy world)" = "$(accuracy score)" ] && echo 1 || echo 0)" tiny - score "$(accuracy score)" "$(accuracy world)" -

echo
printf '%-6s %-8s %-14s %-16s %-16s %-9s %s\n' model products what CPU "device $device" apart verdict
for model in $models; do
    epochs=1
    [ "$model" = tiny ] && epochs=2
    compare_losses "$model" float32 $epochs 1e-4 loss --SET DROPOUT_R=0.0
    compare_answers "$model" float32 $epochs 1
    compare_answers "$model" tf32 $epochs 2
    compare_answers "$model" bf16 $epochs 5
    compare_losses "$model" tf32 $epochs 5e-3 loss --SET DROPOUT_R=0.0
    compare_losses "$model" bf16 $epochs 2e-2 loss --SET DROPOUT_R=0.0
    for kind in float32 bf16; do
        # Other random numbers, so only about the same.
        [ "$model" != tiny ] || compare_losses "$model" "$kind" 2 5e-2 "with dropout" --SET DROPOUT_R=0.1
        compare_paths "$model" "$kind"
    done
    rm -r ckpts/*
done

if [ "$steps" -gt 0 ]; then
    echo
    python3 "$benches/gpu_compare.py" --binary "$binary" --device "$device" --steps "$steps" \
        ${CHECKOUT:+--checkout "$CHECKOUT"} $models
fi
[ $mismatches = 0 ] || { echo "gpu.sh: $mismatches comparisons differ" >&2 && exit 1; }
