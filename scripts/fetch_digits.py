#!/usr/bin/env python3
"""Writes data/digits.bin: the handwritten digits that `wgrad train --task digits` learns.

    python3 scripts/fetch_digits.py [digits.csv.gz]

Without an argument, the file comes out of the scikit-learn package, which pip downloads and nothing installs.
The source, its licence and the layout of the result are in data/README.md; src/io/digits.rs reads it.
Only Python's standard library is used, so the same bytes come out everywhere.
"""

import gzip
import hashlib
import pathlib
import subprocess
import sys
import tempfile
import zipfile

PACKAGE = "scikit-learn==1.9.1"
MEMBER = "sklearn/datasets/data/digits.csv.gz"
# Of the text inside: the package may be packed anew, the digits stay what they are.
SHA256 = "6ebb3d2fee246a4e99363262ddf8a00a3c41bee6014c373ed9d9216ba7f651b8"
TARGET = pathlib.Path(__file__).parent.parent / "data" / "digits.bin"


def download():
    """The packed digits out of the package on PyPI."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
        subprocess.run([*command, "--dest", folder, PACKAGE], check=True)
        (wheel,) = pathlib.Path(folder).glob("*.whl")
        return zipfile.ZipFile(wheel).read(MEMBER)


def pack(pixels):
    """Eight values of five bits in five bytes, the first value lowest."""
    packed = bytearray()
    for start in range(0, 64, 8):
        word = sum(value << 5 * place for place, value in enumerate(pixels[start : start + 8]))
        packed += word.to_bytes(5, "little")
    return packed


def main():
    text = gzip.decompress(pathlib.Path(sys.argv[1]).read_bytes() if len(sys.argv) > 1 else download())
    if hashlib.sha256(text).hexdigest() != SHA256:
        sys.exit("these are not the digits of " + PACKAGE)
    rows = [[int(value) for value in line.split(",")] for line in text.decode().split()]
    assert len(rows) == 1797 and all(len(row) == 65 and max(row[:64]) <= 16 and row[64] <= 9 for row in rows)
    # The split: a shuffle that is the same in any language. The first 1,437 are trained on, the last 360 tested.
    order = sorted(range(len(rows)), key=lambda number: hashlib.sha256(b"digit %d" % number).digest())
    TARGET.write_bytes(b"".join(bytes([rows[number][64]]) + pack(rows[number]) for number in order))
    print(f"{TARGET}: {TARGET.stat().st_size} bytes, sha256 {hashlib.sha256(TARGET.read_bytes()).hexdigest()}")


if __name__ == "__main__":
    main()
