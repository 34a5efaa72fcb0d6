"""The examples' BERT under DistributedDataParallel: reads weights and every rank's batches, writes losses and weights.

Called as: ddp.py GIVEN.npz MADE.npz. Batches are `ids/STEP/RANK`, `masked/STEP/RANK` and `labels/STEP/RANK`; the losses
are the means over the ranks.
"""

import os
import socket
import sys
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

sys.path.insert(0, str(Path(__file__).parents[2] / "examples/peers"))
from bert import Bert

RANKS = 2


def ours(name):
    """The name of a parameter of theirs in the Rust model."""
    name = name.replace("tokens.weight", "tokens").replace("positions.weight", "positions")
    for part in ("query_key_value", "output"):
        name = name.replace(f".{part}.", f".attention.{part}.")
    return name


def run(rank, given_path, made_path, port):
    torch.set_num_threads(1)
    os.environ.update(MASTER_ADDR="127.0.0.1", MASTER_PORT=str(port))
    dist.init_process_group("gloo", rank=rank, world_size=RANKS)
    given = {name: torch.from_numpy(array) for name, array in np.load(given_path).items()}
    weights = {name.removeprefix("weights/"): t for name, t in given.items() if name.startswith("weights/")}
    vocabulary, hidden = weights["tokens"].shape
    layers = 1 + max(int(name.split(".")[1]) for name in weights if name.startswith("layers."))
    model = Bert(layers, hidden, 2, vocabulary, len(weights["positions"]), 0.0)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(weights[ours(name)])
    parallel = DistributedDataParallel(model)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, eps=1e-4, weight_decay=0.01)
    losses = []
    while f"ids/{len(losses)}/{rank}" in given:
        batch = [given[f"{what}/{len(losses)}/{rank}"].long() for what in ("ids", "masked", "labels")]
        optimizer.zero_grad()
        loss = parallel(*batch)
        loss.backward()
        optimizer.step()
        mean = loss.detach().double()
        dist.all_reduce(mean)
        losses.append(mean.item() / RANKS)
    if rank == 0:
        made = {ours(name): p.detach().numpy() for name, p in model.named_parameters()}
        np.savez(made_path, losses=np.array(losses), **made)
    dist.destroy_process_group()
    # A thread of libtorch that wants Python's lock while the interpreter shuts down ends the process in an abort.
    # All is written, so there is nothing to shut down.
    os._exit(0)


if __name__ == "__main__":
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    torch.multiprocessing.spawn(run, (*sys.argv[1:], port), nprocs=RANKS)
