#!/usr/bin/env bash
# Tests and measures the GPU of this machine and appends what it finds to benches/RESULTS.md: parity of every op in both modes, the roofs
# and every op beside them, training, and PyTorch beside it where torch has CUDA.
#
#   benches/gpu.sh                        builds and measures
#   benches/gpu.sh build FOLDER           only builds, for a machine without Rust
#   BIN_DIR=FOLDER benches/gpu.sh         measures with what was built
#   WGPU_ADAPTER_NAME=llvmpipe OPS=add_bias INPUT=examples/data/wordnet_minilm_384_sample.parquet EPOCHS=1 benches/gpu.sh
#                                         a dry run on a software adapter
#
# OPS picks ops by words in their names, INPUT replaces the synthetic rows (which take numpy), ROWS, DIM, DIM_OUT, EPOCHS and HIDDEN are
# the runs of training, RESULTS is the file that is written, PYTHON the interpreter, DATA where synthetic rows are kept.
set -euo pipefail
export LC_ALL=C
# Folders are those of the caller.
[ -z "${BIN_DIR:-}" ] || BIN_DIR=$(realpath "$BIN_DIR")
[ "${1:-}" != build ] || set -- build "$(realpath -m "${2:?name the folder}")"
cd "$(dirname "$0")/.."

ROWS=${ROWS:-20000 100000} DIM=${DIM:-4096} DIM_OUT=${DIM_OUT:-64} EPOCHS=${EPOCHS:-20} HIDDEN=${HIDDEN:-0}
OPS=${OPS:-} INPUT=${INPUT:-} RESULTS=${RESULTS:-benches/RESULTS.md} PYTHON=${PYTHON:-python3} DATA=${DATA:-/tmp}
here=$PWD

# Puts the programs that are run here into a folder, under names without hashes.
build() {
    mkdir -p "$1"
    cargo build --release --bin train
    cp "${CARGO_TARGET_DIR:-target}/release/train" "$1/train"
    for kind in test=parity test=device bench=ops bench=streaming bench=variants; do
        local name=${kind#*=} output
        output=$(cargo test --color never --release --no-run "--${kind%=*}" "$name" 2>&1) || { echo "$output" >&2; return 1; }
        cp "$(sed -n "s/.*Executable .*(\(.*\))/\1/p" <<<"$output")" "$1/$name"
    done
}

if [ "${1:-}" = build ]; then
    build "$2"
    exit
fi
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
# Mesa complains without one.
export XDG_RUNTIME_DIR=${XDG_RUNTIME_DIR:-$scratch}
if [ -z "${BIN_DIR:-}" ]; then
    BIN_DIR=$scratch/bin
    build "$BIN_DIR"
fi

report=$scratch/report.md
failures=0
say() { printf '%s\n' "$*" | tee -a "$report"; }
# Runs a command and shows what it prints as a block; the report goes on when it fails.
block() {
    say '```text'
    local status=0
    "$@" 2>&1 | grep -v XDG_RUNTIME_DIR | tee -a "$report" || status=$?
    say '```'
    [ "$status" = 0 ] || { say "**failed**: $* (exit code $status)"; failures=$((failures + 1)); }
}
seconds() { # of a command, whose output goes to a file
    local log=$1 start=$EPOCHREALTIME
    shift
    "$@" >"$log" 2>&1 || { tail -5 "$log" >&2; echo failed; return; }
    awk -v a="$start" -v b="$EPOCHREALTIME" 'BEGIN { printf "%.1f", b - a }'
}

machine() {
    "$BIN_DIR/train" --list-devices 2>/dev/null
    if command -v nvidia-smi >/dev/null; then
        nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.max.sm,power.limit --format=csv,noheader
    fi
    uname -srm
    git rev-parse --short HEAD 2>/dev/null | sed 's/^/commit /' || true
    if command -v rustc >/dev/null; then rustc --version; fi
    "$PYTHON" -c 'import torch; print("torch", torch.__version__, "cuda", torch.version.cuda)' 2>/dev/null || echo "no torch"
}

# The device that is taken, and whether it has units for float16 matrices.
has_units() { "$BIN_DIR/train" --list-devices 2>/dev/null | sed -n 1p | grep -q 'float16 units'; }

parity() { # every op against the oracle; failures by name
    local status=0
    EMBEDDING_COMPRESSOR_REQUIRE_GPU=1 "$BIN_DIR/parity" "$@" >"$scratch/parity.log" 2>&1 || status=$?
    grep -E 'FAILED|test result' "$scratch/parity.log" || tail -5 "$scratch/parity.log"
    return $status
}

has() { "$PYTHON" -c "$1" 2>/dev/null; }

rows() { # the path of synthetic rows, which the script of the peers makes
    "$PYTHON" -c "
import pathlib, sys
sys.path.insert(0, '$here/benches/peers')
import inputs
print(inputs.rows(pathlib.Path('$DATA'), $1, $DIM))"
}

training() { # one line of the table for a file, and PyTorch's beside it
    local file=$1 hidden=$2 model=$scratch/model.npz ours theirs=-
    rm -f "$model"
    ours=$(seconds "$scratch/train.log" "$BIN_DIR/train" --input "$file" --max-items 0 --dim-out "$DIM_OUT" --hidden "$hidden" \
        --epochs "$EPOCHS" --device gpu --model "$model")
    if [ "$torch" = yes ] && [ -f benches/peers/train.py ] && [ -f "$model" ] && [[ $file == *.npy ]]; then
        theirs=$(seconds "$scratch/torch.log" "$PYTHON" benches/peers/train.py "$file" "$model" --dim-out "$DIM_OUT" \
            --hidden "$hidden" --epochs "$EPOCHS" --device cuda)
    fi
    if [ "$ours" = failed ] || [ "$theirs" = failed ]; then failures=$((failures + 1)); fi
    say "| $(basename "$file") | $hidden | $EPOCHS | $ours | $theirs | $(grep -o 'validation.*' "$scratch/train.log" | tail -1) |"
}

# Ops are timed on no software adapter that is not asked for, and training on one takes hours.
first=$("$BIN_DIR/train" --list-devices 2>/dev/null | sed -n 1p)
if [ -z "${WGPU_ADAPTER_NAME:-}" ] && [[ $first == cpu* || $first == *"software adapter"* ]]; then
    echo "no GPU: the first device is '$first'" >&2
    echo "install its Vulkan driver and libvulkan1 (NVIDIA: libnvidia-gl of the driver's version; in a container the" \
        "capability 'graphics'), or name a software adapter in WGPU_ADAPTER_NAME" >&2
    exit 1
fi
torch=no
if has 'import torch; assert torch.cuda.is_available()'; then torch=yes; fi

say "## GPU, $(date -u +%Y-%m-%d)"
say
say 'By `benches/gpu.sh`. Times of ops are medians of 5 samples of at least 50 ms, in turns with the two roofs; a fraction is of the tighter roof.'
say
block machine
say
say 'Every op against the f64 oracle, shaders trusted and checked:'
say
block parity "gpu trusted"
say
block parity "gpu checked"
block "$BIN_DIR/device"
say
say 'Ops:'
say
export WGPU_ADAPTER_NAME=${WGPU_ADAPTER_NAME:-}
[ -n "$WGPU_ADAPTER_NAME" ] || unset WGPU_ADAPTER_NAME
# Words are separate arguments.
# shellcheck disable=SC2086
block "$BIN_DIR/ops" --bench --gpu $OPS
say
say 'Products by the rule for variants, and the fastest others in proportion to it:'
say
# shellcheck disable=SC2086
block "$BIN_DIR/variants" --bench $OPS
say
say 'Rows that are uploaded while those before are searched, and the share of the shorter of both that is hidden:'
say
block "$BIN_DIR/streaming" --bench "$DIM"
if has_units; then
    say
    say 'With matrix units, parity and times (the roof is that of ordinary arithmetic):'
    say
    export EMBEDDING_COMPRESSOR_MATRIX_UNITS=1
    block parity matmul_rounded
    block "$BIN_DIR/ops" --bench --gpu matmul_rounded NT
    unset EMBEDDING_COMPRESSOR_MATRIX_UNITS
fi
if [ "$torch" = yes ]; then
    say
    say 'The same work in PyTorch, float32 without TF32, by `benches/gpu_torch.py`:'
    say
    block "$PYTHON" benches/gpu_torch.py
fi
say
say "Training to $DIM_OUT dimensions, end to end with reading and validation, seconds:"
say
training_table() { # of all files and layers
    say '| rows | hidden | epochs | ours | PyTorch | ours reached |'
    say '|---|---|---|---|---|---|'
    for hidden in $HIDDEN; do
        if [ -n "$INPUT" ]; then
            training "$INPUT" "$hidden"
        elif [ -f benches/peers/inputs.py ] && has 'import numpy'; then
            for count in $ROWS; do
                if file=$(rows "$count"); then training "$file" "$hidden"; else failures=$((failures + 1)); fi
            done
        else
            say '| left out: synthetic rows take numpy and benches/peers/inputs.py, or name a file with INPUT | | | | | |'
        fi
    done
}
training_table
if has_units; then
    say
    say 'The same with matrix units:'
    say
    torch=no EMBEDDING_COMPRESSOR_MATRIX_UNITS=1 training_table
fi
{ echo; cat "$report"; } >>"$RESULTS"
echo "appended to $RESULTS; $failures failed" >&2
[ "$failures" = 0 ]
