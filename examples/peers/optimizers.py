"""PyTorch's fused AdamW, or LAMB of pytorch_optimizer: called as optimizers.py NAME SHAPES.

SHAPES are those of the parameters, such as 8192x256,256; their gradients stay the same.
"""

import sys

import torch
from peer import serve


def adamw(parameters):
    return torch.optim.AdamW(parameters, lr=1e-3, weight_decay=0.01, fused=True)


def lamb(parameters):
    from pytorch_optimizer import Lamb

    return Lamb(parameters, lr=1e-3, weight_decay=0.01)


name, shapes = sys.argv[1:]
parameters = [
    torch.nn.Parameter(torch.randn([int(n) for n in shape.split("x")]) * 0.02)
    for shape in shapes.split(",")
]
for p in parameters:
    p.grad = torch.randn_like(p) * 1e-3
make = {"adamw": adamw, "lamb": lamb}[name]
serve({name: make(parameters).step})
