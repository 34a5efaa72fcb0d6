#!/usr/bin/env bash
# safetensors 0.8.0 (Python, with numpy 2.3.5): `safetensors.numpy.save` and `save_file` write an
# array's memory from its first element on and ignore its strides. A transposed, Fortran-ordered,
# sliced or stepped array comes back with other values, and nothing is said. 0.7.0 is right.
# A good guess: that the library copies, or refuses as its PyTorch writer does.
# The way out: numpy.ascontiguousarray before saving.
# Seen on 2026-11-30:
#   0.7.0: transposed right, fortran right, column right, stepped right
#   0.8.0: transposed wrong, fortran wrong, column wrong, stepped wrong
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
seen() {
    "$folder/venv/bin/pip" -q install numpy==2.3.5 "safetensors==$1"
    "$folder/venv/bin/python" - "$1" <<'PY'
import sys
import numpy as np
from safetensors.numpy import load, save

square = np.arange(6, dtype=np.float32).reshape(2, 3)
arrays = {
    "transposed": square.T,
    "fortran": np.asfortranarray(square),
    "column": square[:, 1],
    "stepped": np.arange(12, dtype=np.float32)[::2],
}
verdicts = []
for name, array in arrays.items():
    same = np.array_equal(load(save({"w": array}))["w"], array)
    verdicts.append(f"{name} {'right' if same else 'wrong'}")
print(f"{sys.argv[1]}: {', '.join(verdicts)}")
PY
}
{ seen 0.7.0; seen 0.8.0; } | tee "$folder/seen"
diff "$folder/seen" - <<'END'
0.7.0: transposed right, fortran right, column right, stepped right
0.8.0: transposed wrong, fortran wrong, column wrong, stepped wrong
END
