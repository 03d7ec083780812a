#!/usr/bin/env bash
# Fuzzes every parser of untrusted files for some seconds each (60), beginning with the kept corpus; TARGET chooses one.
# What it finds lies in fuzz/artifacts. Needs a nightly toolchain and cargo-fuzz.
#
#   scripts/fuzz.sh [SECONDS] [TARGET]
set -euo pipefail
cd "$(dirname "$0")/.."
if ! cargo fuzz --version >/dev/null 2>&1 || ! rustc +nightly --version >/dev/null 2>&1; then
    echo "SKIPPED: fuzzing needs \`rustup toolchain install nightly --profile minimal\` and \`cargo install cargo-fuzz\`"
    exit 0
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for target in ${2:-$(ls fuzz/corpus)}; do
    # What is found to be new goes beside the kept corpus, not into it.
    mkdir "$work/$target"
    # The readers are safe Rust, in which a sanitizer finds nothing that a panic does not show.
    cargo +nightly fuzz run --sanitizer none "$target" "$work/$target" "fuzz/corpus/$target" -- \
        -max_total_time="${1:-60}" -timeout=10 -rss_limit_mb=4096 -print_final_stats=1 2>&1 |
        grep -E '^(==|SUMMARY|Test unit|thread|stat::number_of_executed_units|Done)' | sed "s/^/$target: /"
done
