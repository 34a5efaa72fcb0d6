"""Whether the model in Python takes the trained weights, by the lines of docs/pytorch-models.md.

    state_dict.py make FOLDER recorded|plain     FOLDER/model.pt and FOLDER/data, of the model below
    state_dict.py load FOLDER OUTPUT             what was trained of it
    state_dict.py exported NAME OUTPUT           what was trained of a model of examples/torchscript/export.py
    state_dict.py program NAME OUTPUT            the same of its program: every key is there
"""

import argparse
import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "examples/torchscript"))
import export  # noqa: E402

# As engine/cli/tests/program/script.rs exports them.
SIZES = argparse.Namespace(layers=4, hidden=32, heads=2, dropout=0.1, vocabulary=40, length=16, image=8, classes=4)


class Net(nn.Module):
    """Buffers of every sort: kept out of the state_dict, constant, and changed by training."""

    def __init__(self, mean=None):
        super().__init__()
        self.register_buffer("inv_freq", 1.0 / (100 ** (torch.arange(0, 4, 2).float() / 4)), persistent=False)
        self.register_buffer("mean", torch.zeros(4) if mean is None else mean)
        self.embedding = nn.Linear(4, 4, bias=False)
        self.norm = nn.BatchNorm1d(4)
        self.again = nn.Linear(4, 4, bias=False)
        self.again.weight = self.embedding.weight
        self.head = nn.Linear(4, 3)

    def forward(self, x):
        time = torch.arange(x.size(1)).float()
        angle = torch.outer(time, self.inv_freq).sum(1)[:, None]
        x = self.again(self.embedding((x - self.mean) * angle.cos()).tanh())
        return self.head(self.norm(x.mean(1)))


def make(folder, recorded):
    torch.manual_seed(0)
    random = np.random.default_rng(0)
    model = Net(torch.tensor([1.0, 2.0, 3.0, 4.0]))
    script, path = torch.jit.script(model), folder / "model.pt"
    if recorded:
        export.save(script, list(model.state_dict()), path)
    else:
        torch.jit.save(script, path)
    (folder / "data").mkdir()
    np.save(folder / "data/x.npy", random.normal(size=(40, 5, 4)).astype("f4"))
    np.save(folder / "data/labels.npy", random.integers(0, 3, 40))


def readme(model, output):
    """Runs the page's lines."""
    page = (ROOT / "docs/pytorch-models.md").read_text()
    blocks = [part.split("```")[0] for part in page.split("```python\n")[1:]]
    (lines,) = (block for block in blocks if "load_state_dict" in block)
    there = "target/torchscript/bert/trained"
    assert there in lines
    exec(lines.replace(there, str(output)), {"model": model})


def check(model, output, two_files):
    from safetensors.torch import load_file

    readme(model, output)
    constants = output / "constants.safetensors"
    assert constants.exists() == two_files, sorted(path.name for path in output.iterdir())
    if two_files:
        model.load_state_dict(load_file(constants), strict=False)
    trained = torch.jit.load(output / "model.pt").state_dict()
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, trained[name]), name


def check_program(model, output):
    from safetensors.torch import load_file

    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    model.load_state_dict(load_file(output / "model.safetensors"), strict=True)
    changed = [name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])]
    assert len(changed) > len(before) / 2, changed
    saved = torch.export.load(output / "model.pt2").state_dict
    for name, tensor in model.state_dict().items():
        assert torch.equal(tensor, saved[name]), name


what, first, second = sys.argv[1:]
if what == "make":
    make(Path(first), second == "recorded")
elif what == "load":
    check(Net(), Path(second), "plain" in second)
elif what == "program":
    export.stay_quiet()
    check_program(export.MODELS[first][0](SIZES), Path(second))
else:
    export.stay_quiet()
    check(export.MODELS[first][0](SIZES), Path(second), False)
