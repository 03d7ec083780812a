#!/usr/bin/env bash
# All that docs/performance.md asks of a real GPU, in one go: roofs, workloads, the choice of kernels, correctness, and the
# peers that are set up. Writes OUT/results.jsonl (a line a measurement), OUT/*.log and OUT/summary.md, and says what it
# skipped.
#
# usage: gpu.sh [--small]
#   --small     small sizes and few steps: to see that this script works, on a software adapter too
# environment:
#   WGRAD          the program, default ../target/release/wgrad (cargo build --release)
#   WGRAD_TESTS    the binary of the integration tests, which then run on the adapter
#                  (cargo test --release --test all --no-run prints its path)
#   WGRAD_ADAPTER  a part of the adapter's name, or its index
#   TORCH_PY       a Python with PyTorch, default python3
#   PEERS_DIR      where burn-fusion, burn-vulkan and meganeura lie, default ~/.cache/wgrad-peers
#   OUT            default gpu-results
#   TIMEOUT_S      for each measurement, default 600 (--small: 300)
set -u
here=$(cd "$(dirname "$0")" && pwd)
small=
[[ ${1:-} == --small ]] && small=1
wgrad=${WGRAD:-$here/../target/release/wgrad}
peers=${PEERS_DIR:-$HOME/.cache/wgrad-peers}
python=${TORCH_PY:-python3}
out=${OUT:-gpu-results}
limit=${TIMEOUT_S:-$([[ $small ]] && echo 300 || echo 600)}
[[ -x $wgrad ]] || { echo "there is no program at $wgrad: cargo build --release, or set WGRAD" >&2; exit 2; }
mkdir -p "$out" && out=$(cd "$out" && pwd) || exit 2
results=$out/results.jsonl
: >"$results"
: >"$out/skipped"

skip() {
  echo "skipped: $1"
  echo "- $1" >>"$out/skipped"
}

# run NAME COMMAND...: its output in OUT/NAME.log, its lines of JSON in the results; what fails is said and does not stop.
run() {
  local name=$1 code
  shift
  echo "== $name: $*"
  timeout -k 10 "$limit" "$@" >"$out/$name.log" 2>"$out/$name.err"
  code=$?
  grep '^{' "$out/$name.log" >>"$results"
  if ((code != 0)); then
    skip "$name: exit code $code; $(cat "$out/$name.err" "$out/$name.log" | grep -m 1 -io 'error.*\|FAILED[^"]*')"
  fi
  return "$code"
}

if [[ $small ]]; then
  square=W1-256 trainings="W2 W4" few=(--warmup 1 --steps 2) halves=(W4)
else
  square=W1-4096 trainings="W2 W3 W4 W5" few=() halves=(W4 W5)
fi

"$wgrad" devices | tee "$out/devices.log"
run roof "$wgrad" roof --json
run square-f32 "$wgrad" bench "$square" "${few[@]}"
run square-f16 "$wgrad" bench "$square" --precision f16 "${few[@]}"
for workload in $trainings; do
  run "$workload-f32" "$wgrad" bench "$workload" "${few[@]}"
done
for workload in "${halves[@]}"; do
  run "$workload-f16" "$wgrad" bench "$workload" --precision f16 "${few[@]}"
  run "$workload-bf16" "$wgrad" bench "$workload" --precision bf16 "${few[@]}"
done
run host "$wgrad" bench W4 --host
if [[ $small ]]; then
  run tune-check "$wgrad" tune --check --largest 1
  skip "larger products in tune --check, the profile of W5, measured kernels: small run"
else
  run tune-check "$wgrad" tune --check
  run tune "$wgrad" tune W4 W5
  run tune-f16 "$wgrad" tune "$square" W4 W5 --precision f16
  run square-f16-tuned "$wgrad" bench "$square" --precision f16 --tuned
  run W4-f16-tuned "$wgrad" bench W4 --precision f16 --tuned
  run W5-f16-tuned "$wgrad" bench W5 --precision f16 --tuned
  run W5-f16-tuned-profile "$wgrad" bench W5 --precision f16 --tuned --profile
  run W5-profile "$wgrad" bench W5 --precision f16 --profile --roofline "$out/W5.svg" --trace "$out/W5.trace.json"
fi

if [[ -x ${WGRAD_TESTS:-} ]]; then
  tests=(golden:: flash::)
  [[ $small ]] || tests+=(ops:: uniformity:: tuning:: precision:: halves::)
  run tests "$WGRAD_TESTS" "${tests[@]}"
  tail -n 3 "$out/tests.log"
else
  skip "correctness on the adapter: WGRAD_TESTS is not set"
fi

cuda=$("$python" -c 'import torch; print(torch.cuda.is_available())' 2>/dev/null || echo none)
if [[ $cuda == none ]]; then
  skip "PyTorch: $python does not have it"
elif [[ $cuda != True && ! $small ]]; then
  skip "PyTorch: it sees no CUDA device"
else
  device=$([[ $cuda == True ]] && echo cuda || echo cpu)
  run torch-square "$python" "$here/peers/torch_bench.py" --workload "$square" --device "$device"
  if [[ $device == cuda ]]; then
    for dtype in f16 bf16; do
      run "torch-square-$dtype" "$python" "$here/peers/torch_bench.py" --workload "$square" --device cuda --dtype "$dtype"
    done
    for workload in W4 W5; do
      run "torch-$workload" "$python" "$here/peers/torch_bench.py" --workload "$workload" --device cuda
      run "torch-$workload-bf16" "$python" "$here/peers/torch_bench.py" --workload "$workload" --device cuda --dtype bf16
    done
  fi
fi

for peer in burn-fusion burn-plain burn-vulkan meganeura; do
  if [[ ! -x $peers/$peer ]]; then
    skip "$peer: not in $peers"
    continue
  fi
  if [[ $small ]]; then
    run "$peer-W2" "$peers/$peer" W2
    continue
  fi
  for workload in "$square" W4 W5; do
    run "$peer-$workload" "$peers/$peer" "$workload"
  done
  [[ $peer == meganeura ]] && run "$peer-W5-coop" "$peers/$peer" W5 --coop
done

# field LINE NAME: a number or a string of a flat line of JSON.
field() { sed -n "s/.*\"$2\": *\"\{0,1\}\([^,\"}]*\)\"\{0,1\}.*/\1/p" <<<"$1"; }
{
  echo "# $("$wgrad" --version), $(date -u +%F)"
  echo
  sed 's/^/    /' "$out/devices.log"
  echo
  roof=$(field "$(grep '"gflops"' "$out/roof.log")" gflops)
  echo "Roof: $([[ $roof ]] && printf '%.1f' "$roof" || echo 'not measured,') GFLOP/s in f32 (\`wgrad roof\`)."
  echo
  echo "| program | workload | median ms | least ms | GFLOP/s | of the roof | tokens/s | note |"
  echo "|---|---|---|---|---|---|---|---|"
  grep '"median_ms": *[0-9]' "$results" | while read -r line; do
    flops=$(field "$line" gflops)
    part=$([[ $flops && $roof ]] && awk "BEGIN { printf \"%.0f %%\", 100 * $flops / $roof }")
    note=$(sed -n 's/.*"note": *"\([^"]*\)".*/\1/p' <<<"$line")
    echo "| $(field "$line" peer) | $(field "$line" workload) | $(field "$line" median_ms) | $(field "$line" min_ms) | $flops | $part | $(field "$line" tokens_s) | $note |"
  done
  echo
  grep '"thread_us"' "$results" | while read -r line; do
    echo "Host: $(field "$line" thread_us) us of processor time a dispatch on $(field "$line" adapter), $(field "$line" submit_us) us to submit."
  done
  [[ -f $out/tune-check.log ]] && tail -n 1 "$out/tune-check.log"
  [[ -f $out/tune-f16.log ]] && grep '^matrix units' "$out/tune-f16.log"
  [[ -f $out/tests.log ]] && grep '^test result' "$out/tests.log"
  echo
  echo "Not measured:"
  echo
  cat "$out/skipped"
} >"$out/summary.md"
cat "$out/summary.md"
