# `just` lists these. The rules themselves live in `cargo test` and scripts/.

default:
    @just --list

# Trains the GPT on the embedded sources.
train *flags:
    ./scripts/setup.sh && cargo run --release -- train {{flags}}

# Runs all tests.
test *filter:
    ./scripts/setup.sh && cargo test {{filter}}

# Formatting, lints, wasm, examples, command line: what comes after the tests.
ci:
    ./scripts/ci.sh

# The long tests.
nightly:
    ./scripts/nightly.sh

# Rewrites golden texts (shaders, docs/one-step.md); read the difference.
bless:
    WGRAD_BLESS=1 cargo test

# Formats and lints.
lint:
    cargo fmt --all && cargo clippy --all-targets -- -D warnings

# Builds the library for browsers.
wasm:
    cargo build --target wasm32-unknown-unknown --no-default-features --lib

# Standard workloads, one JSON line each.
bench *workloads="W1-512 W2 W4":
    cargo run --release -- bench {{workloads}}

# The library's documentation.
doc:
    cargo doc --no-deps --open
