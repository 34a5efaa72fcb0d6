#!/usr/bin/env bash
# PyTorch 2.11.0 on a CPU: where a large negative number (-1e9, or float32's smallest, as transformers'
# masks have it) masks all keys of a query, `scaled_dot_product_attention` returns the right output, the
# mean over the values, and wrong gradients: those of that query are as many times too large as there
# are keys, and with them the gradients of keys and values. Nothing is said. The same three operations
# written out are right.
# The likely reason: the kernel keeps the logarithm of the sum of exponentials for its backward, and
# beside -1e9 the logarithm of 70 is lost in float32.
# A good guess: that a row without anything to attend to gives NaN or zeros, or that a right output has
# right gradients. Left-padded batches of decoders have such rows.
# Seen on 2026-11-30, gradient of the masked query against the operations written out, 70 keys:
#   mask -1e+09: output off by less than 1e-5, gradient 70.0 times as large
#   mask -3.4e+38: output off by less than 1e-5, gradient 70.0 times as large
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install torch==2.11.0
"$folder/venv/bin/python" - 2>/dev/null <<'PY' | tee "$folder/seen"
import torch
import torch.nn.functional as F

torch.manual_seed(0)
keys = 70
for fill in [-1e9, torch.finfo(torch.float32).min]:
    q, k, v = (torch.randn(1, 1, keys, 16, requires_grad=True) for _ in range(3))
    upstream = torch.randn(1, 1, keys, 16)
    mask = torch.zeros(keys, keys)
    mask[3] = fill
    ways = [
        lambda: F.scaled_dot_product_attention(q, k, v, mask),
        lambda: (q @ k.transpose(-1, -2) / 4 + mask).softmax(-1) @ v,
    ]
    outputs, gradients = [], []
    for way in ways:
        q.grad = k.grad = v.grad = None
        outputs.append(way())
        outputs[-1].backward(upstream)
        gradients.append(q.grad[0, 0, 3].norm().item())
    near = "less than 1e-5" if (outputs[0] - outputs[1]).abs().max() < 1e-5 else "more"
    print(f"mask {fill:.2g}: output off by {near}, gradient {gradients[0] / gradients[1]:.1f} times as large")
PY
diff "$folder/seen" - <<'END'
mask -1e+09: output off by less than 1e-5, gradient 70.0 times as large
mask -3.4e+38: output off by less than 1e-5, gradient 70.0 times as large
END
