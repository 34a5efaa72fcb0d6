"""Training steps of the examples' BERT: called as bert_step.py PRECISION BATCH TIME SIZES, the last in JSON."""

import json
import sys

from bert import Step
from peer import serve

precision, batch, time, sizes = sys.argv[1:]
serve({"step": Step(json.loads(sizes), int(batch), int(time), precision)})
