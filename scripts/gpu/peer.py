"""Times training steps of the BERT in PyTorch eager, as gpu_step does ours.

Called by scripts/gpu/run.py as: peer.py STEPS WARM_UP BATCH TIME [bf16] [rehearse].
Prints one line of JSON.
"""

import json
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "target" / "gpu"))
from bert import Step

steps, warm_up, batch, length = map(int, sys.argv[1:5])
rehearse = "rehearse" in sys.argv[5:]
width, heads, vocabulary = (16, 4, 100) if rehearse else (768, 12, 30522)
sizes = {"layers": 12, "hidden": width, "heads": heads, "vocabulary": vocabulary}
sizes |= {"max_positions": 512, "dropout": 0.1}
precision = "bf16" if "bf16" in sys.argv[5:] else "fp32"
step = Step(sizes, batch, length, precision, "cpu" if rehearse else "cuda")

for _ in range(warm_up):
    step()
milliseconds = []
for _ in range(steps):
    began = time.perf_counter()
    loss = step()
    milliseconds.append(1e3 * (time.perf_counter() - began))
print(json.dumps({"milliseconds": milliseconds, "loss": loss}))
