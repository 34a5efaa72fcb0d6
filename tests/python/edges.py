"""Models at the edges of what can be gated, each a stack of layers around one way of writing them."""

from typing import List, Optional

import torch
from torch import Tensor, nn
from torch.nn import functional as F

WIDTH = 8


class Block(nn.Module):
    """Its residual connection is there or not, as an attribute says, over what undoes itself."""

    def __init__(self, residual: bool = True):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)
        self.residual = residual

    def forward(self, x: Tensor) -> Tensor:
        turned = x.transpose(0, 1)
        y = torch.tanh(self.inner(turned.transpose(0, 1)))
        if self.residual:
            y = (y.transpose(0, 1) + turned).transpose(0, 1)
        return y


class Stack(nn.Module):
    """Starts with a layer of its own, so that gradients reach beyond what is gated."""

    def __init__(self, layers):
        super().__init__()
        self.before = nn.Linear(WIDTH, WIDTH)
        self.layers = nn.ModuleList(layers)

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        for layer in self.layers:
            x = layer(x)
        return x.square().mean()


class Sometimes(Block):
    """Residual for some inputs alone."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(x))
        if x.size(0) > 1000:
            return x + y
        return y


class Early(Block):
    """Gives its input back for some inputs, and otherwise has a residual connection."""

    def forward(self, x: Tensor) -> Tensor:
        if x.size(0) > 1000:
            return x
        if x.dim() < 1:
            raise RuntimeError("no rows")
        return x + torch.tanh(self.inner(x))


class Turning(Block):
    """Leaves the axes of its square input exchanged."""

    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.tanh(self.inner(x))).transpose(0, 1)


class Rolling(Block):
    def forward(self, x: Tensor) -> Tensor:
        return (x + torch.tanh(self.inner(x))).roll(1, 1)


class Gelu(nn.Module):
    """An activation by hand: a sum inside of a product with the input."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor) -> Tensor:
        return self.weight * x * (1.0 + torch.tanh(0.79788456 * (x + 0.044715 * x * x * x)))


class Noting(Block):
    """Leaves something for its parent to read."""

    aux: Optional[Tensor]

    def __init__(self):
        super().__init__()
        self.aux = None

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(x))
        self.aux = y.square().mean()
        return x + y


class OfNoting(Stack):
    def __init__(self):
        super().__init__([Noting(), Noting()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        loss = x.new_zeros(())
        for layer in self.layers:
            x = layer(x)
            aux = layer.aux
            if aux is not None:
                loss = loss + aux
        return x.square().mean() + loss


class Listing(Block):
    """Puts its output into a list that it is given."""

    def forward(self, x: Tensor, seen: List[Tensor]) -> Tensor:
        x = x + torch.tanh(self.inner(x))
        seen.append(x)
        return x


class OfListing(Stack):
    def __init__(self):
        super().__init__([Listing(), Listing()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        seen: List[Tensor] = []
        for layer in self.layers:
            x = layer(x, seen)
        return x.square().mean() + seen[1].mean()


class Moving(Block):
    """Writes to its input through a view."""

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(x))
        x.movedim(0, 1).mul_(2.0)
        return x + y


class Waiting(Stack):
    """Does something else on another thread meanwhile."""

    def forward(self, x: Tensor) -> Tensor:
        future = torch.jit.fork(torch.sin, x)
        x = self.before(x)
        for layer in self.layers:
            x = layer(x)
        return (x + torch.jit.wait(future)).square().mean()


class InPlace(Stack):
    """Changes what a layer returned where it lies, and keeps both that and the next layer's."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.before(x))
        kept: List[Tensor] = []
        for layer in self.layers:
            x = layer(x)
            x += 0.1
            F.relu(x, inplace=True)
            kept.append(x)
        return torch.stack(kept).square().mean()


class Decoding(nn.Module):
    """Adds to its first input, and looks at its second."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(WIDTH, WIDTH)

    def forward(self, x: Tensor, seen: Tensor) -> Tensor:
        return x + torch.tanh(self.inner(x)) * torch.sigmoid(self.inner(seen))


class Coded(Stack):
    """A stack of encoders, and one of decoders that look at what the last of them returned."""

    def __init__(self):
        super().__init__([Block(), Block()])
        self.decoders = nn.ModuleList([Decoding(), Decoding()])

    def forward(self, x: Tensor) -> Tensor:
        seen = self.before(x)
        for layer in self.layers:
            seen = layer(seen)
        for decoder in self.decoders:
            x = decoder(x, seen)
        return x.square().mean()


class Random(Stack):
    """Stochastic depth as a trace has it."""

    def forward(self, x: Tensor) -> Tensor:
        x = F.dropout(self.before(x), 0.5, self.training)
        for layer in self.layers:
            x = x + torch.rand(()).round() * layer(x)
        return x.square().mean()


def masked():
    model = Stack([Block()])
    model.register_buffer("mask", torch.full((3,), float("-inf")))
    model.register_buffer("mean", torch.tensor([0.0, float("nan")]))
    return model


def spread():
    """A weight whose elements lie column by column."""
    model = Stack([Block(), Block()])
    model.before.weight = nn.Parameter(model.before.weight.detach().t().contiguous().t())
    return model


# name: model, the layers' folder, which are closed; the last is traced
MODELS = {
    "flagged": (lambda: Stack([Block(), Block(), Block()]), "layers", [1]),
    "early": (lambda: Stack([Early(), Early()]), "layers", [0]),
    "in_place": (lambda: InPlace([Block(), Block(), Block()]), "layers", [0, 1]),
    "coded": (Coded, "decoders", [1]),
    "spread": (spread, "layers", [0]),
    "not_flagged": (lambda: Stack([Block(), Block(False)]), None, []),
    "sometimes": (lambda: Stack([Sometimes(), Sometimes()]), None, []),
    "turning": (lambda: Stack([Turning(), Turning()]), None, []),
    "rolling": (lambda: Stack([Rolling(), Rolling()]), None, []),
    "activation": (lambda: Stack([Gelu(), Gelu()]), None, []),
    "noting": (OfNoting, None, []),
    "listing": (OfListing, None, []),
    "moving": (lambda: Stack([Moving(), Moving()]), None, []),
    "waiting": (lambda: Waiting([Block(), Block()]), None, []),
    "mixed": (lambda: Stack([Block(), Block(), Early(), Early()]), None, []),
    "nan_buffer": (masked, None, []),
    "random": (lambda: Random([Block(), Block()]), None, []),
}
