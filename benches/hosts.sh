#!/bin/sh
# What moves between the replicas of a run: trains the demo in network namespaces that act as separate hosts, counts the bytes
# that each sends, and times the steps. Needs root, Linux with iproute2, and the demo's data (--RUN=demo once, in this folder).
#
#   benches/hosts.sh [HOSTS [RATE]]     default: 2 hosts; RATE limits what each sends, as tc writes it (100mbit)
#
# Environment: PROGRAM (default target/release/mcan), MODEL (default tiny), BS (questions a step, default 60).
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
hosts=${1:-2}
rate=${2:-}
program=${PROGRAM:-$here/target/release/mcan}
model=${MODEL:-tiny}
batch=${BS:-60}
tag=mcan-hosts-$$
work=$(mktemp -d)

remove() {
    for i in hub $(seq 0 $((hosts - 1))); do ip netns del "$tag-$i" 2>/dev/null || true; done
    rm -rf "$work"
}
trap remove EXIT

ip netns add "$tag-hub"
ip -n "$tag-hub" link add name bridge0 type bridge
ip -n "$tag-hub" link set bridge0 up
for i in $(seq 0 $((hosts - 1))); do
    ip netns add "$tag-$i"
    ip link add "port$i" netns "$tag-hub" type veth peer name eth0 netns "$tag-$i"
    ip -n "$tag-hub" link set "port$i" master bridge0 up
    ip -n "$tag-$i" addr add "10.78.0.$((i + 1))/24" dev eth0
    ip -n "$tag-$i" link set eth0 up
    ip -n "$tag-$i" link set lo up
    [ -z "$rate" ] || ip netns exec "$tag-$i" tc qdisc add dev eth0 root tbf rate "$rate" burst 256kb latency 200ms
done

for i in $(seq 0 $((hosts - 1))); do
    ip netns exec "$tag-$i" env RANK="$i" LOCAL_RANK=0 WORLD_SIZE="$hosts" MASTER_ADDR=10.78.0.1 MASTER_PORT=29500 \
        OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}" "$program" --RUN=train --SPLIT=train --EVAL_EE=False --MODEL="$model" --GPU=cpu \
        --BS="$batch" --MAX_EPOCH=1 --SEED=1 --VERSION=hosts --SET PROFILE=true --SET USE_GLOVE=false --SET "CKPTS_PATH=$work" \
        --SET "LOG_PATH=$work" --DATA_PATH=datasets/demo/vqa --FEAT_PATH=datasets/demo/coco_extract --PRELOAD=True \
        >"$work/out$i" 2>"$work/err$i" &
done
wait

grep -E 'steps, median' "$work/out0" || { cat "$work"/err*; exit 1; }
# A first step more as a rehearsal.
steps=$(sed -n 's/.*: \([0-9]*\) steps, median.*/\1/p' "$work/out0")
for i in $(seq 0 $((hosts - 1))); do
    sent=$(ip netns exec "$tag-$i" cat /sys/class/net/eth0/statistics/tx_bytes)
    echo "host $i sent $sent bytes: $((sent / (steps + 1))) for each of $steps steps and a rehearsal"
done
