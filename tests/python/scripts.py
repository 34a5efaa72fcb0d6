"""Small TorchScript models, and what PyTorch makes of them.

    scripts.py make FOLDER NAME...     FOLDER/NAME.pt and FOLDER/NAME.npz for each model
    scripts.py evaluate FILE GIVEN.npz MADE.npz     the loss of a saved model in evaluation mode

In NAME.npz are the inputs (`input/<name>`), the loss in training mode with all layers (`loss`, `grad/<parameter>`)
and, for the models with layers, with some of them replaced by the identity (`closed/loss`,
`closed/grad/<parameter>`); `closed` lists which.
"""

import sys
from pathlib import Path
from typing import Dict, List, NamedTuple, Optional, Tuple

import edges
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

WIDTH, WORDS, TIME = 8, 20, 6


class Attention(nn.Module):
    def __init__(self, dropout: float):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x, mask):
        q, k, v = self.qkv(x).chunk(3, dim=-1)
        scores = q @ k.transpose(-1, -2) / WIDTH**0.5 + mask
        return self.out(self.dropout(scores.softmax(-1)) @ v)


class Fused(nn.Module):
    """Two layers of libtorch's own operator of attention."""

    def __init__(self, dropout: float):
        super().__init__()
        self.layers = nn.ModuleList(nn.Linear(WIDTH, 3 * WIDTH) for _ in range(2))
        self.dropout = dropout

    def forward(self, x):
        for qkv in self.layers:
            q, k, v = qkv(x).view(2, 20, 3, 2, -1).permute(2, 0, 3, 1, 4).unbind(0)
            y = F.scaled_dot_product_attention(q, k, v, dropout_p=self.dropout)
            x = x + y.transpose(1, 2).reshape(2, 20, -1)
        return x.square().mean()


class Feed(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(WIDTH, 2 * WIDTH)
        self.down = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x):
        return self.down(F.gelu(self.up(x)))


class PostNorm(nn.Module):
    """The sum before the normalisation, as in BERT; a tuple, as older models have it."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.attention = Attention(dropout)
        self.feed = Feed()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)

    def forward(self, x, mask):
        x = self.norm1(x + self.attention(x, mask))
        return (self.norm2(self.feed(x) + x),)


class Bert(nn.Module):
    """Takes the mask first, and computes its own loss; the decoder is tied to the embedding."""

    def __init__(self, dropout: float = 0.0):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.layer = nn.ModuleList(PostNorm(dropout) for _ in range(4))
        self.decoder = nn.Linear(WIDTH, WORDS, bias=True)
        self.decoder.weight = self.embedding.weight

    def forward(self, ids, labels):
        mask = (ids == 0).unsqueeze(1) * -1e4
        x = self.embedding(ids)
        for layer in self.layer:
            x = layer(x, mask)[0]
        scores = self.decoder(x)
        return F.cross_entropy(scores.flatten(0, 1), labels.flatten()), scores


class Residual(nn.Module):
    """A branch with its own normalisation and sum: what can be a layer inside a layer."""

    def __init__(self):
        super().__init__()
        self.norm = nn.LayerNorm(WIDTH)
        self.feed = Feed()

    def forward(self, x):
        return x + self.feed(self.norm(x))


class PreNorm(nn.Module):
    """Keyword defaults, and a tuple with something that may be none."""

    def __init__(self):
        super().__init__()
        self.attention = Residual()
        self.feed = Residual()
        self.dropout = nn.Dropout(0.0)

    def forward(
        self, x: Tensor, scale: float = 1.0, bias: Optional[Tensor] = None, keep: bool = False
    ) -> Tuple[Tensor, Optional[Tensor]]:
        y = self.attention(x)
        if bias is not None:
            y = y + bias
        y = y + scale * self.dropout(self.feed(y) - y)
        if keep:
            return y, y.mean()
        return y, None


class Looped(nn.Module):
    """A loop over layers with a condition in it, scripted. Returns a dictionary."""

    def __init__(self):
        super().__init__()
        self.embedding = nn.Embedding(WORDS, WIDTH)
        self.blocks = nn.ModuleList(PreNorm() for _ in range(4))
        self.head = nn.Linear(WIDTH, WORDS)
        self.head.bias.requires_grad_(False)

    def forward(self, ids: Tensor, labels: Tensor, scale: float = 0.5, far: Optional[Tensor] = None) -> Dict[str, Tensor]:
        x = self.embedding(ids)
        kept: List[Tensor] = []
        for i, block in enumerate(self.blocks):
            if i % 2 == 0:
                x, mean = block(x, scale, keep=True)
                if mean is not None:
                    kept.append(mean)
            else:
                x, mean = block(x)
        if far is not None:
            x = x + far
        scores = self.head(x)
        return {"loss": F.cross_entropy(scores.flatten(0, 1), labels.flatten()), "scores": scores}


class Conv(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(width)

    def forward(self, x):
        return torch.relu_(self.norm(self.conv(x)).add_(x))


class Images(nn.Module):
    """Batch normalisation: buffers that a forward changes."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 4, 3, padding=1)
        self.stage = nn.Sequential(Conv(4), Conv(4), Conv(4))
        self.head = nn.Linear(4, 5)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, images, labels):
        if self.training:
            self.seen = self.seen + 1.0
        return F.cross_entropy(self.head(self.stage(self.stem(images)).mean((2, 3))), labels)


class Averaged(nn.Module):
    """Buffers that a forward assigns anew, and one that repeats one number."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(108, 5)
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))
        self.register_buffer("ones", torch.ones(1).expand(5))

    def forward(self, images, labels):
        if self.training:
            self.mean = 0.9 * self.mean + 0.1 * images.mean()
            self.seen = self.seen + 1
        return F.cross_entropy(self.head(images.flatten(1)) * self.ones, labels) + 0.1 * self.mean


class Single(nn.Module):
    """Batch normalisation of vectors: a trace of it takes a single one, whose variance is not a number."""

    def __init__(self):
        super().__init__()
        self.norm = nn.BatchNorm1d(WIDTH)
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(x)).square().mean()


@torch.jit.interface
class Mapped(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        pass


class Indexed(nn.Module):
    """A loop that picks its layers by number: nothing is unrolled."""

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList(Residual() for _ in range(3))
        self.head = nn.Linear(WIDTH, 1)

    def forward(self, x: Tensor) -> Tensor:
        for i in range(3):
            layer: Mapped = self.layers[i]
            x = layer.forward(x)
        return self.head(x).square().mean()


# ---- Models that cannot be gated


class Stack(nn.Module):
    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x.square().mean()


class Shared(Stack):
    def __init__(self):
        super().__init__([Residual()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(layer(x))
        return x.square().mean()


class Repeated(Shared):
    def __init__(self):
        super().__init__()
        self.before = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = self.before(x)
        for layer in self.layers:
            x = layer(layer(x))
        return x.square().mean()


class Helping(Residual):
    """Its forward calls another method of its own, and returns what that returns."""

    def helper(self, x):
        return x + self.feed(x)

    def forward(self, x):
        return self.helper(x)


class OfHelping(Stack):
    def __init__(self):
        super().__init__([Helping(), Helping(), Helping()])
        self.before = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        x = self.before(x)
        for layer in self.layers:
            x = layer(x)
        return x.square().mean()


class InLoop(Stack):
    def __init__(self):
        super().__init__([Residual()])

    def forward(self, x, times: int = 2):
        for _ in range(times):
            for layer in self.layers:
                x = layer(x)
        return x.square().mean()


class Plain(nn.Module):
    def __init__(self, into=WIDTH):
        super().__init__()
        self.inner = nn.Linear(WIDTH, into)

    def forward(self, x):
        return self.inner(x)


class Other(Residual):
    @torch.jit.export
    def encode(self, x):
        return self.forward(x)


class ByMethod(Stack):
    def __init__(self):
        super().__init__([Other()])

    def forward(self, x):
        for layer in self.layers:
            x = layer.encode(x)
        return x.square().mean()


class Forked(Stack):
    def __init__(self):
        super().__init__([Residual()])

    def forward(self, x):
        for layer in self.layers:
            x = torch.jit.wait(torch.jit.fork(layer, x))
        return x.square().mean()


class Listed(Residual):
    def forward(self, x) -> List[Tensor]:
        return [x + self.feed(self.norm(x))]


class OfLists(Stack):
    def __init__(self):
        super().__init__([Listed()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)[0]
        return x.square().mean()


class Weighted(Residual):
    def forward(self, x) -> Tuple[Tensor, Tensor]:
        y = self.feed(self.norm(x))
        return x + y, y


class RestUsed(Stack):
    def __init__(self):
        super().__init__([Weighted()])

    def forward(self, x):
        for layer in self.layers:
            x, y = layer(x)
            x = x * y
        return x.square().mean()


class Writing(Residual):
    def forward(self, x):
        y = self.feed(self.norm(x))
        return x.add_(y)


class Widening(nn.Module):
    """Broadcasts: the output is larger than the input."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        return x + self.inner(x).repeat(2, 1)


class Two(nn.Module):
    """Adds both of its inputs."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x, y):
        return self.inner(x) + x + y


class OfTwo(Stack):
    def __init__(self):
        super().__init__([Two()])

    def forward(self, x):
        for layer in self.layers:
            x = layer(x, x * 2.0)
        return x.square().mean()


class Branches(Stack):
    """Calls its layer in one branch or the other, and in both where `twice` is set."""

    def __init__(self):
        super().__init__([Residual()])

    def forward(self, x, twice: bool = False):
        for layer in self.layers:
            if x.sum() > -1e30:
                x = layer(x)
            if x.sum() < -1e30:
                x = layer(x)
        return x.square().mean()


class TwoBranches(Branches):
    def forward(self, x):
        for layer in self.layers:
            if x.sum() > -1e30:
                x = layer(x)
            if x.sum() > -1e30:
                x = layer(x)
        return x.square().mean()


class Unused(Stack):
    def __init__(self):
        super().__init__([Residual()])
        self.spare = Residual()


def poisoned():
    model = Stack([Residual()])
    with torch.no_grad():
        model.layers[0].feed.up.bias[2] = float("nan")
    return model


class Tied(nn.Module):
    """A second stack with the first one's weights."""

    def __init__(self):
        super().__init__()
        self.first = nn.ModuleList([Residual(), Residual()])
        self.again = nn.ModuleList([Residual(), Residual()])
        for ours, theirs in zip(self.again, self.first):
            ours.feed = theirs.feed

    def forward(self, x):
        for layer in self.first:
            x = layer(x)
        for layer in self.again:
            x = layer(x)
        return x.square().mean()


class Moody(nn.Module):
    """What follows the mode beside dropout and batch normalisation."""

    def __init__(self):
        super().__init__()
        self.memory = nn.LSTM(WIDTH, WIDTH, 2, dropout=0.5)
        self.steady = nn.GRU(WIDTH, WIDTH)
        self.norm = nn.InstanceNorm1d(WIDTH, track_running_stats=True)
        self.rectify = nn.RReLU()

    def forward(self, x):
        x = self.steady(self.memory(x.expand(TIME, 3, WIDTH))[0])[0]
        return self.rectify(self.norm(x.permute(1, 2, 0))).square().mean()


@torch.jit.script
def noisy(x: Tensor) -> Tensor:
    return torch.dropout(x, 0.5, True)


class Helped(Stack):
    """Its dropout stands in a function, which has no mode."""

    def __init__(self):
        super().__init__([Residual()])

    def forward(self, x):
        return super().forward(noisy(x))


def words():
    ids = torch.randint(1, WORDS, (3, TIME))
    ids[:, -1] = 0
    return {"ids": ids, "labels": torch.randint(0, WORDS, (3, TIME))}


def rows():
    return {"x": torch.randn(3, WIDTH)}


def sequences():
    return {"x": torch.randn(2, 20, WIDTH)}


def square():
    return {"x": torch.randn(WIDTH, WIDTH)}


def images():
    return {"images": torch.randn(4, 3, 6, 6), "labels": torch.tensor([0, 4, 2, 2])}


def traced(model, inputs, strict=True):
    return torch.jit.trace(model, tuple(inputs.values()), check_trace=False, strict=strict)


def scripted(model, _):
    return torch.jit.script(model)


class Same(nn.Module):
    """In a layer's place; `tuple` as the layer returns it."""

    def __init__(self, like):
        super().__init__()
        self.like = like

    def forward(self, x, *_, **__):
        # As every layer does, it returns a tensor of its own.
        x = x.clone()
        return {PostNorm: (x,), PreNorm: (x, None)}.get(self.like, x)


def scaled(forward, scale=1.7):
    """The layer's forward, with what it changes of its input times a number."""

    def scaling(x, *more, **named):
        output = forward(x, *more, **named)
        if isinstance(output, tuple):
            return (x + scale * (output[0] - x), *output[1:])
        return x + scale * (output - x)

    return scaling


# name: model, inputs, how it is exported, the layers' folder, which are closed
MODELS = {
    "bert": (Bert, words, traced, "layer", [1, 3]),
    "all_closed": (Bert, words, traced, "layer", [0, 1, 2, 3]),
    "dropping": (lambda: Bert(0.5), words, traced, None, []),
    "evaluated": (lambda: Bert(0.5).eval(), words, traced, None, []),
    "looped": (Looped, words, scripted, "blocks", [0, 2]),
    "compiled": (Looped, words, scripted, "blocks", [3]),
    "images": (Images, images, scripted, "stage", [1]),
    "traced_images": (Images, images, traced, "stage", [1]),
    "averaged": (Averaged, images, scripted, None, []),
    "single": (Single, rows, traced, None, []),
    "indexed": (Indexed, rows, scripted, "layers", [1]),
    "shared": (Shared, rows, scripted, None, []),
    "repeated": (Repeated, rows, scripted, "layers", [0]),
    "traced_repeated": (Repeated, rows, traced, "layers", [0]),
    "helping": (OfHelping, rows, scripted, "layers", [0, 2]),
    "in_loop": (InLoop, rows, scripted, None, []),
    "plain": (lambda: Stack([Plain()]), rows, traced, None, []),
    "by_method": (ByMethod, rows, scripted, None, []),
    "forked": (Forked, rows, scripted, None, []),
    "lists": (OfLists, rows, scripted, None, []),
    "rest": (RestUsed, rows, scripted, None, []),
    "writing": (lambda: Stack([Writing()]), rows, scripted, None, []),
    "widening": (lambda: Stack([Widening()]), lambda: {"x": torch.randn(1, WIDTH)}, scripted, None, []),
    "two": (OfTwo, rows, scripted, None, []),
    "branches": (Branches, rows, scripted, None, []),
    "two_branches": (TwoBranches, rows, scripted, None, []),
    "unused": (Unused, rows, scripted, None, []),
    "poisoned": (poisoned, rows, scripted, None, []),
    "tied": (Tied, rows, scripted, None, []),
    "moody": (Moody, rows, traced, None, []),
    "helped": (Helped, rows, traced, None, []),
    "sdpa": (lambda: Fused(0.0), sequences, scripted, None, []),
    "sdpa_dropout": (lambda: Fused(0.1), sequences, scripted, None, []),
    "sdpa_traced": (lambda: Fused(0.1), sequences, traced, None, []),
}


for name, (make_model, layers, closed) in edges.MODELS.items():
    MODELS[name] = (make_model, square, traced if name == "random" else scripted, layers, closed)


def loss_of(output):
    if isinstance(output, dict):
        return output["loss"]
    return output[0] if isinstance(output, tuple) else output


def gradients(model, inputs, prefix, made):
    for parameter in model.parameters():
        parameter.grad = None
    loss = loss_of(model(**inputs))
    loss.backward()
    made[f"{prefix}loss"] = loss.detach().numpy()
    for name, parameter in model.named_parameters():
        if parameter.grad is not None:
            made[f"{prefix}grad/{name}"] = parameter.grad.numpy().copy()


def make(folder, name):
    torch.manual_seed(3)
    make_model, make_inputs, export, layers, closed = MODELS[name]
    model, inputs = make_model(), make_inputs()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    made = {f"input/{key}": value.numpy() for key, value in inputs.items()}
    script = export(model, inputs)
    # What tracing did to statistics is not in the file that is compared.
    state = {key: value.clone() for key, value in model.state_dict().items()}
    torch.jit.save(script, folder / f"{name}.pt")
    if layers is not None:
        made["closed"] = np.array(closed)
        gradients(model, inputs, "", made)
        model.load_state_dict(state)
        parent = getattr(model, layers)
        for layer in parent:
            layer.forward = scaled(layer.forward)
        gradients(model, inputs, "scaled/", made)
        for layer in parent:
            del layer.forward
        model.load_state_dict(state)
        for i in closed:
            parent[i] = Same(type(parent[i]))
        gradients(model, inputs, "closed/", made)
    np.savez(folder / f"{name}.npz", **made)


def evaluate(file, given, made):
    script = torch.jit.load(file).eval()
    inputs = {key: torch.from_numpy(value) for key, value in np.load(given).items()}
    # Before the forward: a trace counts batches in its evaluation too.
    state = {f"state/{key}": value.numpy().copy() for key, value in script.state_dict().items()}
    with torch.no_grad():
        output = script(**inputs)
    np.savez(made, loss=loss_of(output).numpy(), **state)


if sys.argv[1] == "make":
    for name in sys.argv[3:]:
        make(Path(sys.argv[2]), name)
else:
    evaluate(*sys.argv[2:])
