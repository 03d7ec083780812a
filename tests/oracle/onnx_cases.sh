#!/usr/bin/env bash
# Writes the cases of the ONNX node suite to target/onnx-cases (or the folder given), where the tests look for them.
#
# PyPI's onnx 1.23.2 no longer ships them as files but still makes them; about 1,900 cases, 60 MB, ten seconds. The
# package goes into a virtual environment beside the cases. Where both are there already, nothing happens.
set -euo pipefail
cd "$(dirname "$0")/../.."
target=${CARGO_TARGET_DIR:-target}
cases=${1:-$target/onnx-cases}
venv=$target/onnx-venv
stamp="onnx 1.23.2, script $(cksum <tests/oracle/export_onnx_nodes.py)"

if [[ -s $cases/manifest.json && $(cat "$cases/stamp" 2>/dev/null) == "$stamp" ]]; then
    echo "the ONNX node suite is in $cases"
    exit 0
fi

python=${PYTHON:-python3}
if ! "$python" -c 'import onnx, sys; sys.exit(onnx.__version__ != "1.23.2")' 2>/dev/null; then
    [[ -x $venv/bin/python ]] || "$python" -m venv "$venv"
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check onnx==1.23.2 numpy
    python=$venv/bin/python
fi
rm -rf "$cases"
mkdir -p "$cases"
OMP_NUM_THREADS=1 "$python" tests/oracle/export_onnx_nodes.py "$cases"
light=$("$python" -c 'import onnx, os; print(os.path.join(os.path.dirname(onnx.__file__), "backend/test/data"))')
cp -r "$light/light" "$light/simple" "$cases/"
echo "$stamp" >"$cases/stamp"
