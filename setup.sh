#!/bin/sh
# Prepares this clone. Every step first looks at what is there, so running it again is quick and repairs what is missing.
#
#   ./setup.sh            libtorch, then data
#   ./setup.sh libtorch   libtorch 2.11 in libtorch/, from PyPI: the CUDA build where there is an NVIDIA driver (5 GB),
#                         else what a CPU needs (0.7 GB)
#   ./setup.sh data       VQA-v2 questions and annotations, the answer dictionary and word vectors in datasets/vqa/
#   ./setup.sh demo ...   libtorch, a release build, and --RUN=demo with the options that follow
#   ./setup.sh test ...   libtorch, a Python with PyPI's torch, and every check and test (cargo xtask check full), with
#                         the options that follow for cargo test
#
# Environment:
#   LIBTORCH           a libtorch 2.11 of your own (the folder that has lib/ and include/); nothing is installed then
#   MCAN_LIBTORCH      cpu or cuda, instead of what the driver says
#   MCAN_PYTHON        a Python with torch 2.11 and numpy for the interoperation tests; no venv is made then
#   MCAN_CACHE         keep libtorch and the venv in this folder, shared by several clones
#   MCAN_DATA_MIRROR   fetch data from <this URL>/<file name> instead of their public homes
set -eu
cd "$(dirname "$0")"
here=$(pwd)
torch_version=2.11.0
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore

say() { printf '%s\n' "$*"; }
fail() {
    printf 'setup.sh: %s\n' "$*" >&2
    exit 1
}

# ---- libtorch

libtorch() {
    if [ -n "${LIBTORCH:-}" ]; then
        [ -d "$LIBTORCH/lib" ] || fail "LIBTORCH=$LIBTORCH has no folder lib/: unset it, or name a libtorch 2.11."
        say "libtorch: $LIBTORCH, as LIBTORCH says"
        return
    fi
    place=$here/libtorch
    if [ -n "${MCAN_CACHE:-}" ]; then
        mkdir -p "$MCAN_CACHE"
        place=$(cd "$MCAN_CACHE" && pwd)/libtorch
        if [ -d libtorch ] && ! [ -L libtorch ]; then
            fail "libtorch/ is a folder, but MCAN_CACHE=$MCAN_CACHE wants a link there: remove it, or unset MCAN_CACHE."
        fi
        ln -sfn "$place" libtorch
    fi
    there=$(cat "$place/installed" 2>/dev/null || true)
    kind=$(libtorch_kind "$there")
    if [ "$there" = "torch $torch_version $kind" ]; then
        say "libtorch: $there is in $place"
        return
    fi
    install_libtorch "$kind"
    if [ -n "$there" ]; then
        # Cargo does not notice that libtorch has changed.
        cargo clean --quiet -p torch-sys -p mcan 2>/dev/null || true
        cargo clean --quiet --release -p torch-sys -p mcan 2>/dev/null || true
    fi
}

# The kind to install. A CUDA build that is there already also works on a machine without a driver.
libtorch_kind() {
    case "${MCAN_LIBTORCH:-}" in
        cpu | cuda) printf '%s' "$MCAN_LIBTORCH" ;;
        '')
            if [ "$1" = "torch $torch_version cuda" ] || [ -e /proc/driver/nvidia/version ] || nvidia-smi >/dev/null 2>&1
            then
                printf cuda
            else
                printf cpu
            fi
            ;;
        *) fail "MCAN_LIBTORCH=$MCAN_LIBTORCH: it is cpu or cuda." ;;
    esac
}

# Installs into a sibling and renames it, so that an interrupted installation never looks complete.
install_libtorch() {
    python3 -m pip --version >/dev/null 2>&1 ||
        fail "Python 3 with pip is needed to install libtorch (Debian: apt install python3-pip); or set LIBTORCH."
    say "libtorch: installing torch $torch_version for $1 from PyPI to $place"
    partial=$place.partial
    rm -rf "$partial"
    if [ "$1" = cuda ] || [ "$(uname -s)" != Linux ]; then
        # The last two are headers, which libtorch's interface to NCCL includes.
        pip_install --target "$partial" "torch==$torch_version" 'nvidia-cuda-crt==13.0.*' 'nvidia-cuda-cccl==13.0.*'
    else
        # Of torch's CUDA libraries its CPU part needs only these two.
        pip_install --no-deps --target "$partial" "torch==$torch_version" \
            'nvidia-cuda-runtime==13.0.*' 'nvidia-cuda-cupti==13.0.*'
        (cd "$partial/torch/lib" && rm -f libtorch_cuda* libtorch_nvshmem* libtorch_python* libcaffe2_nvrtc*)
    fi
    [ -d "$partial/torch/lib" ] || fail "what pip installed to $partial has no torch/lib."
    printf 'torch %s %s\n' "$torch_version" "$1" >"$partial/installed"
    rm -rf "$place"
    mv "$partial" "$place"
}

pip_install() {
    python3 -m pip install --quiet --no-compile "$@" ||
        fail "pip could not install it: is there a network, some disk space, and a Python from 3.10 to 3.14?"
}

# ---- data

vqa=datasets/vqa
vqa_home=https://s3.amazonaws.com/cvmlp/vqa/mscoco/vqa
answers_home=https://raw.githubusercontent.com/MILVLG/mcan-vqa/6b165e9a88800e2a09ece4645a3c8261938897c6/core/data
vectors_home=https://github.com/explosion/spacy-models/releases/download/en_vectors_web_lg-2.1.0

data() {
    command -v python3 >/dev/null || fail "Python 3 is needed to check what is downloaded."
    mkdir -p "$vqa" datasets/coco_extract
    failed=0
    # The program reads the archives as they are.
    for name in Questions_Train Questions_Val Questions_Test Annotations_Train Annotations_Val; do
        fetch "$vqa_home" "v2_${name}_mscoco.zip"
    done
    fetch "$answers_home" answer_dict.json
    fetch "$vectors_home" en_vectors_web_lg-2.1.0.tar.gz
    by_hand
    [ "$failed" = 0 ] || fail "$failed of the downloads failed; ./setup.sh data goes on where they stopped."
}

# fetch HOME NAME: downloads to a .part file, which is renamed when it is whole. A failure is counted, and the run goes on.
fetch() {
    if [ -s "$vqa/$2" ]; then
        say "data: $2 is there"
        return
    fi
    url=${MCAN_DATA_MIRROR:-$1}/$2
    part=$vqa/$2.part
    if ! whole "$2" "$part"; then
        say "data: fetching $2"
        status=0
        download "$url" "$part" || status=$?
        # The server does not continue this part, or the part is damaged: download it again from the start.
        if { [ "$status" = 0 ] && ! whole "$2" "$part"; } || { [ -s "$part" ] && refused "$status"; }; then
            rm -f "$part"
            status=0
            download "$url" "$part" || status=$?
        fi
        if [ "$status" != 0 ]; then
            complain "$url could not be fetched (status $status)."
            return
        elif ! whole "$2" "$part"; then
            rm -f "$part"
            complain "$url is not the file that it should be."
            return
        fi
    fi
    mv "$part" "$vqa/$2"
}

complain() {
    printf 'setup.sh: %s\n' "$*" >&2
    failed=$((failed + 1))
}

# download URL FILE: continues a FILE that is there.
download() {
    if command -v curl >/dev/null; then
        curl --fail --location --silent --connect-timeout 20 --retry 2 --continue-at - --output "$2" "$1"
    elif command -v wget >/dev/null; then
        wget --quiet --timeout=20 --tries=3 --continue --output-document="$2" "$1"
    else
        fail "curl or wget is needed to fetch the data."
    fi
}

# Whether a status of curl (22, 33, 36) or wget (8) is the server's answer and not the network's.
refused() {
    case "$1" in
        8 | 22 | 33 | 36) true ;;
        *) false ;;
    esac
}

# whole NAME FILE: whether FILE is a complete archive, or JSON, as NAME says.
whole() {
    [ -s "$2" ] || return 1
    case "$1" in
        *.zip) python3 -c 'import sys, zipfile; sys.exit(zipfile.ZipFile(sys.argv[1]).testzip() is not None)' "$2" ;;
        *.gz) gzip -t "$2" ;;
        *) python3 -c 'import json, sys; json.load(open(sys.argv[1], encoding="utf-8"))' "$2" ;;
    esac 2>/dev/null
}

# Lists the files that have to be downloaded with a browser.
by_hand() {
    missing=
    for split in train2014 val2014 test2015; do
        features=datasets/coco_extract/$split
        [ -d "$features" ] || [ -e "$features.tar.gz" ] || [ -e "$features.safetensors" ] ||
            missing="$missing $features.tar.gz"
    done
    for name in VG_questions VG_annotations; do
        [ -e "$vqa/$name.json" ] || [ -e "$vqa/$name.zip" ] || missing="$missing $vqa/$name.json"
    done
    [ -n "$missing" ] || return 0
    say "data: these have to be placed by hand, as their hosts need a browser (links: the README of MILVLG/mcan-vqa):"
    for file in $missing; do say "    $file"; done
    say "    The features can stay packed: mcan --RUN=pack reads the .tar.gz. VG is for --SPLIT=train+val+vg alone,"
    say "    and for the published checkpoints."
}

# ---- demo and test

demo() {
    libtorch
    cargo run --release -- --RUN=demo "$@"
}

# Sets and exports MCAN_PYTHON where it can; the tests that need it say that they are skipped where it cannot.
python_with_torch() {
    if [ -n "${MCAN_PYTHON:-}" ]; then
        say "test: $MCAN_PYTHON, as MCAN_PYTHON says"
        return
    fi
    venv=$here/.venv
    [ -z "${MCAN_CACHE:-}" ] || venv=$(cd "$MCAN_CACHE" && pwd)/venv
    for python in "$(command -v python3 || true)" "$venv/bin/python"; do
        if has_torch "$python"; then
            say "test: torch $torch_version and numpy are in $python"
            export MCAN_PYTHON="$python"
            return
        fi
    done
    say "test: installing torch $torch_version and numpy from PyPI to $venv (5 GB)"
    if python3 -m venv --clear "$venv" &&
        "$venv/bin/python" -m pip install --quiet "torch==$torch_version" numpy
    then
        export MCAN_PYTHON="$venv/bin/python"
    else
        say "test: that failed, so tests that exchange files with PyTorch are skipped"
    fi
}

has_torch() {
    [ -x "$1" ] && "$1" -c 'if True:
        import sys
        from importlib.metadata import version
        version("numpy")
        sys.exit(version("torch").split("+")[0] != sys.argv[1])' "$torch_version" 2>/dev/null
}

run_tests() {
    mkdir -p "${MCAN_CACHE:-$here}"
    libtorch
    python_with_torch
    cargo xtask check full "$@"
}

command=${1:-all}
[ $# = 0 ] || shift
case "$command" in
    all)
        libtorch
        data
        ;;
    libtorch) libtorch ;;
    data) data ;;
    demo) demo "$@" ;;
    test) run_tests "$@" ;;
    *)
        printf 'usage: ./setup.sh [libtorch|data|demo|test]\n' >&2
        exit 2
        ;;
esac
