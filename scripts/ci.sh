#!/usr/bin/env bash
# The checks that take longer than the tests, or need more than cargo: formatting, lints, the wasm build, examples,
# the command line tool from training to resuming, its errors, one benchmark. `.ci/run` runs it after the tests.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

step() { printf '\n== %s\n' "$*"; }
fail() {
    echo "FAILED: $*" >&2
    exit 1
}

step "formatting"
cargo fmt --all -- --check

step "lints"
cargo clippy --all-targets -- -D warnings

step "wasm build, without naga and wgpu-core in its tree"
cargo clippy --target wasm32-unknown-unknown --no-default-features --features web --lib -- -D warnings
cargo build --target wasm32-unknown-unknown --no-default-features --lib
tree=$(cargo tree --target wasm32-unknown-unknown --no-default-features --features web -e normal --prefix none | awk '{print $1}' | sort -u)
if grep -qxE 'naga|wgpu-core|wgpu-hal' <<<"$tree"; then
    fail "the wasm build depends on $(grep -xE 'naga|wgpu-core|wgpu-hal' <<<"$tree" | xargs)"
fi

step "release build"
cargo build --release --examples --bins
wgrad=$(realpath "${CARGO_TARGET_DIR:-target}")/release/wgrad

for file in examples/*.rs; do
    name=$(basename "$file" .rs)
    step "example $name"
    cargo run --release --quiet --example "$name" >"$work/$name.txt" || fail "example $name"
    tail -n 3 "$work/$name.txt"
done

step "devices and explain"
"$wgrad" devices
for model in gpt digits mlp W2 W4; do
    "$wgrad" explain "$model" >"$work/explain.txt"
    echo "$model: $(tail -n 1 "$work/explain.txt")"
done

step "plan"
"$wgrad" plan W4 --svg "$work/memory.svg"
"$wgrad" plan W4 --limits webgpu --memory 32MiB | tail -n 4
"$wgrad" plan W5 --limits webgpu --memory 4GiB | tail -n 4
"$wgrad" plan gpt2-medium --limits desktop | tail -n 1
grep -q 'block.3.mlp.fc/matmul' "$work/memory.svg" || fail "the picture of memory names no tensor"

step "train, as the README has it"
start=$SECONDS
(cd "$work" && "$wgrad" train) | tee "$work/train.txt"
echo "took $((SECONDS - start)) s"
for file in config.toml metrics.jsonl loss.svg best.safetensors checkpoints/step-1600/manifest.json; do
    [[ -s $work/runs/1/$file ]] || fail "the run left no $file"
done
threshold=$(sed -n 's/.*validation loss falls below \([0-9.]*[0-9]\) nats.*/\1/p' README.md)
loss=$(sed -n 's/.*best validation loss \([0-9.]*[0-9]\).*/\1/p' "$work/train.txt")
awk -v loss="${loss:-inf}" -v threshold="${threshold:-0}" 'BEGIN { exit !(loss + 0 < threshold + 0 && loss != "inf") }' ||
    fail "best validation loss ${loss:-unknown}, the README promises less than ${threshold:-a threshold that it does not state}"

step "train on a file, sample, resume"
small=(--layers 1 --heads 2 --width 32 --context 32 --batch 4 --eval-every 5 --set train.warmup=2)
cat src/graph/*.rs >"$work/text.txt"
"$wgrad" train --data "$work/text.txt" --out "$work/run" --steps 10 "${small[@]}" --tensorboard
"$wgrad" sample --run "$work/run" --prompt "fn " --tokens 20 >"$work/first.txt"
"$wgrad" sample --run "$work/run" --prompt "fn " --tokens 20 >"$work/second.txt"
cmp "$work/first.txt" "$work/second.txt" || fail "the same seed gave two different samples"
"$wgrad" train --resume "$work/run" --steps 20
[[ $(wc -l <"$work/run/metrics.jsonl") -eq 20 ]] || fail "metrics.jsonl has $(wc -l <"$work/run/metrics.jsonl") lines after 20 steps"
"$wgrad" debug --run "$work/run" | grep -q 'all fine' || fail "wgrad debug found something in a run that is whole"
compgen -G "$work/run/events.out.tfevents.*" >/dev/null || fail "--tensorboard left no event file"

step "digits, as the README has them"
start=$SECONDS
"$wgrad" train --task digits --out "$work/digits" | tee "$work/digits.txt"
echo "took $((SECONDS - start)) s"
for file in config.toml metrics.jsonl loss.svg accuracy.svg confusion.svg best.safetensors; do
    [[ -s $work/digits/$file ]] || fail "the run left no $file"
done
right=$(sed -n 's/^held out  \([0-9]*\) of 360 right.*/\1/p' "$work/digits.txt")
promised=$(sed -n 's/.*at least \([0-9]*\)% are read right.*/\1/p' README.md)
[[ $((100 * ${right:-0})) -ge $((360 * ${promised:-101})) ]] || fail "${right:-none} of 360 digits were read right, the README promises ${promised:-?}%"
"$wgrad" eval --run "$work/digits" --out "$work/confusion.svg" >"$work/eval.txt"
grep -q '^accuracy' "$work/eval.txt" && [[ -s $work/confusion.svg ]] || fail "wgrad eval: $(cat "$work/eval.txt")"

step "benchmarks"
"$wgrad" bench W1-256 W2 | tee "$work/bench.txt"
[[ $(grep -c '"median_ms":[0-9]' "$work/bench.txt") -eq 2 ]] || fail "a benchmark gave no time"

# refused WORD COMMAND...: exit code 2 and one message that contains the word, no backtrace.
refused() {
    local word=$1 code=0
    shift
    "$wgrad" "$@" >"$work/out.txt" 2>"$work/err.txt" || code=$?
    [[ $code -eq 2 ]] || fail "wgrad $*: exit code $code, expected 2"
    grep -qF -- "$word" "$work/err.txt" || fail "wgrad $*: no '$word' in: $(cat "$work/err.txt")"
    [[ $(grep -c '^error:' "$work/err.txt") -eq 1 ]] || fail "wgrad $*: not one message: $(cat "$work/err.txt")"
    ! grep -qiE 'panicked|backtrace' "$work/err.txt" || fail "wgrad $*: $(cat "$work/err.txt")"
    echo "wgrad $*: $(head -n 1 "$work/err.txt")"
}

step "what cannot be is refused"
cd "$work"
echo 'steps = = 3' >broken.toml
echo 'short' >short.txt
refused 'no-such-file' train --data no-such-file
refused 'short.txt' train --data short.txt
refused 'broken.toml' train --config broken.toml
refused 'train.stepz' train --set train.stepz=3
refused 'train.lr' train --set train.lr=fast
refused '--steps' train --steps 0
refused 'steps' train --step 3
refused 'no-such-adapter' train --adapter no-such-adapter
refused 'no-such-run' train --resume no-such-run
refused 'no-such-run' sample --run no-such-run
refused 'no-such-run' debug --run no-such-run
refused 'run' train --out run
refused 'data DIR' train --task images
refused 'no such folder' train --task images --data no-such-folder
refused 'subfolder' train --task images --data run
refused 'digits' train --task numbers
refused 'no use' train --task digits --heads 2
refused 'wgrad predict' sample --run digits
refused 'wgrad sample' predict --run run picture.png
refused 'no-such.png' predict --run digits no-such.png
refused 'no classes' eval --run run --out matrix.svg
refused 'W1-512' bench W9
refused 'possible values' explain resnet
refused 'largest tensor' plan W4 --limits webgpu --memory 8MiB
refused 'no amount of memory' plan W4 --memory lots

printf '\nall checks passed\n'
