"""The BERT of examples/src/bert.rs in PyTorch eager: times its training steps, as gpu_step does ours.

Called by scripts/gpu-check as: peer.py STEPS WARM_UP BATCH TIME [bf16] [rehearse].
Prints one line of JSON.
"""

import json
import sys
import time

import torch
import torch.nn.functional as F
from torch import nn

steps, warm_up, batch, length = map(int, sys.argv[1:5])
bf16, rehearse = "bf16" in sys.argv[5:], "rehearse" in sys.argv[5:]
device = "cpu" if rehearse else "cuda"
width, heads, vocabulary = (16, 4, 100) if rehearse else (768, 12, 30522)
layers, positions, dropout = 12, 512, 0.1


def norm():
    return nn.LayerNorm(width, eps=1e-12)


class Attention(nn.Module):
    def __init__(self):
        super().__init__()
        self.query_key_value = nn.Linear(width, 3 * width)
        self.output = nn.Linear(width, width)

    def forward(self, x):
        b, t, h = x.shape
        q, k, v = self.query_key_value(x).view(b, t, 3, heads, h // heads).permute(2, 0, 3, 1, 4)
        y = F.scaled_dot_product_attention(q, k, v)
        return self.output(y.transpose(1, 2).reshape(b, t, h))


class Layer(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention_norm, self.attention = norm(), Attention()
        self.feed_forward_norm = norm()
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x):
        x = x + self.dropout(self.attention(self.attention_norm(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.feed_forward_norm(x)))))


class Bert(nn.Module):
    def __init__(self):
        super().__init__()
        self.tokens = nn.Parameter(torch.empty(vocabulary, width))
        self.positions = nn.Parameter(torch.empty(positions, width))
        self.norm, self.dropout = norm(), nn.Dropout(dropout)
        self.layers = nn.ModuleList(Layer() for _ in range(layers))
        self.last_norm = norm()
        self.transform, self.transform_norm = nn.Linear(width, width), norm()
        self.bias = nn.Parameter(torch.zeros(vocabulary))
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                nn.init.normal_(parameter, std=0.02)
            elif "norm" not in name:
                nn.init.zeros_(parameter)

    def forward(self, ids, masked, labels):
        x = F.embedding(ids, self.tokens) + self.positions[: ids.shape[1]]
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        x = self.last_norm(x).flatten(0, 1).index_select(0, masked)
        x = self.transform_norm(F.gelu(self.transform(x)))
        return F.cross_entropy(F.linear(x, self.tokens, self.bias).float(), labels)


torch.manual_seed(1)
model = Bert().to(device)
spared = [p for name, p in model.named_parameters() if "bias" in name or "norm" in name]
others = [p for name, p in model.named_parameters() if not ("bias" in name or "norm" in name)]
groups = [{"params": others, "weight_decay": 0.01}, {"params": spared, "weight_decay": 0.0}]
optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
masked = max(batch * length * 15 // 100, 1)
batches = [
    (
        torch.randint(vocabulary, (batch, length), device=device),
        torch.randperm(batch * length, device=device)[:masked],
        torch.randint(vocabulary, (masked,), device=device),
    )
    for _ in range(8)
]


def step(number):
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        loss = model(*batches[number % 8])
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


for number in range(warm_up):
    step(number)
milliseconds = []
for number in range(steps):
    began = time.perf_counter()
    loss = step(number)
    milliseconds.append(1e3 * (time.perf_counter() - began))
print(json.dumps({"milliseconds": milliseconds, "loss": loss}))
