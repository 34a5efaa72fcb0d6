"""Training steps of the examples' BERT in DistributedDataParallel on Gloo, on one of the ranks that a launcher's
variables name: called as ddp_step.py PRECISION BATCH TIME SIZES, the last in JSON."""

import json
import sys

import torch
import torch.distributed as dist
from bert import Step
from peer import serve
from torch.nn.parallel import DistributedDataParallel

precision, batch, time, sizes = sys.argv[1:]
dist.init_process_group("gloo")
step = Step(json.loads(sizes), int(batch), int(time), precision)
step.model = DistributedDataParallel(step.model, gradient_as_bucket_view=True)
serve({"step": step}, f"PyTorch {torch.__version__}'s DDP")
