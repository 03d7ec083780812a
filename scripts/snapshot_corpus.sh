#!/usr/bin/env bash
# Writes src/io/corpus.txt: the text that `wgrad train` learns when no --data is given.
#
# It is the crate's own Rust and WGSL sources in sorted order, each under a line that names it. A
# snapshot, not a build step: training on it must not change because a comment in the crate did.
set -euo pipefail
export LC_ALL=C
cd "$(dirname "$0")/.."
out=src/io/corpus.txt
find src shaders -type f \( -path 'src/*.rs' -o -path 'shaders/*.wgsl' \) ! -path "$out" | sort | while IFS= read -r file; do
  printf '// ==== %s\n' "$file"
  cat "$file"
done >"$out.new"
mv "$out.new" "$out"
wc -c "$out"
