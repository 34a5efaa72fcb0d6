"""The examples' BERT in PyTorch: reads weights and a batch, writes the loss and every gradient.

Called as: bert.py GIVEN.npz MADE.npz. `scales` has one number for each residual branch, two a layer;
0 leaves the branch out.
"""

import sys

import numpy as np
import torch
import torch.nn.functional as F

given = {name: torch.from_numpy(array) for name, array in np.load(sys.argv[1]).items()}
weights = {
    name.removeprefix("weights/"): tensor.clone().requires_grad_()
    for name, tensor in given.items()
    if name.startswith("weights/")
}
ids, masked, labels = given["ids"].long(), given["masked"].long(), given["labels"].long()
scales = given["scales"].tolist()
heads, post = int(given["heads"]), bool(given["post"])


def linear(x, name):
    return F.linear(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def norm(x, name):
    return F.layer_norm(x, x.shape[-1:], weights[f"{name}.weight"], weights[f"{name}.bias"], 1e-12)


def attention(x, name):
    batch, time, width = x.shape
    q, k, v = (
        part.view(batch, time, heads, width // heads).transpose(1, 2)
        for part in linear(x, f"{name}.query_key_value").chunk(3, dim=-1)
    )
    scores = (q @ k.transpose(-1, -2) / (width // heads) ** 0.5).softmax(-1)
    return linear((scores @ v).transpose(1, 2).flatten(2), f"{name}.output")


def residual(x, branch, name, scale):
    if post:
        return norm(x + scale * branch(x), name) if scale else norm(x, name)
    return x + scale * branch(norm(x, name)) if scale else x


x = F.embedding(ids, weights["tokens"]) + weights["positions"][: ids.shape[1]]
x = norm(x, "norm")
for i in range(len(scales) // 2):
    layer = f"layers.{i}"
    x = residual(x, lambda x: attention(x, f"{layer}.attention"), f"{layer}.attention_norm", scales[2 * i])
    feed = lambda x: linear(F.gelu(linear(x, f"{layer}.up")), f"{layer}.down")
    x = residual(x, feed, f"{layer}.feed_forward_norm", scales[2 * i + 1])
if not post:
    x = norm(x, "last_norm")
hidden = norm(F.gelu(linear(x.flatten(0, 1)[masked], "transform")), "transform_norm")
loss = F.cross_entropy(F.linear(hidden, weights["tokens"], weights["bias"]), labels)
loss.backward()
made = {name: tensor.grad.numpy() for name, tensor in weights.items() if tensor.grad is not None}
np.savez(sys.argv[2], loss=loss.detach().numpy(), **made)
