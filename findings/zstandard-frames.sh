#!/usr/bin/env bash
# zstandard 0.25.0 (Python): a file of two frames, as `cat a.zst b.zst` makes one, is read to its end
# by `open` and by `stream_reader().read()`, but `decompress` and `read_to_iter` of the same object stop
# behind the first frame, without a word. `zstd -d` and Python's gzip read all members.
# A good guess: that all readers of one library read the same bytes, or that what is left over is told.
# A corpus put together from shards loses all but its first one this way.
# Seen on 2026-11-30:
#   open: 2 frames
#   stream_reader: 2 frames
#   decompress: 1 frame
#   read_to_iter: 1 frame
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install zstandard==0.25.0
"$folder/venv/bin/python" - <<'PY' | tee "$folder/seen"
import io
import zstandard

compressor = zstandard.ZstdCompressor()
both = compressor.compress(b"frame\n") + compressor.compress(b"frame\n")
reader = zstandard.ZstdDecompressor
ways = {
    "open": lambda: zstandard.open(io.BytesIO(both), "rb").read(),
    "stream_reader": lambda: reader().stream_reader(io.BytesIO(both)).read(),
    "decompress": lambda: reader().decompress(both),
    "read_to_iter": lambda: b"".join(reader().read_to_iter(io.BytesIO(both))),
}
for name, read in ways.items():
    frames = read().count(b"\n")
    print(f"{name}: {frames} frame{'s' if frames > 1 else ''}")
PY
diff "$folder/seen" - <<'END'
open: 2 frames
stream_reader: 2 frames
decompress: 1 frame
read_to_iter: 1 frame
END
