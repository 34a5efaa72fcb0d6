#!/usr/bin/env bash
# ml_dtypes 0.5.4 with numpy 2.3.5: `numpy.save` takes arrays of every short float that ml_dtypes adds,
# and the file has lost the type. bfloat16 comes back as bytes (`|V2`), float8_e4m3fn as `|V1`;
# float8_e5m2 is written as `<f1`, a type that numpy does not have, so that numpy cannot read its own
# file.
# A good guess: that saving fails, or that what was saved can be loaded with ml_dtypes imported.
# Seen on 2026-11-30:
#   bfloat16: |V2
#   float8_e4m3fn: |V1
#   int4: |V1
#   float8_e5m2: ValueError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install numpy==2.3.5 ml_dtypes==0.5.4
"$folder/venv/bin/python" - <<'PY' | tee "$folder/seen"
import io
import ml_dtypes
import numpy as np

for name in ["bfloat16", "float8_e4m3fn", "int4", "float8_e5m2"]:
    file = io.BytesIO()
    np.save(file, np.ones(3, getattr(ml_dtypes, name)))
    file.seek(0)
    try:
        print(f"{name}: {np.load(file).dtype}")
    except ValueError as error:
        print(f"{name}: {type(error).__name__}")
PY
diff "$folder/seen" - <<'END'
bfloat16: |V2
float8_e4m3fn: |V1
int4: |V1
float8_e5m2: ValueError
END
