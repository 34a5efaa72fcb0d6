"""The other end of a benchmark: one line in, some timed calls, one line out.

A script of this folder makes what is to be timed and hands it to `serve`. The benchmark starts it with
as many threads as it uses itself, and asks for calls in turn with its own.
"""

import sys
import time

import torch


def serve(arms, about=f"PyTorch {torch.__version__}"):
    """Times what is asked for, until the benchmark closes the pipe.

    First writes `ready THREADS ABOUT`. Then, for each line `ARM COUNT` that it reads, calls `arms[ARM]()`
    COUNT times and writes the seconds of each call.
    """
    out = sys.stdout
    sys.stdout = sys.stderr  # what a library prints is no answer
    print(f"ready {torch.get_num_threads()} {about}", file=out, flush=True)
    for line in sys.stdin:
        name, count = line.split()
        seconds = []
        for _ in range(int(count)):
            began = time.perf_counter()
            arms[name]()
            seconds.append(time.perf_counter() - began)
        print(*seconds, file=out, flush=True)
