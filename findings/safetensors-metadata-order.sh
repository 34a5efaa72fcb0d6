#!/usr/bin/env bash
# safetensors 0.8.0 (Python): with two or more entries of metadata, equal tensors and equal metadata
# give different files from one call to the next, since the entries are written in the order of a hash
# map with a random seed. With one entry the bytes are the same each time.
# A good guess: that a format made to be simple and safe is written the same way twice, so that a
# checksum tells whether two states are equal.
# The way out: one entry at most, or the rest as one JSON text in it.
# Seen on 2026-11-30, different files of 64: one entry 1, two entries 2.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install numpy==2.3.5 safetensors==0.8.0
"$folder/venv/bin/python" - <<'PY' | tee "$folder/seen"
import numpy as np
from safetensors.numpy import save

tensors = {"w": np.zeros(3, np.float32)}
for name, metadata in [
    ("one entry", {"format": "pt"}),
    ("two entries", {"format": "pt", "step": "3"}),
]:
    print(f"{name}: {len({save(tensors, metadata) for _ in range(64)})}")
PY
diff "$folder/seen" - <<'END'
one entry: 1
two entries: 2
END
