"""torch.optim on given gradients: called as optimizers.py GIVEN.npz MADE.npz.

`NAME/parameter/P` is where parameter P starts and `NAME/gradient/P/T` its gradient at step T, for
each optimizer NAME; what the parameters are after the last step is written as `NAME/P`.
"""

import sys

import numpy as np
import torch

makers = {
    "adamw": lambda p: torch.optim.AdamW(p, lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "adam_l2": lambda p: torch.optim.Adam(p, lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    "sgd": lambda p: torch.optim.SGD(p, lr=1e-1, weight_decay=0.01),
    "momentum": lambda p: torch.optim.SGD(p, lr=1e-1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p, lr=1e-1, momentum=0.9, nesterov=True),
}

given = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[1]).items()}
made = {}
for name, make in makers.items():
    prefix = f"{name}/parameter/"
    parameters = {n.removeprefix(prefix): t.clone() for n, t in given.items() if n.startswith(prefix)}
    optimizer = make(list(parameters.values()))
    steps = 1 + max(int(n.rsplit("/", 1)[1]) for n in given if n.startswith(f"{name}/gradient/"))
    for step in range(steps):
        for p, tensor in parameters.items():
            tensor.grad = given.get(f"{name}/gradient/{p}/{step}")
        optimizer.step()
    made.update({f"{name}/{p}": tensor.numpy() for p, tensor in parameters.items()})
np.savez(sys.argv[2], **made)
