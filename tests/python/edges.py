"""Models at the edges of what can be gated, each a stack of layers around one way of writing them."""

from typing import Dict, List, Optional, Tuple

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


class Stepping(Block):
    """Residual in its first calls alone."""

    def __init__(self):
        super().__init__()
        self.calls: int = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        y = torch.tanh(self.inner(x))
        if self.calls < 3:
            return x + y
        return y


class Unflagging(Stack):
    """Takes the residual connections of its layers away."""

    def __init__(self):
        super().__init__([Block(), Block()])

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            layer.residual = False
        x = self.before(x)
        for layer in self.layers:
            x = layer(x)
        return x.square().mean()


class Overwriting(Block):
    """Loses the sum in a loop."""

    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.tanh(self.inner(x))
        for _ in range(2):
            x = self.inner(x)
        return x


class Affine(Block):
    """A normalisation with weights, written out, and no residual connection."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.full((WIDTH,), 1.5))
        self.shift = nn.Parameter(torch.full((WIDTH,), 0.5))

    def forward(self, x: Tensor) -> Tensor:
        centred = x - x.mean(-1, keepdim=True)
        return centred / torch.sqrt(centred.pow(2).mean(-1, keepdim=True) + 1e-5) * self.scale + self.shift


class OverwritingWhile(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = x + torch.tanh(self.inner(x))
        times = 0
        while times < 2:
            x = self.inner(x)
            times += 1
        return x


class Adding(Block):
    """Adds in a loop to a stream that was there before, and computes what it adds in another one."""

    def forward(self, x: Tensor) -> Tensor:
        for _ in range(2):
            y = x
            for _ in range(2):
                y = torch.tanh(self.inner(y))
            x = x + y
        return x


class Crossing(Block):
    """Exchanges axes counted from both ends, which of the three that its input has are not the same ones."""

    def forward(self, x: Tensor) -> Tensor:
        y = x.unsqueeze(0)
        y = y + torch.tanh(self.inner(y))
        return y.transpose(1, 2).transpose(0, -1).squeeze(-1)


class Twisting(Block):
    """Sums of its input with its axes in other orders, more of them than can be followed."""

    def forward(self, x: Tensor) -> Tensor:
        h = x + torch.tanh(self.inner(x))
        for _ in range(3):
            h = h.unsqueeze(0)
            h = (h.transpose(0, 1) + h.transpose(1, 2) + h.transpose(0, 2)).squeeze(0)
        return h


class GeluTurned(Gelu):
    def forward(self, x: Tensor) -> Tensor:
        return (1.0 + torch.tanh(0.79788456 * (x + 0.044715 * x * x * x))) * x


class ByHand(Block):
    """A normalisation by hand, a difference, and a bound."""

    def forward(self, x: Tensor) -> Tensor:
        x = x - torch.tanh(self.inner(x))
        centred = x - x.mean(-1, keepdim=True)
        x = centred / torch.sqrt(centred.square().mean(-1, keepdim=True) + 1e-5)
        return x.clamp(-3.0, 3.0)


class Centring(Block):
    """Its only difference is that of a normalisation."""

    def forward(self, x: Tensor) -> Tensor:
        return x - x.mean(-1, keepdim=True)


class ListMoving(Block):
    """Writes to its input where a list holds it."""

    def forward(self, x: Tensor) -> Tensor:
        held = [x]
        held[0].mul_(0.5)
        return x + torch.tanh(self.inner(x))


class DictMoving(Block):
    def forward(self, x: Tensor) -> Tensor:
        held = {"x": x}
        held["x"].mul_(0.5)
        return x + torch.tanh(self.inner(x))


class ChunkMoving(Block):
    def forward(self, x: Tensor) -> Tensor:
        a, b = x.chunk(2, -1)
        a.mul_(0.5)
        return x + torch.tanh(self.inner(x))


class KeptMoving(Block):
    """Writes to its input where an attribute holds it."""

    def __init__(self):
        super().__init__()
        self.last = torch.zeros(1)

    def forward(self, x: Tensor) -> Tensor:
        self.last = x
        self.last.mul_(0.5)
        return x + torch.tanh(self.inner(x))


class PutMoving(Block):
    def forward(self, x: Tensor) -> Tensor:
        held: List[Tensor] = []
        held.append(x)
        held[0].mul_(0.5)
        return x + torch.tanh(self.inner(x))


class FreshMoving(Block):
    """Writes to what it made, counts in a buffer of its own, and splits and lists what it does not write to."""

    def __init__(self):
        super().__init__()
        self.wide = nn.Linear(WIDTH, 2 * WIDTH)
        self.norm = nn.BatchNorm1d(WIDTH)
        self.register_buffer("seen", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.seen.add_(1.0)
        wide = self.wide(x)
        a, b = wide[:, : x.size(1)], wide[:, x.size(1) :]
        a *= 0.5
        left, right = x.chunk(2, -1)
        third, fourth = self.wide(x).detach().chunk(2, -1)
        third.mul_(0.5)
        listed = [x]
        listed.append(torch.cat([right, left], -1))
        y = self.norm(torch.tanh(a + b + third + fourth + self.inner(listed[1])))
        y += x
        return F.relu(y, inplace=True)


class ListWriting(Block):
    """Writes to a tensor in a list that it is given."""

    def forward(self, x: Tensor, given: List[Tensor]) -> Tensor:
        y = torch.tanh(self.inner(x))
        given[0].copy_(y)
        return x + y


class OfListWriting(Stack):
    def __init__(self):
        super().__init__([ListWriting(), ListWriting()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        given = [torch.zeros_like(x)]
        for layer in self.layers:
            x = layer(x, given)
        return x.square().mean() + given[0].mean()


class DictListing(Block):
    """Puts its output into a list in a dictionary that it is given."""

    def forward(self, x: Tensor, given: Dict[str, List[Tensor]]) -> Tensor:
        x = x + torch.tanh(self.inner(x))
        given["x"].append(x)
        return x


class OfDictListing(Stack):
    def __init__(self):
        super().__init__([DictListing(), DictListing()])

    def forward(self, x: Tensor) -> Tensor:
        given: Dict[str, List[Tensor]] = {"x": []}
        for layer in self.layers:
            x = layer(x, given)
        return given["x"][-1].mean()


class TupleListing(Block):
    def forward(self, x: Tensor, given: Tuple[List[Tensor], int]) -> Tensor:
        x = x + torch.tanh(self.inner(x))
        given[0].append(x)
        return x


class OfTupleListing(Stack):
    def __init__(self):
        super().__init__([TupleListing(), TupleListing()])

    def forward(self, x: Tensor) -> Tensor:
        given: List[Tensor] = []
        for layer in self.layers:
            x = layer(x, (given, 1))
        return given[-1].mean()


class Copying(Block):
    """Leaves something in a buffer for its parent to read."""

    def __init__(self):
        super().__init__()
        self.register_buffer("aux", torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(x))
        self.aux.copy_(y.square().mean())
        return x + y


class OfCopying(Stack):
    def __init__(self):
        super().__init__([Copying(), Copying()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        loss = x.new_zeros(())
        for layer in self.layers:
            x = layer(x)
            loss = loss + layer.aux
        return x.square().mean() + loss


class Store(nn.Module):
    def __init__(self):
        super().__init__()
        self.held = torch.zeros(())

    def forward(self, x: Tensor):
        self.held = x

    @torch.jit.export
    def get(self) -> Tensor:
        return self.held


class Storing(Block):
    """Leaves something in a module of its own, from which its parent gets it."""

    def __init__(self):
        super().__init__()
        self.store = Store()

    def forward(self, x: Tensor) -> Tensor:
        y = torch.tanh(self.inner(x))
        self.store(y.square().mean())
        return x + y


class OfStoring(Stack):
    def __init__(self):
        super().__init__([Storing(), Storing()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        loss = x.new_zeros(())
        for layer in self.layers:
            x = layer(x)
            loss = loss + layer.store.get()
        return x.square().mean() + loss


@torch.jit.script
class Shelf:
    def __init__(self):
        self.held = torch.zeros(1)

    def put(self, x: Tensor):
        self.held = x

    def get(self) -> Tensor:
        return self.held

    def raise_by_one(self, x: Tensor):
        x.add_(1.0)


class Shelving(Block):
    """Leaves something in an object that it is given."""

    def forward(self, x: Tensor, shelf: Shelf) -> Tensor:
        y = torch.tanh(self.inner(x))
        shelf.put(y.square().mean())
        return x + y


class OfShelving(Stack):
    def __init__(self):
        super().__init__([Shelving(), Shelving()])

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x)
        shelf = Shelf()
        loss = torch.zeros(1)
        for layer in self.layers:
            x = layer(x, shelf)
            loss = loss + shelf.get()
        return x.square().mean() + loss.mean()


class ByShelf(Stack):
    """Has an object change what a layer returned where it lies."""

    def forward(self, x: Tensor) -> Tensor:
        x = torch.tanh(self.before(x))
        shelf = Shelf()
        first = x
        for layer in self.layers:
            x = layer(x)
            shelf.raise_by_one(x)
        return x.square().mean() + first.square().mean()


class Retyping(Stack):
    """Its stream changes its type on the way through a layer."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.before(x).double()
        for layer in self.layers:
            x = layer(x)
        return x.square().mean().float()


class Float(Block):
    def forward(self, x: Tensor) -> Tensor:
        x = x.float()
        return x + torch.tanh(self.inner(x))


class Up(Block):
    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        return torch.tanh(self.inner(x)) + skip


class Decoder(Stack):
    """Adds what an encoder had to what its layers make of its stream."""

    def __init__(self):
        super().__init__([Up(), Up()])

    def forward(self, x: Tensor) -> Tensor:
        skip = self.before(x)
        for layer in self.layers:
            x = layer(x, skip)
        return x.square().mean()


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
    "adding": (lambda: Stack([Adding(), Adding()]), "layers", [1]),
    "by_hand": (lambda: Stack([ByHand(), ByHand(), ByHand()]), "layers", [0, 2]),
    "fresh_moving": (lambda: Stack([FreshMoving(), FreshMoving()]), "layers", [0]),
    "by_shelf": (lambda: ByShelf([Block(), Block(), Block()]), "layers", [0, 1]),
    "stepping": (lambda: Stack([Stepping(), Stepping()]), None, []),
    "unflagging": (Unflagging, None, []),
    "affine": (lambda: Stack([Affine(), Affine()]), None, []),
    "overwriting": (lambda: Stack([Overwriting(), Overwriting()]), None, []),
    "overwriting_while": (lambda: Stack([OverwritingWhile(), OverwritingWhile()]), None, []),
    "crossing": (lambda: Stack([Crossing(), Crossing()]), None, []),
    "twisting": (lambda: Stack([Twisting(), Twisting()]), None, []),
    "activation_turned": (lambda: Stack([GeluTurned(), GeluTurned()]), None, []),
    "centring": (lambda: Stack([Centring(), Centring()]), None, []),
    "list_moving": (lambda: Stack([ListMoving(), ListMoving()]), None, []),
    "dict_moving": (lambda: Stack([DictMoving(), DictMoving()]), None, []),
    "chunk_moving": (lambda: Stack([ChunkMoving(), ChunkMoving()]), None, []),
    "kept_moving": (lambda: Stack([KeptMoving(), KeptMoving()]), None, []),
    "put_moving": (lambda: Stack([PutMoving(), PutMoving()]), None, []),
    "list_writing": (OfListWriting, None, []),
    "dict_listing": (OfDictListing, None, []),
    "tuple_listing": (OfTupleListing, None, []),
    "copying": (OfCopying, None, []),
    "storing": (OfStoring, None, []),
    "shelving": (OfShelving, None, []),
    "retyping": (lambda: Retyping([Float(), Float()]), None, []),
    "decoder": (Decoder, None, []),
    "noting": (OfNoting, None, []),
    "listing": (OfListing, None, []),
    "moving": (lambda: Stack([Moving(), Moving()]), None, []),
    "waiting": (lambda: Waiting([Block(), Block()]), None, []),
    "mixed": (lambda: Stack([Block(), Block(), Early(), Early()]), None, []),
    "nan_buffer": (masked, None, []),
    "random": (lambda: Random([Block(), Block()]), None, []),
}
