# To be sourced in the repository's root: sets `bindgen` to wasm-bindgen's command line tool in the version of the crate, which is
# installed under target/ if it is not there.
version=$(sed -n 's/^wasm-bindgen = { version = "=\([0-9.]*\)".*/\1/p' Cargo.toml)
bindgen=${WASM_BINDGEN:-wasm-bindgen}
if [[ $("$bindgen" --version 2>/dev/null) != "wasm-bindgen $version" ]]; then
    bindgen=$PWD/target/tools/bin/wasm-bindgen
    [[ $("$bindgen" --version 2>/dev/null) == "wasm-bindgen $version" ]] ||
        cargo install --quiet wasm-bindgen-cli --version "$version" --root target/tools
fi
