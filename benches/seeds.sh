#!/bin/sh
# Val accuracy of the demo after its last epoch, in float32 and in bfloat16, for several seeds.
#
#   benches/seeds.sh [PROGRAM [SEED ...]]     default: target/release/mcan 1 2 3 4 5
#
# On a CPU without instructions for bfloat16 the factors are rounded to it all the same, though it saves no time.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
program=${1:-$here/target/release/mcan}
[ $# = 0 ] || shift
[ $# != 0 ] || set -- 1 2 3 4 5
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
ln -s "$here/configs" "$folder/configs"
cd "$folder"
export MCAN_ROUND_TO_BF16=1

accuracy() {
    "$program" --RUN=demo --GPU=cpu "--SEED=$1" "--AMP=$2" 2>/dev/null | sed -n 's/^Overall Accuracy is: //p' | tail -n 1
}

printf '%6s %8s %8s\n' seed float32 bf16
for seed in "$@"; do
    printf '%6s %8s %8s\n' "$seed" "$(accuracy "$seed" off)" "$(accuracy "$seed" bf16)"
done
