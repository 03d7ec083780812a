#!/usr/bin/env bash
# Builds what rows.mjs and kernels.mjs run in a page (tests/in_browser) into web/test/pkg. It is no part of the package.
set -euo pipefail
cd "$(dirname "$0")/../.."
source web/tools.sh
cargo build --quiet --example in_browser --target wasm32-unknown-unknown --no-default-features --features web
"$bindgen" --target web --no-typescript --out-dir web/test/pkg "${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/debug/examples/in_browser.wasm"
