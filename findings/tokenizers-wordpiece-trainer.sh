#!/usr/bin/env bash
# tokenizers 0.23.2 (Python): training WordPiece on the same text gives another vocabulary in every
# process, on one thread too. Pairs that are equally frequent are merged in the order of a hash map
# with a random seed. The BPE trainer, which WordPiece's trainer calls, gives the same tokens and ids
# each time.
# A good guess: that one text and one setting give one vocabulary, at least on one thread.
# The way out: keep the vocabulary that was trained as a file, or train BPE.
# Seen on 2026-11-30, vocabularies among 8 processes: WordPiece more than 1, BPE 1.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" -q install tokenizers==0.23.2
cat >"$folder/train.py" <<'PY'
import hashlib
import random
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

random.seed(1)
letter = lambda: random.choice("abcdefgh")
words = ["".join(letter() for _ in range(random.randint(2, 7))) for _ in range(3000)]
text = [" ".join(random.choice(words) for _ in range(40)) for _ in range(500)]
options = dict(vocab_size=2000, special_tokens=["[UNK]"], show_progress=False)
kinds = {
    "WordPiece": (models.WordPiece(unk_token="[UNK]"), trainers.WordPieceTrainer(**options)),
    "BPE": (models.BPE(unk_token="[UNK]"), trainers.BpeTrainer(**options)),
}
for name, (model, trainer) in kinds.items():
    tokenizer = Tokenizer(model)
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.train_from_iterator(text, trainer)
    vocabulary = sorted(tokenizer.get_vocab().items())
    print(name, hashlib.sha256(repr(vocabulary).encode()).hexdigest())
PY
for _ in 1 2 3 4 5 6 7 8; do
    RAYON_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false "$folder/venv/bin/python" "$folder/train.py"
done >"$folder/seen"
count() { grep "^$1 " "$folder/seen" | sort -u | wc -l; }
echo "vocabularies among 8 processes: WordPiece $(count WordPiece), BPE $(count BPE)"
[ "$(count WordPiece)" -gt 1 ] && [ "$(count BPE)" -eq 1 ]
