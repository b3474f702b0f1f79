#!/usr/bin/env bash
# Trains the tiny model on the demo world for a given time and watches the process: memory and open files must stay flat.
#
#     benches/soak.sh [SECONDS=3600] [FOLDER=a new temporary one]
#
# Everything that repeats in a long run repeats here: epochs, evaluations, checkpoints, also within epochs, and features
# read file by file by two threads. Samples go to FOLDER/samples.tsv (seconds, resident kB, open files, threads, epochs);
# the summary compares the second quarter of the time with the last. The run is ended by SIGTERM, as a user would.
set -euo pipefail

seconds=${1:-3600}
folder=${2:-$(mktemp -d)}
mcan=${MCAN:-$(cd "$(dirname "$0")/.." && pwd)/target/release/mcan}
every=5

mkdir -p "$folder"
cd "$folder"
"$mcan" --RUN=demo --MAX_EPOCH=1 --SEED=1 --GPU=cpu >demo.txt 2>&1
rm -rf ckpts results

"$mcan" --RUN=train --MODEL=tiny --SPLIT=train --VERSION=soak --SEED=1 --GPU=cpu --NW=2 --PRELOAD=False \
    --MAX_EPOCH=1000000 --SET SAVE_STEPS=20 \
    --DATA_PATH=datasets/demo/vqa --FEAT_PATH=datasets/demo/coco_extract >out.txt 2>err.txt &
child=$!
trap 'kill -KILL $child 2>/dev/null || true' EXIT

resident() { awk '/^VmRSS/ { print $2 }' "/proc/$child/status"; }
epochs() { grep -c '^epoch = ' results/log/log_run_soak.txt 2>/dev/null || true; }

printf 'seconds\tresident_kb\topen_files\tthreads\tepochs\n' >samples.tsv
while [ "$SECONDS" -lt "$seconds" ] && kill -0 "$child" 2>/dev/null; do
    sleep "$every"
    printf '%d\t%d\t%d\t%d\t%d\n' "$SECONDS" "$(resident)" "$(find "/proc/$child/fd" -mindepth 1 | wc -l)" \
        "$(find "/proc/$child/task" -mindepth 1 -maxdepth 1 | wc -l)" "$(epochs)" >>samples.tsv
    # Of the checkpoints only the newest few are kept, so that hours do not fill the disk.
    find ckpts -name 'epoch*.pkl' -printf '%T@ %p\n' | sort -n | head -n -3 | cut -d' ' -f2- | xargs -r rm --
done

kill -TERM "$child"
status=0
wait "$child" || status=$?
trap - EXIT
[ "$status" -eq 143 ] || { echo "the run ended with status $status instead of 143: $(tail -n 3 err.txt)"; exit 1; }

awk -F'\t' '
    NR > 1 { t[NR] = $1; rss[NR] = $2; fd[NR] = $3; threads[NR] = $4; epochs = $5; last = $1 }
    function median(values, from, to,   n, i, j, swap, list) {
        n = 0
        for (i in t) if (t[i] > from && t[i] <= to) list[++n] = values[i]
        for (i = 1; i <= n; i++) for (j = i + 1; j <= n; j++) if (list[j] < list[i]) { swap = list[i]; list[i] = list[j]; list[j] = swap }
        return list[int((n + 1) / 2)]
    }
    function most(values,   i, m) { for (i in values) if (values[i] > m) m = values[i]; return m }
    END {
        printf "%d s, %d epochs, %d samples\n", last, epochs, NR - 1
        printf "resident memory: median %.1f MB in the second quarter, %.1f MB in the last; most %.1f MB\n", \
            median(rss, last / 4, last / 2) / 1000, median(rss, last * 3 / 4, last) / 1000, most(rss) / 1000
        printf "open files: median %d in the second quarter, %d in the last; most %d\n", \
            median(fd, last / 4, last / 2), median(fd, last * 3 / 4, last), most(fd)
        printf "threads: most %d\n", most(threads)
    }' samples.tsv
