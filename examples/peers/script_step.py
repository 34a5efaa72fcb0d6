"""A BERT of transformers, exported and trained: called as script_step.py MODEL BATCH TIME SIZES PRECISION.

Writes the model to MODEL, as `examples/torchscript/export.py` does: as TorchScript, or by torch.export where its name
ends with .pt2. Then it trains the very same model in PyTorch. SIZES is in JSON: that script's options by name.
PRECISION is fp32 or bf16.
"""

import json
import sys
from argparse import Namespace
from itertools import cycle
from pathlib import Path

import torch
from peer import serve
from torch import nn

sys.path.append(str(Path(__file__).resolve().parents[1] / "torchscript"))
import export

export.stay_quiet()
import transformers

path, batch, time, sizes, precision = sys.argv[1:]
batch, time, sizes = int(batch), int(time), Namespace(**json.loads(sizes))


def random_batch():
    """Ids, and labels for 15 % of them."""
    labels = torch.full((batch * time,), -100)
    places = torch.randperm(batch * time)[: max(batch * time * 15 // 100, 1)]
    labels[places] = torch.randint(sizes.vocabulary, places.shape)
    return torch.randint(sizes.vocabulary, (batch, time)), labels.view(batch, time)


torch.manual_seed(1)
model = export.MaskedLanguageModel(sizes)
if path.endswith(".pt2"):
    export.save_program("bert", model, sizes, path)
else:
    torch.jit.save(export.scripted("bert", model, sizes), path)

optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, weight_decay=0.01, fused=True)
batches = cycle([random_batch() for _ in range(8)])


def step():
    optimizer.zero_grad(set_to_none=True)
    with torch.autocast("cpu", torch.bfloat16, enabled=precision == "bf16"):
        loss, _ = model(*next(batches))
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimizer.step()
    return loss.item()


serve({"step": step, "load": lambda: torch.export.load(path)}, f"PyTorch {torch.__version__}, transformers {transformers.__version__}")
