"""torch.optim on given gradients: called as optimizers.py GIVEN.npz MADE.npz.

`NAME/parameter/P` is where parameter P starts and `NAME/gradient/P/T` its gradient at step T, for
each optimizer NAME; what the parameters are after the last step is written as `NAME/P`. What torch.optim
lacks is written down here.
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


class Lion(torch.optim.Optimizer):
    """Chen et al. 2023, <https://arxiv.org/abs/2302.06675>."""

    def __init__(self, parameters, lr, betas, weight_decay):
        super().__init__(parameters, dict(lr=lr, betas=betas, weight_decay=weight_decay))

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            beta1, beta2 = group["betas"]
            for w in group["params"]:
                if w.grad is None:
                    continue
                m = self.state[w].get("m", torch.zeros_like(w))
                sign = (beta1 * m + (1 - beta1) * w.grad).sign()
                self.state[w]["m"] = beta2 * m + (1 - beta2) * w.grad
                w -= group["lr"] * (sign + group["weight_decay"] * w)


class ExactMuon(torch.optim.Optimizer):
    """Muon as in torch.optim, but in the number format of its matrices."""

    def __init__(self, parameters, lr, weight_decay, momentum, adjust):
        super().__init__(parameters, dict(lr=lr, weight_decay=weight_decay))
        self.momentum, self.adjust = momentum, adjust

    @torch.no_grad()
    def step(self):
        for group in self.param_groups:
            for w in group["params"]:
                if w.grad is None:
                    continue
                m = self.state[w].get("m", torch.zeros_like(w))
                m = self.state[w]["m"] = self.momentum * m + (1 - self.momentum) * w.grad
                x = self.momentum * m + (1 - self.momentum) * w.grad
                x = x / x.norm()
                for _ in range(5):
                    y = x @ x.T
                    x = 3.4445 * x + (-4.7750 * y + 2.0315 * y @ y) @ x
                w *= 1 - group["lr"] * group["weight_decay"]
                w -= group["lr"] * self.adjust(*w.shape) * x


class WithAdamW:
    """An optimizer for what has two dimensions or more and is no embedding, AdamW for the rest."""

    def __init__(self, parameters, make, **adamw):
        whole = {n: w for n, w in parameters.items() if w.dim() > 1 and "embed" not in n}
        rest = [w for n, w in parameters.items() if n not in whole]
        # All dimensions but the first as one; a view, so that the parameter follows.
        self.matrices = [(w, w.flatten(1)) for w in whole.values()]
        self.parts = [make([m for _, m in self.matrices]), torch.optim.AdamW(rest, **adamw)]

    def step(self):
        for w, matrix in self.matrices:
            matrix.grad = None if w.grad is None else w.grad.flatten(1)
        for part in self.parts:
            part.step()


def muon(parameters):
    make = lambda p: torch.optim.Muon(p, lr=1e-2, weight_decay=0.1, momentum=0.95)
    return WithAdamW(parameters, make, lr=1e-3, betas=(0.9, 0.95), eps=1e-10, weight_decay=0.1)


def exact_muon(parameters):
    adjust = lambda rows, columns: 0.2 * max(rows, columns) ** 0.5
    make = lambda p: ExactMuon(p, lr=1e-2, weight_decay=0.1, momentum=0.8, adjust=adjust)
    return WithAdamW(parameters, make, lr=1e-2, betas=(0.8, 0.9), eps=1e-8, weight_decay=0.1)


makers = {
    "lamb": lambda p: Lamb(p.values(), lr=1e-2, betas=(0.9, 0.999), eps=1e-6, weight_decay=0.01),
    "adamw": lambda p: torch.optim.AdamW(p.values(), lr=1e-2, betas=(0.8, 0.95), eps=1e-6, weight_decay=0.1),
    "adam_l2": lambda p: torch.optim.Adam(p.values(), lr=1e-2, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.05),
    "sgd": lambda p: torch.optim.SGD(p.values(), lr=1e-1, weight_decay=0.01),
    "momentum": lambda p: torch.optim.SGD(p.values(), lr=1e-1, momentum=0.9, weight_decay=0.01),
    "nesterov": lambda p: torch.optim.SGD(p.values(), lr=1e-1, momentum=0.9, nesterov=True),
    "lion": lambda p: Lion(p.values(), lr=1e-2, betas=(0.9, 0.99), weight_decay=0.1),
    "adagrad": lambda p: torch.optim.Adagrad(p.values(), lr=1e-1),
    "adagrad_all": lambda p: torch.optim.Adagrad(
        p.values(), lr=1e-1, lr_decay=0.05, weight_decay=0.01, initial_accumulator_value=0.3, eps=1e-6
    ),
    "muon": muon,
    "muon_fp32": exact_muon,
}
# Those that are computed in float64.
exact = {"lion", "muon_fp32"}

given = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[1]).items()}
made = {}
for name, make in makers.items():
    kind = torch.float64 if name in exact else torch.float32
    prefix = f"{name}/parameter/"
    parameters = {
        n.removeprefix(prefix): t.to(kind, copy=True) for n, t in given.items() if n.startswith(prefix)
    }
    optimizer = make(parameters)
    steps = 1 + max(int(n.rsplit("/", 1)[1]) for n in given if n.startswith(f"{name}/gradient/"))
    for step in range(steps):
        for p, tensor in parameters.items():
            gradient = given.get(f"{name}/gradient/{p}/{step}")
            tensor.grad = None if gradient is None else gradient.to(kind)
        optimizer.step()
    made.update({f"{name}/{p}": tensor.numpy() for p, tensor in parameters.items()})
np.savez(sys.argv[2], **made)
