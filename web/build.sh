#!/usr/bin/env bash
# Builds the package: the program with wasm-bindgen's glue in web/pkg, and what is published in web/dist. Fails if it is larger
# than its budget (size.mjs). Needs node 20 with npm, Rust's wasm32-unknown-unknown target and the source of its standard library
# (component rust-src, added if it is not there), and wasm-bindgen's command line tool in the version of the crate, which is
# installed under target/ if it is not there.
set -euo pipefail
cd "$(dirname "$0")/.."
source web/tools.sh
# Paths in messages say nothing of the machine that built the package, and take less room.
flags="${RUSTFLAGS:-} --remap-path-prefix=${CARGO_HOME:-$HOME/.cargo}/registry/src/= --remap-path-prefix=$PWD/="
[[ -d $(rustc --print sysroot)/lib/rustlib/src/rust/library ]] || rustup component add rust-src
# No page can ask for budgets of memory, norms, watched values or loops over time: without them (`cfg!(page)`) the program is smaller.
flags="$flags --cfg page"
# The standard library is compiled with the program, without the texts of panics, which a page could not show
# (docs/decisions/web-size.md), and under short names, which the glue repeats. Stable Rust has no other way to say so.
RUSTC_BOOTSTRAP=1 RUSTFLAGS="$flags -Zunstable-options -Cpanic=immediate-abort -Zlocation-detail=none -Csymbol-mangling-version=legacy" cargo rustc -Zbuild-std=std,panic_abort -Zbuild-std-features=optimize_for_size --quiet --lib --crate-type cdylib --profile web --target wasm32-unknown-unknown --no-default-features --features web
"$bindgen" --target web --remove-name-section --remove-producers-section --out-dir web/pkg "${CARGO_TARGET_DIR:-target}/wasm32-unknown-unknown/web/wgrad.wasm"
cd web
[[ -d node_modules ]] || npm ci --silent --no-audit --no-fund
node bundle.mjs
node size.mjs
