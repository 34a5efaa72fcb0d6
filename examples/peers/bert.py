"""The BERT of engine/models/src/bert.rs in eager PyTorch, and its training steps as its users write them."""

from itertools import cycle

import torch
import torch.nn.functional as F
from torch import nn


class Layer(nn.Module):
    def __init__(self, hidden, heads, dropout):
        super().__init__()
        self.heads, self.dropout = heads, nn.Dropout(dropout)
        self.attention_norm, self.feed_forward_norm = (nn.LayerNorm(hidden, 1e-12) for _ in range(2))
        self.query_key_value, self.output = nn.Linear(hidden, 3 * hidden), nn.Linear(hidden, hidden)
        self.up, self.down = nn.Linear(hidden, 4 * hidden), nn.Linear(4 * hidden, hidden)

    def attend(self, x):
        b, t, h = x.shape
        qkv = self.query_key_value(x).view(b, t, 3, self.heads, h // self.heads)
        y = F.scaled_dot_product_attention(*qkv.permute(2, 0, 3, 1, 4))
        return self.output(y.transpose(1, 2).reshape(b, t, h))

    def forward(self, x):
        x = x + self.dropout(self.attend(self.attention_norm(x)))
        return x + self.dropout(self.down(F.gelu(self.up(self.feed_forward_norm(x)))))


class Bert(nn.Module):
    def __init__(self, layers, hidden, heads, vocabulary, max_positions, dropout):
        super().__init__()
        self.tokens, self.positions = nn.Embedding(vocabulary, hidden), nn.Embedding(max_positions, hidden)
        self.norm, self.last_norm, self.transform_norm = (nn.LayerNorm(hidden, 1e-12) for _ in range(3))
        self.layers = nn.ModuleList(Layer(hidden, heads, dropout) for _ in range(layers))
        self.transform = nn.Linear(hidden, hidden)
        self.bias, self.dropout = nn.Parameter(torch.zeros(vocabulary)), nn.Dropout(dropout)
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, ids, masked, labels):
        x = self.tokens(ids) + self.positions.weight[: ids.shape[1]]
        x = self.dropout(self.norm(x))
        for layer in self.layers:
            x = layer(x)
        x = self.last_norm(x).flatten(0, 1).index_select(0, masked)
        x = self.transform_norm(F.gelu(self.transform(x)))
        return F.cross_entropy(F.linear(x, self.tokens.weight, self.bias).float(), labels)


class Step:
    """Trains one step on random tokens when called: autocast, clipping, fused AdamW."""

    def __init__(self, sizes, batch, time, precision, device="cpu"):
        torch.manual_seed(1)
        self.model = Bert(**sizes).to(device)
        spare = lambda name: name.endswith("bias") or "norm" in name
        named = list(self.model.named_parameters())
        groups = [
            {"params": [p for name, p in named if not spare(name)], "weight_decay": 0.01},
            {"params": [p for name, p in named if spare(name)], "weight_decay": 0.0},
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-4, fused=True)
        self.autocast = lambda: torch.autocast(device, torch.bfloat16, enabled=precision == "bf16")
        places, words = batch * time, sizes["vocabulary"]
        masked = max(places * 15 // 100, 1)
        random = lambda: (
            torch.randint(words, (batch, time), device=device),
            torch.randperm(places, device=device)[:masked],
            torch.randint(words, (masked,), device=device),
        )
        self.batches = cycle([random() for _ in range(8)])

    def __call__(self):
        self.optimizer.zero_grad(set_to_none=True)
        with self.autocast():
            loss = self.model(*next(self.batches))
        loss.backward()
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        return loss.item()
