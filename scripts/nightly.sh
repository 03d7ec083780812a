#!/usr/bin/env bash
# The long tests: those marked #[ignore], in release mode.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
./scripts/setup.sh
cargo test --release -- --ignored
