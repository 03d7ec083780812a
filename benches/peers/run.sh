#!/usr/bin/env bash
# Runs every peer that is set up (README.md, "Set-up") and appends to results.jsonl.
#
# usage: run.sh [PEER...]        peers: wgrad wgrad-web torch burn meganeura tfjs jaxjs tinygrad (default: all but wgrad's)
# environment:
#   WORKLOADS   default "W1-256 W1-512 W1-1024 W2 W3 W4"
#   GPU=1       a real GPU: adds W5, the CUDA and bf16/tf32 variants, Chromium's default adapter
#   TIMEOUT_S   per workload, default 900
#   PEERS_DIR   where the set-up put its products, default ~/.cache/wgrad-peers
#   OUT         default results.jsonl beside this script
set -u
here=$(cd "$(dirname "$0")" && pwd)
dir=${PEERS_DIR:-$HOME/.cache/wgrad-peers}
out=${OUT:-$here/results.jsonl}
loads=${WORKLOADS:-W1-256 W1-512 W1-1024 W2 W3 W4}
[[ -n ${GPU:-} ]] && loads="$loads W5"
limit=${TIMEOUT_S:-900}
peers=${*:-torch burn meganeura tfjs jaxjs tinygrad}

# one LABEL COMMAND...: runs it in an empty directory (so that no cache of an earlier run is
# found), adds date and 1-minute load to its JSON line, appends it.
one() {
  local label=$1 tmp line load
  shift
  tmp=$(mktemp -d)
  read -r load _ </proc/loadavg
  echo "== $label (load $load)" >&2
  # cubecl keeps its autotune and kernel caches where this file says; other peers ignore it.
  printf '[environment]\npath = "local"\n' >"$tmp/cubecl.toml"
  line=$(cd "$tmp" && XDG_RUNTIME_DIR=$tmp HOME=$tmp XDG_CACHE_HOME=$tmp/cache TORCHINDUCTOR_CACHE_DIR=$tmp/inductor \
    timeout -k 10 "$limit" "$@" 2>"$tmp/stderr" | tail -n 1)
  if [[ $line != \{*\} ]]; then
    line="{\"peer\": \"${label% *}\", \"workload\": \"${label##* }\", \"median_ms\": null, \"note\": \"FAILED: no result within $limit s or crashed\"}"
    tail -n 5 "$tmp/stderr" >&2
  fi
  line="${line%\}}, \"date\": \"$(date -u +%FT%TZ)\", \"load\": $load}"
  echo "$line" | tee -a "$out"
  rm -rf "$tmp"
}

for peer in $peers; do
  for w in $loads; do
    case $peer in
    wgrad)
      bin=${WGRAD:-$here/../../target/release/wgrad}
      [[ -x $bin ]] || { echo "wgrad: build it with cargo build --release, or set WGRAD" >&2; break; }
      [[ $w == W5 ]] && continue
      one "wgrad $w" "$bin" bench "$w"
      ;;
    torch)
      py=${TORCH_PY:-$dir-venv/bin/python}
      [[ -x $py ]] || { echo "torch: not set up" >&2; break; }
      if [[ -n ${GPU:-} ]]; then
        one "torch-eager $w" "$py" "$here/torch_bench.py" --workload "$w" --device cuda
        one "torch-eager-tf32 $w" "$py" "$here/torch_bench.py" --workload "$w" --device cuda --dtype tf32
        one "torch-eager-bf16 $w" "$py" "$here/torch_bench.py" --workload "$w" --device cuda --dtype bf16
        [[ $w == W1* ]] || one "torch-compile-bf16 $w" "$py" "$here/torch_bench.py" --workload "$w" --device cuda --dtype bf16 --mode compile
        [[ $w == W1* ]] || one "torch-compile $w" "$py" "$here/torch_bench.py" --workload "$w" --device cuda --mode compile
      else
        one "torch-eager $w" "$py" "$here/torch_bench.py" --workload "$w"
        [[ $w == W1* ]] || one "torch-compile $w" "$py" "$here/torch_bench.py" --workload "$w" --mode compile
      fi
      ;;
    burn)
      found=
      for v in fusion plain vulkan; do
        bin=$dir/burn-$v
        [[ -x $bin ]] || continue
        found=1
        one "burn-$v $w" "$bin" "$w"
        [[ $v == fusion && $w != W1* ]] && one "burn-unfused $w" env BURN_FUSION_MAX_EXPLORATIONS=0 "$bin" "$w"
      done
      [[ -n $found ]] || { echo "burn: not set up" >&2; break; }
      ;;
    meganeura)
      bin=$dir/meganeura
      [[ -x $bin ]] || { echo "meganeura: not set up" >&2; break; }
      extra=()
      # a step takes half a minute on a software adapter: fewer of them.
      [[ -z ${GPU:-} && $w == W4 ]] && extra=(--warmup 1 --steps 3)
      one "meganeura-vulkan $w" "$bin" "$w" "${extra[@]}"
      [[ -n ${GPU:-} ]] && one "meganeura-vulkan-coop $w" "$bin" "$w" --coop
      ;;
    tfjs | jaxjs)
      [[ -d $dir/web/node_modules ]] || { echo "$peer: not set up" >&2; break; }
      [[ $w == W5 ]] && continue
      extra=()
      # tfjs on a software adapter needs minutes for one sample of these: fewer of them.
      [[ -z ${GPU:-} && $peer$w == tfjsW1-512 ]] && extra=(--warmup 1 --steps 5 --chain 1)
      [[ -z ${GPU:-} && $peer$w == tfjsW1-1024 ]] && extra=(--warmup 1 --steps 3 --chain 1)
      [[ -z ${GPU:-} && $peer$w == tfjsW4 ]] && extra=(--warmup 1 --steps 3)
      [[ -n ${GPU:-} ]] && export WEBGPU_ADAPTER=${WEBGPU_ADAPTER:-default}
      one "$peer-webgpu $w" env PEERS_WEB="$dir/web" TIMEOUT_S=$((limit - 30)) node "$here/web-bench/bench.mjs" "$peer" "$w" "${extra[@]}"
      ;;
    wgrad-web)
      [[ -d $dir/web/node_modules ]] || { echo "$peer: the web peers are not set up" >&2; break; }
      [[ -f $here/../../web/dist/index.js ]] || { echo "$peer: build it with web/build.sh" >&2; break; }
      [[ $w == W5 ]] && continue
      [[ -n ${GPU:-} ]] && export WEBGPU_ADAPTER=${WEBGPU_ADAPTER:-default}
      one "wgrad-webgpu $w" env PEERS_WEB="$dir/web" TIMEOUT_S=$((limit - 30)) node "$here/web-bench/bench.mjs" wgrad "$w"
      ;;
    tinygrad)
      py=${TINYGRAD_PY:-$dir-tg-venv/bin/python}
      [[ -x $py ]] || { echo "tinygrad: not set up" >&2; break; }
      [[ $w == W5 ]] && continue
      one "tinygrad-webgpu $w" "$py" "$here/tinygrad_bench.py" --workload "$w" --dev WEBGPU
      ;;
    *) echo "no such peer: $peer" >&2; break ;;
    esac
  done
done
