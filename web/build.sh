#!/usr/bin/env bash
# Builds the package: web/pkg/wgrad.js with its types, and wgrad_bg.wasm. Needs Rust's wasm32-unknown-unknown target, and
# wasm-bindgen's command line tool in the version of the crate, which is installed under target/ if it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
version=$(sed -n 's/^wasm-bindgen = { version = "=\([0-9.]*\)".*/\1/p' Cargo.toml)
tool=${WASM_BINDGEN:-wasm-bindgen}
if [[ $("$tool" --version 2>/dev/null) != "wasm-bindgen $version" ]]; then
    tool=$PWD/target/tools/bin/wasm-bindgen
    [[ $("$tool" --version 2>/dev/null) == "wasm-bindgen $version" ]] ||
        cargo install --quiet wasm-bindgen-cli --version "$version" --root target/tools
fi
cargo rustc --quiet --lib --crate-type cdylib --profile web --target wasm32-unknown-unknown --no-default-features --features web
"$tool" --target web --remove-name-section --remove-producers-section --out-dir web/pkg "${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/web/wgrad.wasm"
bytes=$(wc -c <web/pkg/wgrad_bg.wasm)
echo "web/pkg: $((bytes / 1024)) KiB of wasm, $(gzip -9 -c web/pkg/wgrad_bg.wasm | wc -c | awk '{print int($1 / 1024)}') KiB with gzip"
