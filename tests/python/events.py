"""What TensorBoard reads of event files, as JSON.

    events.py read FOLDER...    of each folder: its curves, texts, and what each file begins with
    events.py cut FILE          the number of events that are read of each beginning of the file
"""

import json
import sys
import tempfile
from pathlib import Path

from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.backend.event_processing.event_file_loader import EventFileLoader


def read(folder):
    everything = {"scalars": 0, "tensors": 0}
    seen = EventAccumulator(folder, size_guidance=everything).Reload()
    tags = seen.Tags()
    files = [list(EventFileLoader(str(file)).Load()) for file in sorted(Path(folder).glob("events.out.tfevents.*"))]
    return {
        "scalars": {tag: [[e.step, e.value] for e in seen.Scalars(tag)] for tag in tags["scalars"]},
        "texts": {
            tag: [e.tensor_proto.string_val[0].decode() for e in seen.Tensors(tag)]
            for tag in tags["tensors"]
            if seen.SummaryMetadata(tag).plugin_data.plugin_name == "text"
        },
        "files": [
            {
                "version": events[0].file_version,
                "start": events[1].session_log.status == 1 and events[1].step,
                "steps": [[value.tag, event.step] for event in events for value in event.summary.value],
            }
            for events in files
        ],
    }


def cut(file):
    whole = Path(file).read_bytes()
    with tempfile.TemporaryDirectory() as folder:
        part = Path(folder) / "events.out.tfevents.0000000001"
        for length in range(len(whole) + 1):
            part.write_bytes(whole[:length])
            yield sum(1 for _ in EventFileLoader(str(part)).Load())


if sys.argv[1] == "read":
    print(json.dumps([read(folder) for folder in sys.argv[2:]]))
else:
    print(json.dumps(list(cut(sys.argv[2]))))
