#!/usr/bin/env bash
# The long tests: those marked #[ignore], in release mode, and a minute of fuzzing for each parser.
set -euo pipefail
cd "$(dirname "$0")/.."
source scripts/environment.sh
./scripts/setup.sh
# What cannot run is a failure, in a browser too.
WGRAD_BROWSER=${WGRAD_BROWSER:-required} cargo test --release -- --ignored
./scripts/fuzz.sh 60
