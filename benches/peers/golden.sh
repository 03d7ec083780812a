#!/usr/bin/env bash
# Writes tests/golden/losses.json (or the file given): the losses of W2, W3, W4 in float64 by PyTorch, seeds 0 to 2, and how far its float32 lies from them.
set -eu
out=$(realpath -m "${1:-$(dirname "$0")/../../tests/golden/losses.json}")
cd "$(dirname "$0")"
py=${TORCH_PY:-${PEERS_DIR:-$HOME/.cache/wgrad-peers}-venv/bin/python}
{
  echo '{'
  sep=
  for w in W2:25 W3:25 W4:20; do for s in 0 1 2; do for d in f64 f32; do
    printf '%s"%s/seed%s/%s": ' "$sep" "${w%:*}" $s $d
    "$py" torch_bench.py --workload "${w%:*}" --warmup 1 --steps $((${w#*:} - 1)) --seed $s --dtype $d --losses --threads 1
    sep=','
  done; done; done
  echo '}'
} >"$out.new"
mv "$out.new" "$out"
