"""torch.optim on given gradients: called as optimizers.py GIVEN.npz MADE.npz.

`NAME/parameter/P` is where parameter P starts and `NAME/gradient/P/T` its gradient at step T, for
each optimizer NAME; what the parameters are after the last step is written as `NAME/P`.
"""

import sys

import numpy as np
import torch


class Lamb(torch.optim.Optimizer):
    """You et al. 2020, <https://arxiv.org/abs/1904.00962>, with the ratio clamped to [0.01, 10]."""

    def __init__(self, parameters, lr, betas, eps, weight_decay):
        super().__init__(parameters, dict(lr=lr, betas=betas, eps=eps, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for w in group["params"]:
                if w.grad is None:
                    continue
                state = self.state[w]
                t = state["t"] = state.get("t", 0) + 1
                m = state["m"] = beta1 * state.get("m", 0) + (1 - beta1) * w.grad
                v = state["v"] = beta2 * state.get("v", 0) + (1 - beta2) * w.grad**2
                u = (m / (1 - beta1**t)) / ((v / (1 - beta2**t)).sqrt() + group["eps"])
                u = u + group["weight_decay"] * w
                norms = w.norm(), u.norm()
                ratio = (norms[0] / norms[1]).clamp(0.01, 10) if all(n > 0 for n in norms) else 1
                w -= group["lr"] * ratio * u


makers = {
    "lamb": lambda p: Lamb(p, lr=1e-2, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01),
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
